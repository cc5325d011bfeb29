-- One session with the facts that its approver needs. $1 pid, $2 the bot's own roles.
SELECT a.pid,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS backend_start,
       to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'   AS query_start,
       COALESCE(a.datname, '-')::text AS database, COALESCE(a.usename, '-')::text AS role,
       COALESCE(NULLIF(a.application_name, ''), a.usename, '-')::text AS app, COALESCE(host(a.client_addr), 'local') AS client,
       COALESCE(a.state, '-') AS state, a.backend_type,
       COALESCE(r.rolsuper, true) AS superuser,
       a.usesysid IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($2::text[])) OR a.pid = pg_backend_pid() AS own,
       extract(epoch FROM clock_timestamp() - a.backend_start)::float8 AS age_s,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8    AS xact_s,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8  AS state_s,
       a.backend_xid IS NOT NULL AS has_written,
       (SELECT string_agg(b.pid::text, ', ' ORDER BY b.place) FILTER (WHERE b.place <= 5)
                 || CASE WHEN count(*) > 5 THEN ' and ' || count(*) - 5 || ' more' ELSE '' END
        FROM (SELECT DISTINCT ON (x.pid) x.pid, dense_rank() OVER (ORDER BY x.pid) AS place FROM unnest(pg_blocking_pids(a.pid)) AS x(pid)) b)
         AS waits_for,
       (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype <> 'virtualxid') AS locks,
       (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'advisory') AS advisory_locks,
       pg_has_role('pg_read_all_stats', 'USAGE') AS may_see,
       a.query
FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.pid = $1
