-- Schemas that others can create objects in, and may not: pg_catalog, where Countersign's SQL finds its functions, with the roles that
-- can; and all in which the reader can.
SELECT quote_ident(n.nspname) AS schema, n.nspname = 'pg_catalog' AS searched,
       CASE WHEN n.nspname = 'pg_catalog' THEN g.roles ELSE quote_ident(current_user) || ', PUBLIC' END AS grantees
FROM pg_namespace n
CROSS JOIN LATERAL (SELECT string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, ', ') AS roles
                    FROM aclexplode(n.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
                    WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner AND r.rolsuper IS NOT TRUE) g
WHERE CASE WHEN n.nspname = 'pg_catalog' THEN g.roles IS NOT NULL
           ELSE n.nspname !~ '^(pg_|information_schema)' AND has_schema_privilege(n.oid, 'CREATE') END
ORDER BY searched DESC, 1
