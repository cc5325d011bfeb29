-- The indexes of a table, or behind an index, partitions included, the smallest first; without the leftovers of an interrupted
-- REINDEX. $1 oid.
WITH asked AS (
  SELECT $1::int8::oid AS oid
  UNION SELECT relid FROM pg_class c CROSS JOIN LATERAL pg_partition_tree(c.oid) WHERE c.oid = $1::int8::oid AND c.relkind IN ('p', 'I')
)
SELECT format('%I.%I', n.nspname, c.relname) AS relation, c.oid::int8 AS oid, pg_relation_size(c.oid) AS bytes,
       format('%I.%I', tn.nspname, t.relname) AS "table", t.oid::int8 AS table_oid
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE c.relkind = 'i' AND (i.indexrelid IN (SELECT oid FROM asked) OR i.indrelid IN (SELECT oid FROM asked))
  AND (i.indisvalid OR c.relname !~ '_cc(new|old)[0-9]*$')
ORDER BY 3, 1
