/*
summary = "Long-running statements and transactions"
group = "sessions"
risk = "read"
scope = "server"
args = [{ name = "over", type = "duration", default = "30s", help = "minimum duration" }]
example = "long --over 1m"
details = "The time of a running statement counts from its start, and the time of a session that is idle in a transaction from the moment it became idle. Replication and Countersign's own sessions are left out."
needs_pg_read_all_stats = true
sort = "for_s"
verdict_empty = "No statement has been running, and no transaction idle, for that long (`--over`, 30 s by default)."
verdict = "{_sessions} been busy or idle in a transaction for {_over_s} or longer; the longest is pid {pid} ({app}) of {database}, {state} for {for_s}."
rows_severity = "warning"
next = "`cancel {pid}` cancels a running statement and keeps the session; `kill {pid}` ends the session."
row_action = "kill {pid}"
row_action_if = "_killable"
*/
SELECT a.pid, extract(epoch FROM clock_timestamp() - t.since)::float8 AS for_s,
       COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type)::text AS app,
       a.state || CASE WHEN a.wait_event_type = 'Lock' THEN ', waiting for a lock' ELSE '' END AS state,
       COALESCE(a.datname, '-')::text AS database, a.query,
       CASE count(*) OVER () WHEN 1 THEN '1 session has' ELSE count(*) OVER () || ' sessions have' END AS _sessions,
       extract(epoch FROM :'over'::interval)::float8 AS _over_s,
       -- A session that waits for a lock is a victim: `blocked` shows which one to end.
       a.backend_type = 'client backend' AND NOT COALESCE(r.rolsuper, true)
         AND a.wait_event_type IS DISTINCT FROM 'Lock' AS _killable,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start
FROM pg_stat_activity a
LEFT JOIN pg_roles r ON r.oid = a.usesysid
CROSS JOIN LATERAL (SELECT CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END AS since) t
-- A walsender is always "active"; an autovacuum worker can be the blocker.
WHERE a.backend_type IN ('client backend', 'autovacuum worker')
  AND (a.state = 'active' OR a.state LIKE 'idle in transaction%')
  AND a.usename IS DISTINCT FROM current_user
  AND clock_timestamp() - t.since >= :'over'::interval
ORDER BY t.since
LIMIT 20
