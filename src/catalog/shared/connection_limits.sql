-- Each limit on connections: the server's, as an ordinary role meets it, and those of databases and roles. Replication and background
-- processes don't count; superusers' sessions do, but no limit of a role or a database applies to them.
WITH sessions AS MATERIALIZED (
  SELECT usesysid, datid FROM pg_stat_activity WHERE backend_type = 'client backend'
), grantees AS MATERIALIZED (
  -- Who owns something in a database, or was granted something there or on it: the only such list that isn't kept in each database.
  SELECT DISTINCT CASE WHEN dbid = 0 THEN objid ELSE dbid END AS database, refobjid AS role
  FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND (dbid <> 0 OR classid = 'pg_database'::regclass)
), limits AS (
  SELECT 'server' AS kind, NULL::text AS name, (SELECT count(*) FROM sessions) AS in_use,
         current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - COALESCE(NULLIF(current_setting('reserved_connections', true), '')::int, 0) AS allowed,
         NULL::text[] AS databases
  UNION ALL
  SELECT 'database', d.datname::text, (SELECT count(*) FROM sessions s WHERE s.datid = d.oid), d.datconnlimit, ARRAY[d.datname::text]
  FROM pg_database d WHERE d.datallowconn AND d.datconnlimit >= 0
  UNION ALL
  SELECT 'role', r.rolname::text, (SELECT count(*) FROM sessions s WHERE s.usesysid = r.oid), r.rolconnlimit,
         (SELECT array_agg(d.datname::text) FROM pg_database d
          WHERE EXISTS (SELECT FROM sessions s WHERE s.usesysid = r.oid AND s.datid = d.oid) OR pg_has_role(r.oid, d.datdba, 'MEMBER')
             OR EXISTS (SELECT FROM grantees g WHERE g.database = d.oid AND pg_has_role(r.oid, g.role, 'MEMBER')))
  FROM pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolconnlimit >= 0
)
-- A limit of 0 shuts a role or a database on purpose: it is never near its limit.
SELECT kind, name, in_use, allowed, greatest(allowed - in_use, 0) AS free, allowed = 0 AS shut,
       (100.0 * in_use / NULLIF(allowed, 0))::float8 AS pct, databases
FROM limits
