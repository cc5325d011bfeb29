-- State of pg_stat_statements in this database, and whether this login may create it.
SELECT e.extversion AS version, x.default_version AS available, quote_ident(n.nspname) AS schema, quote_ident(current_user) AS role,
       -- Statements that let this login read it; NULL where it may, and where there is none.
       NULLIF(concat_ws('; ', CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user) END,
                              CASE WHEN NOT has_function_privilege(p.oid, 'EXECUTE')
                                   THEN format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, current_user) END), '') AS grants,
       -- A setting of the extension exists only while the server has loaded its library.
       EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max') AS loaded,
       -- NULL where the login may not see it.
       (SELECT pending_restart FROM pg_settings WHERE name = 'shared_preload_libraries') AS waits_for_restart,
       -- Azure's list of what may be made; NULL elsewhere.
       string_to_array(replace(lower(current_setting('azure.extensions', true)), ' ', ''), ',') AS allowed,
       CASE WHEN current_setting('azure.extensions', true) IS NOT NULL
            THEN COALESCE((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'azure_pg_admin'), false)
            WHEN v.superuser AND NOT v.trusted THEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            ELSE has_database_privilege(current_database(), 'CREATE') END AS may
FROM (SELECT 'pg_stat_statements'::name AS name) s
LEFT JOIN pg_extension e ON e.extname = s.name
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = s.name AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e')
LEFT JOIN pg_available_extensions x ON x.name = s.name
LEFT JOIN pg_available_extension_versions v ON v.name = s.name AND v.version = x.default_version
