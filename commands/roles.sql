/*
summary = "Roles: who can log in, their attributes, limits and memberships, and grants to PUBLIC"
group = "databases"
risk = "read"
scope = "server"
needs = []
args = [{ name = "service", type = "service", positional = true, help = "who can connect to its database, and their privileges there; all roles if omitted" }]
example = "roles asset-service"
details = "PostgreSQL's own roles (pg_…) have no row of their own; they appear as memberships. VALID UNTIL ends password logins only, and PostgreSQL doesn't show whether a role has a password. `connections` shows how near roles and databases are to their connection limits. pg_hba.conf decides who must use TLS; that is not shown here."
verdict_empty = "No roles found."
verdict = "{target}: {_logins} can log in{_where}, {_superusers}; no VALID UNTIL ends within 14 days."

[thresholds]
_expires_s = { warning = 1209600, critical = 259200, below = true, message = "{target}: VALID UNTIL of {role} ends in {value} ({valid_until}); password logins of it fail after that. To extend it: `ALTER ROLE {_role} VALID UNTIL …`" }
_expired = { warning = 1, message = "{target}: VALID UNTIL of {role} has passed ({valid_until}): password logins of it fail.", next = "If it is still needed, a DBA can run: `ALTER ROLE {_quoted} VALID UNTIL 'infinity'`" }
_server_files = { warning = 1, message = "{target}: {role} is no superuser, but can {_can} on the server's machine as PostgreSQL's own account: it is a member of {_by}. Unless that is needed, a DBA can take it from {_members}: `REVOKE {_by} FROM {_members}`" }
_public_schema = { warning = 1, message = "{target}: every role that can connect may create tables and functions in schema {schema} (granted to PUBLIC). Unless an application needs it, run in that database: `REVOKE CREATE ON SCHEMA {_quoted} FROM PUBLIC`" }
_public_create = { warning = 1, message = "{target}: every role may create schemas in {databases} (granted to PUBLIC).", next = "A DBA can run: `REVOKE CREATE ON DATABASE {_quoted} FROM PUBLIC`" }
*/
-- ## Roles [server]
SELECT r.rolname::text AS role, quote_ident(r.rolname) AS _quoted,
       concat_ws(', ', CASE WHEN l.can THEN 'log in' WHEN r.rolcanlogin THEN 'no login (connection limit 0)' ELSE 'no login' END,
                 CASE WHEN l.can AND NOT r.rolsuper AND r.rolconnlimit > 0 THEN 'at most ' || r.rolconnlimit || ' at once' END, CASE WHEN r.rolsuper THEN 'superuser' END,
                 CASE WHEN r.rolcreaterole THEN 'create roles' END, CASE WHEN r.rolcreatedb THEN 'create databases' END,
                 CASE WHEN r.rolreplication THEN 'replication' END, CASE WHEN r.rolbypassrls THEN 'bypass RLS' END) AS attributes,
       m.member_of, CASE WHEN e.dated THEN r.rolvaliduntil END AS valid_until, quote_ident(r.rolname) AS _role,
       CASE WHEN l.can AND e.dated AND r.rolvaliduntil > now() THEN extract(epoch FROM r.rolvaliduntil - now()) END::float8 AS _expires_s,
       CASE WHEN l.can AND r.rolvaliduntil <= now() THEN 1 END AS _expired,
       CASE WHEN l.can AND NOT r.rolsuper AND f.rights IS NOT NULL THEN 1 END AS _server_files, f.rights AS _can, f.roles AS _by, d.members AS _members,
       CASE count(*) FILTER (WHERE l.can) OVER () WHEN 1 THEN '1 role'
            ELSE count(*) FILTER (WHERE l.can) OVER () || ' roles' END AS _logins,
       CASE count(*) FILTER (WHERE r.rolsuper AND l.can) OVER () WHEN 1 THEN '1 of them a superuser'
            ELSE count(*) FILTER (WHERE r.rolsuper AND l.can) OVER () || ' of them superusers' END AS _superusers,
       COALESCE(' and connect to ' || NULLIF(:'database', ''), '') AS _where
FROM pg_roles r
-- No limit applies to superusers.
CROSS JOIN LATERAL (SELECT r.rolcanlogin AND (r.rolsuper OR r.rolconnlimit <> 0) AS can) l
-- Whoever runs programs or writes files as PostgreSQL's account can make themselves a superuser, and reading its files reads every table.
CROSS JOIN LATERAL (SELECT string_agg(p.action, ', ' ORDER BY p.name) AS rights, string_agg(p.name, ', ' ORDER BY p.name) AS roles
                    FROM (VALUES ('pg_execute_server_program', 'run programs'), ('pg_read_server_files', 'read files'),
                                 ('pg_write_server_files', 'write files')) AS p(name, action)
                    WHERE pg_has_role(r.oid, p.name, 'MEMBER')) f
