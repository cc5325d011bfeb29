-- Schemas on the search_path of what this login runs for migrations, which are $1 and that of its own name, in which others can create
-- objects: not the schema's owner, and no role whose rights the login has itself.
SELECT quote_ident(n.nspname) AS schema, g.roles AS grantees, quote_ident(current_user) AS role
FROM pg_namespace n
CROSS JOIN LATERAL (SELECT string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, ', ') AS roles
                    FROM aclexplode(n.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
                    WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner AND r.rolsuper IS NOT TRUE
                      AND CASE WHEN a.grantee = 0 THEN true ELSE NOT pg_has_role(a.grantee, 'MEMBER') END) g
WHERE (n.nspname = ANY ($1::text[]) OR n.nspname = current_user) AND g.roles IS NOT NULL
ORDER BY 1
