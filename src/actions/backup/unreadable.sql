-- What this login may not read of all that pg_dump reads, and the language of what it is told: the setting that its sessions begin with.
SELECT (SELECT reset_val FROM pg_settings WHERE name = 'lc_messages') AS lc_messages,
       count(*) AS relations, min(format('%I.%I', n.nspname, c.relname)) AS first,
       current_setting('server_version_num')::int >= 140000 AS has_pg_read_all_data
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT (has_schema_privilege(n.oid, 'USAGE')
           AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END)
  -- An extension makes its own again.
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
