/*
summary = "Long-running statements and transactions"
group = "sessions"
risk = "read"
scope = "server"
needs = ["sessions"]
args = [{ name = "over", type = "duration", default = "30s", help = "minimum duration" }]
example = "long --over 1m"
details = "The time of a running statement counts from its start, that of a session that is idle in a transaction from the moment it became idle, and that of a transaction of many statements from its start. Replication is left out, and so are Countersign's own sessions but for those that work for a run."
sort = "for_s"
verdict_empty = "No statement has been running, and no transaction open, for that long (`--over`, 30 s by default)."
empty_severity = "ok"
verdict = "{_sessions} been busy or in a transaction for {_over_s} or longer; the longest is pid {pid} ({app}) of {database}, {state} for {for_s}."
rows_severity = "warning"
next = "`cancel` ends only a running statement and keeps the session; `kill {pid}` ends the session."
next_by = { _run = "Run #{_run} is Countersign's own: `stop {_run}` ends it.", _waiting = "It waits for a lock: `blocked` shows which session to end." }
row_action = "kill {pid}"
row_action_if = "_killable"
limits = { _hidden = "{_hidden_sessions}: nothing can be said of {_them}. `settings track_activities` shows the setting." }
*/
-- Looked at: running statements and open transactions
SELECT a.pid, extract(epoch FROM clock_timestamp() - t.since)::float8 AS for_s,
       CASE WHEN o.run IS NOT NULL THEN 'Countersign, run #' || o.run
            ELSE COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type) END::text AS app,
       CASE WHEN t.statement THEN a.state ELSE 'in a transaction (now ' || a.state || ')' END
         || CASE WHEN a.wait_event_type = 'Lock' THEN ', waiting for a lock' ELSE '' END AS state,
       COALESCE(a.datname, '-')::text AS database, a.query,
       CASE count(*) OVER () WHEN 1 THEN '1 session has' ELSE count(*) OVER () || ' sessions have' END AS _sessions,
       extract(epoch FROM :'over'::interval)::float8 AS _over_s,
       -- A session that waits for a lock is a victim: `blocked` shows which one to end.
       o.run IS NULL AND a.backend_type = 'client backend' AND NOT COALESCE(r.rolsuper, true)
         AND a.wait_event_type IS DISTINCT FROM 'Lock' AS _killable,
       o.run AS _run, CASE WHEN o.run IS NULL AND a.wait_event_type = 'Lock' THEN true END AS _waiting,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start, count(*) OVER () AS _total
FROM pg_stat_activity a
LEFT JOIN pg_roles r ON r.oid = a.usesysid
CROSS JOIN LATERAL (SELECT CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END AS since) s
CROSS JOIN LATERAL (SELECT clock_timestamp() - s.since >= :'over'::interval AS statement,
                           CASE WHEN clock_timestamp() - s.since >= :'over'::interval THEN s.since ELSE a.xact_start END AS since) t
CROSS JOIN LATERAL (SELECT COALESCE(a.usename::text = ANY (:'own_roles'::text[]), false) AS own) w
CROSS JOIN LATERAL (SELECT CASE WHEN w.own THEN substring(a.application_name FROM '^countersign #(\d{1,18}) ')::int8 END AS run) o
-- A walsender is always "active", and a parallel worker is a part of its leader; an autovacuum worker can be the blocker.
WHERE a.backend_type NOT IN ('walsender', 'parallel worker')
  AND (a.state = 'active' OR a.state LIKE 'idle in transaction%')
  AND (NOT w.own OR o.run IS NOT NULL) AND a.pid <> pg_backend_pid()
  AND clock_timestamp() - t.since >= :'over'::interval
ORDER BY t.since
LIMIT 20;

-- ## Hidden sessions [limits]
SELECT count(*) AS _hidden, CASE count(*) WHEN 1 THEN '1 session hides what it does (track_activities is off for it)'
         ELSE count(*) || ' sessions hide what they do (track_activities is off for them)' END AS _hidden_sessions,
       CASE count(*) WHEN 1 THEN 'it' ELSE 'them' END AS _them
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state = 'disabled' AND usename::text <> ALL (:'own_roles'::text[])
HAVING count(*) > 0