-- The roles to take it from: its direct members, through which it may have it.
CROSS JOIN LATERAL (SELECT string_agg(DISTINCT quote_ident(o.rolname), ', ') AS members FROM pg_auth_members a JOIN pg_roles o ON o.oid = a.member
                    WHERE a.roleid::regrole::text = ANY (string_to_array(f.roles, ', ')) AND pg_has_role(r.oid, o.oid, 'MEMBER')) d
-- 'infinity' is no date.
CROSS JOIN LATERAL (SELECT isfinite(r.rolvaliduntil) AND r.rolvaliduntil < '9999-01-01' AND r.rolvaliduntil > '0001-01-02' AS dated) e
CROSS JOIN LATERAL (
  SELECT string_agg(g.name || CASE WHEN g.admin AND NOT g.inherit AND NOT g.set THEN ' (admin option only)'
                                   WHEN g.admin THEN ' (admin option)'
                                   WHEN NOT g.inherit AND NOT g.set THEN ' (no privileges)'
                                   WHEN NOT g.inherit THEN ' (only by SET ROLE)' ELSE '' END, ', '
                    ORDER BY g.admin AND NOT g.inherit AND NOT g.set, g.name) AS member_of
  -- Since PostgreSQL 16 each membership has its own options, and several roles can grant the same one; before, they were the member's.
  FROM (SELECT o.rolname::text AS name, bool_or(a.admin_option) AS admin,
               bool_or(COALESCE((to_jsonb(a) ->> 'inherit_option')::boolean, r.rolinherit)) AS inherit,
               bool_or(COALESCE((to_jsonb(a) ->> 'set_option')::boolean, true)) AS set
        FROM pg_auth_members a JOIN pg_roles o ON o.oid = a.roleid WHERE a.member = r.oid GROUP BY 1) g) m
-- PostgreSQL reserves names that begin with pg_; in LIKE the _ would hide pgadmin_jane too.
WHERE r.rolname !~ '^pg_'
  AND (NULLIF(:'database', '') IS NULL
       OR EXISTS (SELECT FROM pg_database d WHERE d.datname = :'database' AND has_database_privilege(r.oid, d.oid, 'CONNECT')))
ORDER BY r.rolsuper DESC, r.rolcreaterole OR r.rolreplication OR r.rolbypassrls DESC, r.rolcanlogin DESC, 1
LIMIT 60;

-- ## Databases: granted to PUBLIC [server]
-- Looked at: grants on databases
SELECT COALESCE(p.rights, 'none') AS privileges, string_agg(d.datname::text, ', ' ORDER BY d.datname) AS databases,
       string_agg(quote_ident(d.datname), ', ' ORDER BY d.datname) AS _quoted,
       CASE WHEN p.rights LIKE '%CREATE%' THEN 1 END AS _public_create
FROM pg_database d
CROSS JOIN LATERAL (SELECT string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) AS rights
                    FROM aclexplode(COALESCE(d.datacl, acldefault('d', d.datdba))) x WHERE x.grantee = 0) p
WHERE d.datallowconn AND NOT d.datistemplate AND (NULLIF(:'database', '') IS NULL OR d.datname = :'database')
GROUP BY 1, 4
ORDER BY 1;

-- ## Schemas where PUBLIC may create objects [database]
-- Looked at: grants on schemas
SELECT n.nspname::text AS schema, pg_get_userbyid(n.nspowner)::text AS owner, 1 AS _public_schema, quote_ident(n.nspname) AS _quoted
FROM pg_namespace n
CROSS JOIN LATERAL aclexplode(COALESCE(n.nspacl, acldefault('n', n.nspowner))) x
WHERE x.grantee = 0 AND x.privilege_type = 'CREATE' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1
LIMIT 30;

-- ## Table privileges, except the owner's [database if service]
-- Looked at: table privileges
SELECT COALESCE(r.rolname, 'PUBLIC')::text AS role, g.schema, g.privileges, count(*) AS tables
FROM (SELECT x.grantee, n.nspname::text AS schema, c.oid,
             string_agg(DISTINCT x.privilege_type, ', ' ORDER BY x.privilege_type) AS privileges
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL aclexplode(COALESCE(c.relacl, acldefault('r', c.relowner))) x
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND x.grantee <> c.relowner
      GROUP BY 1, 2, 3) g
LEFT JOIN pg_roles r ON r.oid = g.grantee
GROUP BY 1, 2, 3
ORDER BY bool_and(r.rolname IS NOT NULL), 1, 2, 4 DESC, 3
LIMIT 30;

-- ## Column privileges, except the owner's [database if service]
-- Looked at: column privileges
SELECT COALESCE(r.rolname, 'PUBLIC')::text AS role, g."table", g.privileges, string_agg(g.attname, ', ' ORDER BY g.attname) AS columns
FROM (SELECT x.grantee, CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table",
             a.attname::text, string_agg(DISTINCT x.privilege_type, ', ' ORDER BY x.privilege_type) AS privileges
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL aclexplode(a.attacl) x
      WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_'
        AND n.nspname <> 'information_schema' AND x.grantee <> c.relowner
      GROUP BY 1, 2, 3) g
LEFT JOIN pg_roles r ON r.oid = g.grantee
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
LIMIT 30
