/*
summary = "Sessions waiting for a lock, and the sessions that block them"
group = "sessions"
risk = "read"
scope = "server"
needs = ["sessions"]
example = "blocked"
details = "The root blocker of each queue comes first: it holds the lock and waits for no other session. A session can also wait behind another waiting session. Waits for a buffer pin or a safe snapshot are shown, too, those for a synchronous standby from 5 s on, and those of background processes. A root blocker that is a prepared transaction has no session; end it with COMMIT PREPARED or ROLLBACK PREPARED in its database."
verdict_empty = "No session is waiting for a lock, a buffer pin or a safe snapshot."
empty_severity = "ok"
verdict = "{_waiting} blocked{_by}, the longest for {_at_most}{_longest_s}{_largest}."
rows_severity = "critical"
next = "End the root blocker to unblock them: `kill {_pid}`"
row_action = "kill {_pid}"
row_action_if = "_killable"

[next_by]
_deadlocked = "PostgreSQL ends a deadlock after deadlock_timeout ({_deadlock_timeout}). To end it now: `cancel {_deadlocked}`"
_gid = "Its owner must end it in {_gid_database}, with COMMIT PREPARED or ROLLBACK PREPARED."
_own_run = "The root blocker works for run #{_own_run}: `stop {_own_run}` ends it."
_standby = "`replication` shows the standbys."
_waiter_pid = "The root blocker can't be ended from here ({_reason}). To let the others pass, cancel the first that waits for it: `cancel {_waiter_pid}`"

[limits]
_upper_bound = "The time of a wait is at most what is shown: for {_upper_bound} the server knows only when the statement began."
*/
-- Looked at: waits for locks, buffer pins, snapshots and standbys
WITH graph AS (
  SELECT * FROM json_to_recordset(:'wait_graph'::json -> 'waiters') AS g(
    place int, pid int, holder text, queue int, depth int, root bool, deadlocked bool, behind int, waits_for text, waiting_s float8,
    at_most bool, blocked_by text, holders text)
), nodes AS (
  SELECT g.*, a.state, a.datname, a.query, a.backend_start, a.backend_type,
         COALESCE(g.waiting_s, extract(epoch FROM clock_timestamp() - a.xact_start))::float8 AS for_s,
         CASE WHEN o.run IS NOT NULL THEN 'Countersign, run #' || o.run
              ELSE COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type, g.holder, '-') END::text AS app,
         o.run, x.gid, x.database AS gid_database,
         CASE WHEN g.pid IS NULL THEN NULL WHEN a.pid IS NULL THEN 'it has ended' WHEN o.own THEN 'it is Countersign''s own'
              WHEN a.backend_type <> 'client backend' THEN 'it is PostgreSQL''s ' || a.backend_type
              WHEN u.rolsuper THEN 'it is a superuser''s' END AS reason
  FROM graph g
  LEFT JOIN pg_stat_activity a ON a.pid = g.pid
  LEFT JOIN pg_roles u ON u.oid = a.usesysid
  LEFT JOIN pg_prepared_xacts x ON g.pid IS NULL AND g.holder = 'prepared transaction ' || x.gid
  CROSS JOIN LATERAL (SELECT COALESCE(a.usename::text = ANY (:'own_roles'::text[]), false) AS own) w
  CROSS JOIN LATERAL (SELECT w.own, CASE WHEN w.own THEN substring(a.application_name FROM '^countersign #(\d{1,18}) ')::int8 END AS run) o
), names AS (
  SELECT n.*, COALESCE(n.holder, 'pid ' || n.pid || ' (' || n.app || ')' || COALESCE(' of ' || n.datname, '')) AS name,
         COALESCE(n.holder, 'pid ' || n.pid || ' (' || n.app || ')') AS short_name
  FROM nodes n
), totals AS (
  SELECT count(*) FILTER (WHERE waits_for IS NOT NULL) AS waiting, count(*) FILTER (WHERE root) AS roots,
         max(waiting_s) AS longest_s, (array_agg(at_most ORDER BY waiting_s DESC NULLS LAST))[1] AS longest_at_most,
         (array_agg(name ORDER BY place) FILTER (WHERE root))[1] AS largest,
         CASE WHEN count(*) FILTER (WHERE deadlocked) BETWEEN 1 AND 5
              THEN string_agg(short_name, ', ' ORDER BY place) FILTER (WHERE deadlocked)
              ELSE NULLIF(count(*) FILTER (WHERE deadlocked), 0) || ' sessions' END AS deadlocked,
         count(*) FILTER (WHERE at_most) AS upper_bounds, count(*) AS total,
         -- To cancel the waiter with the most sessions behind it lets those pass.
         (array_agg(pid ORDER BY behind DESC, place) FILTER (WHERE queue = 0 AND depth = 1 AND reason IS NULL))[1] AS waiter_pid
  FROM names
)
SELECT CASE WHEN n.depth > 0 THEN repeat(line.down || ' ', LEAST(n.depth, 6) - 1) || line.corner || ' ' ELSE '' END || COALESCE(n.pid, 0) AS session,
       CASE WHEN n.root THEN 'root blocker (' || n.behind || ' waiting)' ELSE n.blocked_by END AS "blocked by",
       n.for_s, n.app,
       CASE WHEN n.waits_for IS NOT NULL THEN 'waiting for ' || n.waits_for || CASE WHEN n.deadlocked THEN ' (deadlock)' ELSE '' END
            ELSE n.state END AS state,
       COALESCE(n.datname, n.gid_database)::text AS database, n.query,
       CASE t.waiting WHEN 1 THEN '1 session is' ELSE t.waiting || ' sessions are' END AS _waiting,
       t.longest_s AS _longest_s, CASE WHEN t.longest_at_most THEN 'at most ' ELSE '' END AS _at_most,
       CASE WHEN t.roots > 1 THEN ' in ' || t.roots || ' queues' WHEN t.roots = 1 THEN ' by ' || t.largest
            WHEN t.deadlocked IS NOT NULL THEN ': ' || t.deadlocked || ' wait for each other' ELSE '' END AS _by,
       CASE WHEN t.roots > 1 THEN '; the root blocker of the largest queue is ' || t.largest ELSE '' END
         || CASE WHEN t.roots > 0 AND t.deadlocked IS NOT NULL THEN '; ' || t.deadlocked || ' wait for each other' ELSE '' END AS _largest,
       n.root AND n.pid IS NOT NULL AND n.reason IS NULL AS _killable,
       CASE WHEN n.deadlocked AND n.reason IS NULL THEN n.pid END AS _deadlocked,
       current_setting('deadlock_timeout') AS _deadlock_timeout,
       CASE WHEN n.root THEN n.gid END AS _gid, n.gid_database::text AS _gid_database,
       CASE WHEN n.root THEN n.run END AS _own_run,
       CASE WHEN n.root AND n.holder = 'a synchronous standby' THEN true END AS _standby,
       CASE WHEN n.place = 0 AND n.reason IS NOT NULL THEN t.waiter_pid END AS _waiter_pid, n.reason AS _reason,
       CASE t.upper_bounds WHEN 0 THEN NULL WHEN 1 THEN '1 of them' ELSE t.upper_bounds || ' of them' END AS _upper_bound,
       to_char(n.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start,
       n.pid AS _pid, t.total AS _total
FROM names n CROSS JOIN totals t
-- By code points, since a text with these characters can't be sent to a database in an encoding without them. They are no constants: the
-- planner would compute those everywhere.
CROSS JOIN LATERAL (SELECT getdatabaseencoding() = 'UTF8' AS utf8, 0 * n.depth AS zero) e
CROSS JOIN LATERAL (SELECT CASE WHEN e.utf8 THEN chr((9474 + e.zero)::int) ELSE '|' END AS down,
                           CASE WHEN e.utf8 THEN chr((9492 + e.zero)::int) ELSE '+' END AS corner) line
ORDER BY n.place
LIMIT 50
