-- Sessions that have done nothing for long, the longest first, and the others that are as idle but are never ended.
-- $1 seconds, $2 database or NULL, $3 the bot's own roles.
WITH advisory AS (
  SELECT pid, count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND granted GROUP BY pid
)
SELECT a.pid,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS backend_start,
       to_char(a.state_change AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'  AS state_change,
       COALESCE(a.datname, '-')::text AS database, a.usename::text AS role,
       COALESCE(NULLIF(a.application_name, ''), a.usename, '-')::text AS app, COALESCE(host(a.client_addr), 'local') AS client,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS idle_s,
       r.rolsuper OR r.rolreplication AS privileged,
       a.usesysid IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($3::text[])) OR a.pid = pg_backend_pid() AS own,
       COALESCE(v.locks, 0) AS advisory_locks, c.connections, c.hidden,
       current_setting('max_connections')::int8 AS most,
       pg_has_role('pg_read_all_stats', 'USAGE') AS may_see
FROM (SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS connections,
             count(*) FILTER (WHERE backend_type = 'client backend' AND state = 'disabled' AND ($2::text IS NULL OR datname = $2::text)
                                AND usename::text <> ALL ($3::text[])) AS hidden
      FROM pg_stat_activity) c
LEFT JOIN (pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid)
  ON a.backend_type = 'client backend' AND a.state = 'idle'
 AND clock_timestamp() - a.state_change >= make_interval(secs => $1::float8)
 AND ($2::text IS NULL OR a.datname = $2::text)
LEFT JOIN advisory v ON v.pid = a.pid
ORDER BY a.state_change, a.pid
