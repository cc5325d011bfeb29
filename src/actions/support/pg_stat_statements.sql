-- State of pg_stat_statements in this database.
SELECT e.extversion AS version, x.default_version AS available, quote_ident(n.nspname) AS schema,
       -- A setting of the extension exists only while the server has loaded its library.
       EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max') AS loaded,
       -- NULL where the login may not see it.
       (SELECT pending_restart FROM pg_settings WHERE name = 'shared_preload_libraries') AS waits_for_restart,
       -- Azure's list of what may be made; NULL elsewhere.
       string_to_array(replace(lower(current_setting('azure.extensions', true)), ' ', ''), ',') AS allowed
FROM (SELECT 'pg_stat_statements'::name AS name) s
LEFT JOIN pg_extension e ON e.extname = s.name
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_available_extensions x ON x.name = s.name
