-- Prisma's ledger of a schema. $1 the schema. A table that may be missing can't be named in a statement: its rows are read by one
-- that is made once it is known to be there and readable.
WITH ledger AS (
  SELECT format('%I.%I', n.nspname, c.relname) AS name,
         has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
         -- Prisma's table has none of these, which could run code of their owner as this login while the table is read: types' casts to
         -- JSON, and functions in expressions, which the planner computes where they are constant.
         c.relkind = 'p' OR row_security_active(c.oid)
           OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND (a.atttypid >= 16384 OR a.attgenerated <> ''))
           OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
           OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')
           OR EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)
           OR EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhparent, h.inhrelid)) AS altered
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname = '_prisma_migrations' AND c.relkind IN ('r', 'p') AND n.nspname = $1
)
SELECT l.name, l.readable, l.altered,
       CASE WHEN l.readable AND NOT l.altered THEN substring(query_to_xml(format($$
         SELECT encode(convert_to(COALESCE(json_agg(m ORDER BY m.started_at, m.id), '[]')::text, 'UTF8'), 'hex') AS hex
         FROM (SELECT id, migration_name, checksum, started_at, finished_at, rolled_back_at, logs FROM %s) m
       $$, l.name), true, true, '')::text FROM '<hex>([0-9a-f]*)</hex>') END AS hex
FROM ledger l
