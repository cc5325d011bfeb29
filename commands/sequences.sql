/*
summary = "Sequences, and how much of their range is used"
group = "databases"
risk = "read"
scope = "database"
args = [{ name = "service", type = "service", positional = true, help = "one service; all services if omitted" }]
example = "sequences asset-service"
details = "The limit is the sequence's own maximum or that of the column that uses it, whichever is smaller: an integer column ends at 2,147,483,647 even if its sequence goes further. At the limit every insert fails, unless the sequence cycles. Changing a column to bigint rewrites its table and blocks reads and writes meanwhile, so plan it."
sort = "_rank"
top = 15
verdict_empty = "No sequences found."
verdict = "{_says}"
rows_severity = "ok"
next = "Plan a migration in time: change {column}, its sequence and every column that references it to bigint."
row_action_if = "_next"

[thresholds]
used_pct = { warning = 75, critical = 90, message = "" }
_used_pct = { warning = 75, critical = 90, message = "{target}: {sequence} has used {value} of its range; {left} numbers are left." }
_hidden = { warning = 1, message = "{target}: Countersign's reader may not read {_sequences}: grant it SELECT on them." }

[on_error]
55P03 = "had a sequence locked while it was being read: try again"
*/
WITH busy AS (
  SELECT DISTINCT l.relation FROM pg_locks l
  WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') AND l.relation IS NOT NULL
), takers AS (
  -- the column that owns it, and those that have it as their default
  SELECT d.objid AS sequence, d.refobjid AS "table", d.refobjsubid AS attnum FROM pg_depend d
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
  UNION
  SELECT d.refobjid, f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
  WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
), columns AS (
  SELECT t.sequence,
         string_agg(format('%s%I.%I', CASE WHEN n.nspname <> 'public' THEN quote_ident(n.nspname) || '.' ELSE '' END, c.relname, a.attname),
                    ', ' ORDER BY n.nspname, c.relname, a.attname) AS names,
         min(CASE a.atttypid WHEN 'int2'::regtype THEN 32767::bigint WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END) AS most
  FROM takers t JOIN pg_attribute a ON a.attrelid = t."table" AND a.attnum = t.attnum
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  -- A partition has its parent's default.
  WHERE NOT c.relispartition GROUP BY t.sequence
), found AS (
  SELECT CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS sequence,
         o.names AS column, q.seqcycle AS cycles, has_sequence_privilege(c.oid, 'SELECT,USAGE') AS allowed, b.relation IS NOT NULL AS locked,
         c.relpersistence = 'u' AND pg_is_in_recovery() AS elsewhere,
         -- how far it is from 0 to its limit, up or down
         CASE WHEN q.seqincrement > 0 THEN least(q.seqmax, COALESCE(o.most, q.seqmax))::numeric
              ELSE -greatest(q.seqmin, COALESCE(-o.most - 1, q.seqmin))::numeric END AS most,
         CASE WHEN has_sequence_privilege(c.oid, 'SELECT,USAGE') AND b.relation IS NULL
                   AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
              THEN sign(q.seqincrement::numeric) * pg_sequence_last_value(c.oid)::numeric END AS last
  FROM pg_sequence q JOIN pg_class c ON c.oid = q.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN columns o ON o.sequence = c.oid LEFT JOIN busy b ON b.relation = c.oid
  WHERE n.nspname !~ '^pg_'
), judged AS (
  SELECT *, (100 * last / NULLIF(most, 0))::float8 AS used_pct FROM found
), ranked AS (
  SELECT *, row_number() OVER (ORDER BY CASE WHEN NOT cycles THEN used_pct END DESC NULLS LAST, allowed, sequence) AS nth,
         count(*) FILTER (WHERE NOT allowed) OVER () AS hidden, count(*) OVER () AS sequences
  FROM judged
)
SELECT sequence, used_pct, left_over.left, "column",
       CASE WHEN NOT allowed THEN 'no privilege' WHEN locked THEN 'locked by another session'
            WHEN elsewhere THEN 'unlogged: not on a replica' WHEN cycles THEN 'cycles'
            WHEN last IS NULL THEN 'never used' END AS note,
       CASE WHEN nth = 1 AND NOT cycles THEN used_pct END AS _used_pct,
       CASE WHEN nth = 1 THEN NULLIF(hidden, 0) END AS _hidden, hidden || ' of ' || sequences || ' sequences' AS _sequences,
       CASE WHEN used_pct IS NULL THEN 'No readable sequence has been used yet.'
            ELSE 'No sequence is near its limit: ' || sequence || ' is the closest, with ' || round(used_pct) || ' % used.' END AS _says,
       used_pct >= 75 AND NOT cycles AND most = 2147483647 AND "column" IS NOT NULL AS _next,
       CASE WHEN NOT allowed THEN -1 WHEN used_pct IS NULL OR cycles THEN -2 ELSE used_pct END AS _rank
FROM ranked CROSS JOIN LATERAL (SELECT CASE WHEN NOT cycles AND last IS NOT NULL
                                                    THEN least(greatest(most - last, 0), 9223372036854775807)::bigint END AS left) left_over
ORDER BY _rank DESC, sequence LIMIT 20
