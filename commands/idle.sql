/*
summary = "Sessions idle in a transaction, and the locks they hold"
group = "sessions"
risk = "read"
scope = "server"
needs = ["sessions"]
args = [{ name = "over", type = "duration", default = "5m", help = "minimum idle time" }]
example = "idle --over 10m"
details = "The time counts from the moment a session became idle, not from the start of its last statement. Cancelling has no effect, because no statement is running. Tables are named if the database belongs to a configured service; catalogs and indexes are left out. Countersign's own sessions are left out."
sort = "idle_s"
verdict_empty = "No session has been idle in a transaction for that long (`--over`, 5 min by default)."
empty_severity = "ok"
verdict = "{_sessions} idle in a transaction for {_over_s} or longer; the longest is pid {pid} ({app}) of {database}, for {idle_s}."
rows_severity = "warning"
next = "To end it and roll back its open transaction: `kill {pid}`"
row_action = "kill {pid}"
row_action_if = "_killable"
next_by = { _superuser = "Only a superuser can end it: it is a superuser's session." }
limits = { _hidden = "{_hidden_sessions}: nothing can be said of {_them}. `settings track_activities` shows the setting." }

[thresholds]
idle_s = { warning = 300, critical = 900, message = "" }
blocks = { critical = 1, message = "" }
_holds_up = { critical = 1, message = "pid {pid} ({app}) of {database} has been idle in a transaction for {idle_s} and blocks {_waiting}.", next = "`locks {pid}` shows what it holds." }
_longest_s = { critical = 900, message = "{_sessions} idle in a transaction for {_over_s} or longer; the longest is pid {pid} ({app}) of {database}, for {value}.", next = "`locks {pid}` shows what it holds." }
*/
-- Looked at: idle transactions
WITH held AS (
  SELECT pid, count(*) FILTER (WHERE granted) AS locks FROM pg_locks WHERE locktype <> 'virtualxid' GROUP BY pid
), idle AS (
  SELECT a.*, s.state_change AS since, COALESCE(g.behind, 0) AS behind
  FROM json_to_recordset(:'idle_sessions'::json) AS s(pid int, backend_start timestamptz, state_change timestamptz)
  JOIN pg_stat_activity a ON a.pid = s.pid AND a.backend_start = s.backend_start
  LEFT JOIN json_to_recordset(:'wait_graph'::json -> 'waiters') AS g(pid int, behind int) ON g.pid = a.pid
)
SELECT i.pid, extract(epoch FROM clock_timestamp() - i.since)::float8 AS idle_s,
       NULLIF(i.behind, 0) AS blocks, COALESCE(NULLIF(i.application_name, ''), i.usename)::text AS app,
       h.locks, i.datname::text AS database,
       CASE WHEN i.state LIKE '%(aborted)' THEN 'failed: needs ROLLBACK' END AS note,
       i.query,
       CASE WHEN row_number() OVER (ORDER BY i.behind DESC, i.since, i.pid) = 1 THEN NULLIF(i.behind, 0) END AS _holds_up,
       CASE i.behind WHEN 1 THEN '1 session' ELSE i.behind || ' sessions' END AS _waiting,
       CASE WHEN max(i.behind) OVER () = 0 AND row_number() OVER (ORDER BY i.since, i.pid) = 1
            THEN extract(epoch FROM clock_timestamp() - i.since)::float8 END AS _longest_s,
       CASE count(*) OVER () WHEN 1 THEN '1 session has been' ELSE count(*) OVER () || ' sessions have been' END AS _sessions,
       extract(epoch FROM :'over'::interval)::float8 AS _over_s,
       NOT COALESCE(r.rolsuper, true) AS _killable, CASE WHEN COALESCE(r.rolsuper, true) THEN true END AS _superuser,
       to_char(i.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start, count(*) OVER () AS _total
FROM idle i
LEFT JOIN held h ON h.pid = i.pid
LEFT JOIN pg_roles r ON r.oid = i.usesysid
ORDER BY i.since, i.pid
LIMIT 20;

-- ## Hidden sessions [limits]
SELECT count(*) AS _hidden, CASE count(*) WHEN 1 THEN '1 session hides what it does (track_activities is off for it)'
         ELSE count(*) || ' sessions hide what they do (track_activities is off for them)' END AS _hidden_sessions,
       CASE count(*) WHEN 1 THEN 'it' ELSE 'them' END AS _them
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state = 'disabled' AND usename::text <> ALL (:'own_roles'::text[])
HAVING count(*) > 0;

-- ## Locked tables [database]
-- Looked at: their locked tables
WITH held AS (
  SELECT DISTINCT ON (l.pid, l.relation) l.pid, l.relation, l.mode
  FROM json_to_recordset(:'idle_sessions'::json) AS s(pid int, backend_start timestamptz)
  JOIN pg_stat_activity a ON a.pid = s.pid AND a.backend_start = s.backend_start
  JOIN pg_locks l ON l.pid = a.pid
  WHERE l.granted AND l.locktype = 'relation'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  -- the strongest of several on one table
  ORDER BY l.pid, l.relation, array_position(ARRAY['AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock',
    'ShareUpdateExclusiveLock', 'RowExclusiveLock', 'RowShareLock', 'AccessShareLock'], l.mode)
)
SELECT h.pid, CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table",
       replace(h.mode, 'Lock', '') AS lock,
       CASE h.mode WHEN 'AccessExclusiveLock' THEN 'reads and writes'
                   WHEN 'ExclusiveLock' THEN 'writes' WHEN 'ShareRowExclusiveLock' THEN 'writes' WHEN 'ShareLock' THEN 'writes'
                   WHEN 'ShareUpdateExclusiveLock' THEN 'VACUUM, schema changes'
                   WHEN 'RowExclusiveLock' THEN 'schema changes, CREATE INDEX' ELSE 'schema changes' END AS blocks
FROM held h
JOIN pg_class c ON c.oid = h.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY h.pid, 2
LIMIT 30
