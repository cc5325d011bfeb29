-- Sessions that have done nothing for long, the longest first, and the others that are as idle but are never ended.
-- $1 seconds, $2 database or NULL, $3 the bot's own roles.
SELECT a.pid,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS backend_start,
       to_char(a.state_change AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'  AS state_change,
       COALESCE(a.datname, '-')::text AS database, a.usename::text AS role,
       COALESCE(NULLIF(a.application_name, ''), '-') AS app, COALESCE(host(a.client_addr), 'local') AS client,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS idle_s,
       r.rolsuper OR r.rolreplication AS privileged,
       a.usesysid IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($3::text[])) OR a.pid = pg_backend_pid() AS own,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       current_setting('max_connections')::int8 AS most,
       pg_has_role('pg_read_all_stats', 'USAGE') AS may_see
FROM (SELECT 1) one
LEFT JOIN (pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid)
  ON a.backend_type = 'client backend' AND a.state = 'idle'
 AND clock_timestamp() - a.state_change >= make_interval(secs => $1::float8)
 AND ($2::text IS NULL OR a.datname = $2::text)
ORDER BY a.state_change, a.pid
