-- Prisma's migration tables of a database, each with its rows unless it may not be read. One statement checks and reads, so that a table
-- that passed has next to no time to change before it is read.
WITH found AS (
  SELECT format('%I.%I', n.nspname, c.relname) AS name,
         has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS permitted,
         -- Prisma's table has none of these, which could run code of their owner as this login while the table is read: types' casts to
         -- JSON, and functions in expressions, which the planner computes where they are constant.
         c.relkind = 'p' OR row_security_active(c.oid)
           OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND (a.atttypid >= 16384 OR a.attgenerated <> ''))
           OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
           OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')
           OR EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)
           OR EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhparent, h.inhrelid)) AS altered
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname = '_prisma_migrations' AND c.relkind IN ('r', 'p')
)
SELECT f.name, f.permitted, f.altered,
       -- A table that may be missing can't be named here: the statement is built once the table is known to exist and to be readable.
       CASE WHEN f.permitted AND NOT f.altered
            THEN convert_from(decode(substring(query_to_xml(format($$
                   SELECT encode(convert_to(COALESCE(json_agg(m), '[]')::text, 'UTF8'), 'hex') AS hex
                   FROM (SELECT migration_name, checksum, started_at, finished_at, rolled_back_at, applied_steps_count AS steps,
                                logs IS NOT NULL AS logged, substring(logs FROM 'Database error code: ([0-9A-Z]{5})') AS code FROM %s) m
                 $$, f.name), true, true, '')::text FROM '<hex>([0-9a-f]*)</hex>'), 'hex'), 'UTF8')::json END AS entries
FROM found f
