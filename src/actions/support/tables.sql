-- Tables that VACUUM and ANALYZE take, as the login that will run them sees them; a partitioned one represents its partitions.
-- $1 name as typed, or NULL for all, $2 kinds as in pg_class.relkind. Exact matches come first.
SELECT format('%I.%I', n.nspname, c.relname) AS relation, c.relname::text AS name, n.nspname::text AS schema, c.oid::int8 AS oid, c.relkind::text AS kind,
       t.typed IN (c.relname::text, n.nspname || '.' || c.relname, quote_ident(c.relname), format('%I.%I', n.nspname, c.relname)) AS exact,
       pg_get_userbyid(c.relowner)::text AS owner,
       -- Anybody else's VACUUM is skipped with a WARNING, and still "succeeds".
       has_schema_privilege(n.oid, 'USAGE') AND (pg_has_role(c.relowner, 'USAGE')
         OR pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')
         OR CASE WHEN current_setting('server_version_num')::int >= 170000
                 THEN has_table_privilege(c.oid, CASE WHEN current_setting('server_version_num')::int >= 170000 THEN 'MAINTAIN' ELSE 'SELECT' END)
                 ELSE false END) AS may,
       l.pages * current_setting('block_size')::int8 AS est_bytes, l.dead
FROM (SELECT $1::text AS typed) t, pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT greatest(c.relpages, 0)::int8 AS pages, COALESCE(pg_stat_get_dead_tuples(c.oid), 0)::int8 AS dead WHERE c.relkind <> 'p'
  UNION ALL
  -- Each leaf is looked up by its oid: a join would read pg_class once for each partitioned table.
  SELECT COALESCE(sum((SELECT greatest(leaf.relpages, 0) FROM pg_class leaf WHERE leaf.oid = tree.relid)), 0)::int8,
         COALESCE(sum(pg_stat_get_dead_tuples(tree.relid)), 0)::int8
  FROM pg_partition_tree(c.oid) tree WHERE c.relkind = 'p' AND tree.isleaf HAVING c.relkind = 'p'
) l
WHERE c.relkind::text = ANY ($2::text[]) AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  -- Case and quotes are left out, with the letters of the database's own locale: a name's own collation knows ASCII only.
  AND CASE WHEN t.typed IS NULL THEN NOT c.relispartition
           ELSE lower(replace(t.typed, '"', '')) IN (lower(replace(c.relname, '"', '') COLLATE "default"),
                                                     lower(replace(n.nspname || '.' || c.relname, '"', '') COLLATE "default")) END
ORDER BY exact DESC, 1
