-- Tables that VACUUM and ANALYZE take, as the login that will run them sees them; a partitioned one represents its partitions.
-- $1 name as typed, or NULL for all. Exact matches come first.
SELECT format('%I.%I', n.nspname, c.relname) AS relation, c.relname::text AS name, c.oid::int8 AS oid, c.relkind::text AS kind,
       t.typed IN (c.relname::text, n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname)) AS exact,
       pg_get_userbyid(c.relowner)::text AS owner,
       -- Anybody else's VACUUM is skipped with a WARNING, and still "succeeds".
       pg_has_role(c.relowner, 'USAGE')
         OR pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')
         OR CASE WHEN current_setting('server_version_num')::int >= 170000
                 THEN has_table_privilege(c.oid, CASE WHEN current_setting('server_version_num')::int >= 170000 THEN 'MAINTAIN' ELSE 'SELECT' END)
                 ELSE false END AS may,
       (sum(l.relpages::int8) * current_setting('block_size')::int8)::int8 AS est_bytes,
       COALESCE(sum(pg_stat_get_dead_tuples(l.oid)), 0)::int8 AS dead
FROM (SELECT $1::text AS typed) t, pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT leaf.oid, leaf.relpages FROM pg_class leaf
  WHERE leaf.oid = c.oid AND c.relkind <> 'p'
     OR c.relkind = 'p' AND leaf.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)
) l
WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND CASE WHEN t.typed IS NULL THEN NOT c.relispartition
           ELSE lower(t.typed) IN (lower(c.relname), lower(n.nspname || '.' || c.relname), lower(format('%I.%I', n.nspname, c.relname)),
                                   lower(quote_ident(c.relname))) END
GROUP BY n.nspname, c.relname, c.oid, t.typed, c.relowner, c.relkind
ORDER BY exact DESC, 1
