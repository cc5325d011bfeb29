-- Tables and indexes of the kinds $2, as the login that will work on them sees them. $1 name as typed, or NULL for all. Exact
-- matches come first.
SELECT format('%I.%I', n.nspname, c.relname) AS relation, c.relname::text AS name, n.nspname::text AS schema, c.oid::int8 AS oid, c.relkind::text AS kind,
       t.typed IN (c.relname::text, n.nspname || '.' || c.relname, quote_ident(c.relname), format('%I.%I', n.nspname, c.relname)) AS exact,
       pg_get_userbyid(c.relowner)::text AS owner,
       -- Before 17 the owner alone may; the database's owner may not.
       has_schema_privilege(n.oid, 'USAGE') AND (pg_has_role(c.relowner, 'USAGE')
         OR CASE WHEN current_setting('server_version_num')::int >= 170000
                 THEN has_table_privilege(COALESCE(i.indrelid, c.oid),
                        CASE WHEN current_setting('server_version_num')::int >= 170000 THEN 'MAINTAIN' ELSE 'SELECT' END)
                 ELSE false END) AS may,
       greatest(c.relpages, 0)::int8 * current_setting('block_size')::int8 AS est_bytes, 0::int8 AS dead
FROM (SELECT $1::text AS typed) t, pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relkind::text = ANY ($2::text[]) AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  -- Case and quotes are left out, with the letters of the database's own locale: a name's own collation knows ASCII only.
  AND (t.typed IS NULL OR lower(replace(t.typed, '"', '')) IN (lower(replace(c.relname, '"', '') COLLATE "default"),
                                                               lower(replace(n.nspname || '.' || c.relname, '"', '') COLLATE "default")))
ORDER BY exact DESC, 1
