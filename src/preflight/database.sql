-- A service's database, seen by the reader. $1: the roles of the other logins.
SELECT quote_ident(current_database()) AS database,
       quote_ident(current_user) AS role,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements') AS statements,
       (SELECT NULLIF(concat_ws('; ', CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user) END,
                                      CASE WHEN NOT has_function_privilege(p.oid, 'EXECUTE')
                                           THEN format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, current_user) END), '')
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'pg_stat_statements' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e')
        WHERE e.extname = 'pg_stat_statements') AS statements_grants,
       -- PostgreSQL shows the widths of a table's columns to roles with SELECT on them, where row security does not stand in the way.
       EXISTS (SELECT FROM pg_class c
               WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
                 AND (row_security_active(c.oid) OR NOT has_table_privilege(c.oid, 'SELECT') AND NOT has_any_column_privilege(c.oid, 'SELECT'))
       ) AS unseen_widths,
       (SELECT string_agg(c.oid::regclass::text, ', ')
        FROM pg_class c
        WHERE c.relname = '_prisma_migrations' AND c.relkind IN ('r', 'p')
          AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(c.relnamespace, 'USAGE'))) AS unreadable_migration_table,
       (SELECT min(c.oid::regclass::text)
        FROM pg_class c
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
          AND has_schema_privilege(c.relnamespace, 'USAGE')
          AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR pg_has_role(c.relowner, 'MEMBER'))
       ) AS writable_table,
       (SELECT array_agg(quote_ident(role) ORDER BY role)
        FROM unnest($1::text[]) AS role
        WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = role)
          AND NOT has_database_privilege(role, current_database(), 'CONNECT')) AS roles_without_connect
