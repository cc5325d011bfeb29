-- A service's database, seen by the reader.
SELECT quote_ident(current_user) AS role,
       -- PostgreSQL shows the widths of a table's columns to roles with SELECT on them, where row security does not stand in the way.
       EXISTS (SELECT FROM pg_class c
               WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
                 AND (row_security_active(c.oid) OR NOT has_table_privilege(c.oid, 'SELECT') AND NOT has_any_column_privilege(c.oid, 'SELECT'))
       ) AS unseen_widths,
       (SELECT min(c.oid::regclass::text)
        FROM pg_class c
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
          AND has_schema_privilege(c.relnamespace, 'USAGE')
          AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR pg_has_role(c.relowner, 'MEMBER'))
       ) AS writable_table
