-- The expressions of a table ($1, oid) that the planner of any query of it reads, by the index or the statistics that has them. Checks and
-- partition keys are not among them, since constraint_exclusion is pinned; defaults and generated columns are for INSERT and UPDATE.
SELECT part.object, part.tree
FROM (SELECT format('index %s', i.indexrelid::regclass) AS object, e.tree
      FROM pg_index i, LATERAL (VALUES (i.indexprs::text), (i.indpred::text)) AS e (tree) WHERE i.indrelid = $1::int8::oid
      UNION ALL
      -- Since 14.
      SELECT format('statistics %I.%I', n.nspname, s.stxname), to_jsonb(s) ->> 'stxexprs'
      FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = $1::int8::oid) AS part
WHERE part.tree IS NOT NULL
ORDER BY 1
