-- The sequences that are used most, the first of each database numbered 1: each with the limit that it meets first, its own or that of the
-- narrowest column that takes its numbers. Those that could not be read are counted beside all of them.
WITH RECURSIVE busy AS (
  SELECT DISTINCT l.relation FROM pg_locks l
  WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') AND l.relation IS NOT NULL
), takers AS (
  -- the column that owns it, those that have it as their default, and those that reference one of these
  SELECT d.objid AS sequence, d.refobjid AS "table", d.refobjsubid::int AS attnum, false AS referencing FROM pg_depend d
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
  UNION
  SELECT d.refobjid, f.adrelid, f.adnum, false FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
  WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
  UNION
  SELECT t.sequence, k.conrelid, k.attnum, true
  FROM takers t JOIN (SELECT f.conrelid, f.confrelid, u.attnum::int, u.parent FROM pg_constraint f, unnest(f.conkey, f.confkey) u (attnum, parent)
                      WHERE f.contype = 'f') k ON k.confrelid = t."table" AND k.parent = t.attnum
), types AS ( -- a domain ends where its base type does
  SELECT oid AS type, CASE WHEN typtype = 'd' THEN typbasetype ELSE oid END AS base, NULLIF(typtypmod, -1) AS typmod, typtype = 'd' AS is_domain FROM pg_type
  UNION ALL
  SELECT y.type, d.typbasetype, COALESCE(y.typmod, NULLIF(d.typtypmod, -1)), true
  FROM types y JOIN pg_type d ON d.oid = y.base WHERE y.is_domain AND d.typtype = 'd'
), columns AS (
  SELECT t.sequence, t.referencing,
         format('%s%I.%I', CASE WHEN n.nspname <> 'public' THEN quote_ident(n.nspname) || '.' ELSE '' END, c.relname, a.attname) AS name,
         CASE y.base WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 WHEN 'int8'::regtype THEN 9223372036854775807
                     WHEN 'oid'::regtype THEN 4294967295
                     -- numeric(p, s) has p - s digits before its point
                     WHEN 'numeric'::regtype THEN 10::numeric ^ (((m.typmod - 4) >> 16) & 65535) / 10::numeric ^ ((((m.typmod - 4) & 2047) # 1024) - 1024) - 1
         END AS most, y.base IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS signed
  FROM (SELECT sequence, "table", attnum, bool_and(referencing) AS referencing FROM takers GROUP BY 1, 2, 3) t
  JOIN pg_attribute a ON a.attrelid = t."table" AND a.attnum = t.attnum AND NOT a.attisdropped
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN types y ON y.type = a.atttypid AND NOT EXISTS (SELECT FROM pg_type d WHERE d.oid = y.base AND d.typtype = 'd')
  CROSS JOIN LATERAL (SELECT COALESCE(y.typmod, NULLIF(a.atttypmod, -1)) AS typmod) m
  -- A partition has its parent's default.
  WHERE NOT c.relispartition
), narrowest AS (
  SELECT *, min(most) OVER (PARTITION BY sequence) AS least, min(most) FILTER (WHERE NOT referencing) OVER (PARTITION BY sequence) AS own
  FROM columns
), used_by AS (
  SELECT sequence, string_agg(name, ', ' ORDER BY name) FILTER (WHERE NOT referencing OR most = least AND most < own) AS names,
         COALESCE(string_agg(name, ', ' ORDER BY name) FILTER (WHERE NOT referencing AND most = least),
                  string_agg(name, ', ' ORDER BY name) FILTER (WHERE most = least)) AS narrow,
         bool_and(referencing) FILTER (WHERE most = least) AS child, min(most) AS most, max(-most - signed::int) AS bottom
  FROM narrowest GROUP BY sequence
), found AS (
  SELECT CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS sequence,
         o.names AS column, o.narrow, o.child, q.seqcycle AS cycles, has_sequence_privilege(c.oid, 'SELECT,USAGE') AS allowed,
         b.relation IS NOT NULL AS locked, c.relpersistence = 'u' AND pg_is_in_recovery() AS elsewhere,
         q.seqincrement::numeric AS step, q.seqstart::numeric AS start, q.seqmin::numeric AS least, q.seqmax::numeric AS greatest,
         COALESCE(CASE WHEN q.seqincrement > 0 THEN o.most < q.seqmax ELSE o.bottom > q.seqmin END, false) AS by_column,
         CASE WHEN q.seqincrement > 0 THEN least(q.seqmax, o.most) ELSE greatest(q.seqmin, o.bottom) END AS limit,
         CASE WHEN has_sequence_privilege(c.oid, 'SELECT,USAGE') AND b.relation IS NULL
                   AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
              THEN pg_sequence_last_value(c.oid)::numeric END AS last
  FROM pg_sequence q JOIN pg_class c ON c.oid = q.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN used_by o ON o.sequence = c.oid LEFT JOIN busy b ON b.relation = c.oid
  WHERE n.nspname !~ '^pg_'
), counted AS (
  -- in steps: from its start, or from the end of its range if it was set back behind that
  SELECT *, CASE WHEN last IS NOT NULL THEN greatest(floor(("limit" - last) / step), 0) END AS left_over,
         floor((last - CASE WHEN (last - start) * step >= 0 THEN start WHEN step > 0 THEN least ELSE greatest END) / step) + 1 AS taken
  FROM found
), judged AS (
  SELECT *, (100 * taken / NULLIF(taken + left_over, 0))::float8 AS used_pct FROM counted
), ranked AS (
  SELECT *, row_number() OVER (ORDER BY CASE WHEN NOT cycles THEN used_pct END DESC NULLS LAST, allowed, sequence) AS nth,
         count(*) FILTER (WHERE NOT allowed) OVER () AS hidden, count(*) FILTER (WHERE locked AND allowed) OVER () AS unread, count(*) OVER () AS sequences
  FROM judged
)
SELECT sequence, "column", narrow, child, cycles, allowed, locked, elsewhere, by_column, last, left_over, used_pct, nth, hidden, unread, sequences,
       CASE WHEN NOT allowed THEN -1 WHEN used_pct IS NULL OR cycles THEN -2 ELSE used_pct END AS rank
FROM ranked ORDER BY rank DESC, sequence LIMIT 20
