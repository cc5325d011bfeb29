-- Which of the calls in $1 (JSON) the planner would make with functions that are somebody's own: those in C are a superuser's. It computes a
-- call whose arguments are constant, adds the defaults of arguments that aren't given, and replaces a function in SQL by its text, unless
-- that has an owner or settings of its own.
SELECT c.object, string_agg(DISTINCT p.oid::regprocedure::text, ', ') AS functions
FROM jsonb_to_recordset($1::text::jsonb) AS c (object text, function int8, operator int8, may_be_constant bool)
LEFT JOIN pg_operator o ON o.oid = c.operator::oid
JOIN pg_proc p ON p.oid = CASE WHEN c.operator <> 0 THEN o.oprcode::oid ELSE c.function::oid END
JOIN pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
  AND (c.may_be_constant OR p.pronargdefaults > 0 OR l.lanname = 'sql' AND NOT p.prosecdef AND p.proconfig IS NULL)
GROUP BY c.object
ORDER BY c.object
