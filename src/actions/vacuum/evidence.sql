-- Whether it happened: the times that PostgreSQL keeps have moved, for every partition. $1 oid, $2 not before.
SELECT bool_and(COALESCE(pg_stat_get_last_vacuum_time(l.oid), '-infinity') >= $2::text::timestamptz) AS vacuumed,
       bool_and(COALESCE(pg_stat_get_last_analyze_time(l.oid), '-infinity') >= $2::text::timestamptz) AS analyzed,
       COALESCE(sum(pg_stat_get_dead_tuples(l.oid)), 0)::int8 AS dead
FROM pg_class c
CROSS JOIN LATERAL (
  SELECT c.oid WHERE c.relkind <> 'p'
  UNION ALL SELECT relid FROM pg_partition_tree(c.oid) WHERE c.relkind = 'p' AND isleaf
) l
WHERE c.oid = $1::int8::oid
HAVING count(*) > 0
