-- One digest of all that PostgreSQL knows of a database and its server besides rows: what is there, whose it is, who may what,
-- how far the sequences are, and how often somebody vacuumed or analyzed.
WITH line AS (
  SELECT concat_ws(' ', 'class', c.oid, c.relnamespace, c.relname, c.relkind, c.relowner, c.relacl::text, c.reloptions::text,
                   c.relfilenode, c.relpersistence, c.relrowsecurity, c.relreplident, pg_get_viewdef(v.oid)) AS line
  FROM pg_class c LEFT JOIN pg_class v ON v.oid = c.oid AND v.relkind IN ('v', 'm') WHERE c.relnamespace::regnamespace::text !~ '^pg_(toast_)?temp'
  UNION ALL
  SELECT concat_ws(' ', 'attribute', attrelid, attnum, attname, atttypid, atttypmod, attnotnull, attisdropped, attstattarget, attacl::text,
                   attoptions::text, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
  FROM pg_attribute
  UNION ALL SELECT concat_ws(' ', 'index', indexrelid, pg_get_indexdef(indexrelid), indisvalid, indisready, indislive, indisclustered) FROM pg_index
  UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, conrelid, convalidated, pg_get_constraintdef(oid)) FROM pg_constraint
  UNION ALL SELECT concat_ws(' ', 'function', oid, proname, pronamespace, proowner, prosecdef, proacl::text, proconfig::text, md5(prosrc)) FROM pg_proc
  UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgrelid, tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger
  UNION ALL SELECT concat_ws(' ', 'extension', oid, extname, extversion, extowner) FROM pg_extension
  UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname, nspowner, nspacl::text) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
  UNION ALL SELECT concat_ws(' ', 'type', oid, typname, typowner, typacl::text) FROM pg_type WHERE typnamespace::regnamespace::text !~ '^pg_(toast_)?temp'
  UNION ALL SELECT concat_ws(' ', 'default', oid, defaclrole, defaclnamespace, defaclacl::text) FROM pg_default_acl
  UNION ALL SELECT concat_ws(' ', 'policy', oid, polname, polrelid) FROM pg_policy
  UNION ALL SELECT concat_ws(' ', 'comment', objoid, classoid, objsubid, description) FROM pg_description
  UNION ALL SELECT concat_ws(' ', 'sequence', schemaname, sequencename, last_value, increment_by) FROM pg_sequences
  UNION ALL SELECT concat_ws(' ', 'upkeep', relid, vacuum_count, analyze_count) FROM pg_stat_user_tables
  UNION ALL SELECT concat_ws(' ', 'database', oid, datname, datdba, datacl::text) FROM pg_database
  UNION ALL SELECT concat_ws(' ', 'role', a::text) FROM pg_authid a
  UNION ALL SELECT concat_ws(' ', 'member', m.roleid, m.member, m.admin_option) FROM pg_auth_members m
  UNION ALL SELECT concat_ws(' ', 'setting', s::text) FROM pg_db_role_setting s
)
SELECT count(*) || ' ' || md5(string_agg(line, E'\n' ORDER BY line COLLATE "C")) FROM line
