-- A service's database, seen by the reader.
SELECT quote_ident(current_user) AS role,
       -- PostgreSQL shows the widths of a table's columns to roles with SELECT on them, where row security does not stand in the way. What
       -- lets the reader measure such tables, or NULL where it can or there are none.
       CASE WHEN EXISTS (SELECT FROM pg_class c
                         WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
                           AND (row_security_active(c.oid) OR NOT has_table_privilege(c.oid, 'SELECT') AND NOT has_any_column_privilege(c.oid, 'SELECT')))
            THEN NULLIF(COALESCE((SELECT concat_ws('; ', CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE')
                                                       THEN format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user) END,
                                            CASE WHEN NOT has_function_privilege(p.oid, 'EXECUTE')
                                                 THEN format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, current_user) END) || ';'
                           FROM pg_extension e
                           JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass
                           JOIN pg_proc p ON p.oid = d.objid AND p.proname = 'pgstattuple_approx' AND p.proargtypes::text = '2205'
                           JOIN pg_namespace n ON n.oid = p.pronamespace
                           WHERE e.extname = 'pgstattuple'),
                          (SELECT 'CREATE EXTENSION pgstattuple WITH SCHEMA public;' FROM pg_available_extensions WHERE name = 'pgstattuple'),
                          'Install PostgreSQL''s package of additional modules (contrib) on the server, which has pgstattuple.'), ';') END AS measurement_fix,
       (SELECT min(c.oid::regclass::text)
        FROM pg_class c
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
          AND has_schema_privilege(c.relnamespace, 'USAGE')
          AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR pg_has_role(c.relowner, 'MEMBER'))
       ) AS writable_table
