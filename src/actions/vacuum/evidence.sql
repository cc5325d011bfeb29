-- Whether it happened: the times that PostgreSQL keeps have moved, for every partition but foreign ones. $1 oid, $2 not before.
SELECT COALESCE(bool_and(COALESCE(pg_stat_get_last_vacuum_time(l.oid), '-infinity') >= $2::text::timestamptz) FILTER (WHERE l.oid IS NOT NULL), true) AS vacuumed,
       COALESCE(bool_and(COALESCE(pg_stat_get_last_analyze_time(l.oid), '-infinity') >= $2::text::timestamptz) FILTER (WHERE l.oid IS NOT NULL), true) AS analyzed,
       COALESCE(sum(pg_stat_get_dead_tuples(l.oid)), 0)::int8 AS dead
FROM pg_class c
LEFT JOIN LATERAL (
  SELECT c.oid WHERE c.relkind <> 'p'
  UNION ALL
  SELECT relid FROM pg_partition_tree(c.oid)
  WHERE c.relkind = 'p' AND isleaf AND (SELECT leaf.relkind FROM pg_class leaf WHERE leaf.oid = relid) NOT IN ('f', 'p')
) l ON true
WHERE c.oid = $1::int8::oid
GROUP BY c.oid
