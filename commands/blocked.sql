/*
summary = "Sessions waiting for a lock, and the sessions that block them"
group = "sessions"
risk = "read"
scope = "server"
example = "blocked"
details = "The root blocker of each queue comes first: it holds the lock and waits for no other session. A session can also wait behind another waiting session. A root blocker that is a prepared transaction has no session; end it with COMMIT PREPARED or ROLLBACK PREPARED in its database."
needs_pg_read_all_stats = true
verdict_empty = "No session is waiting for a lock."
verdict = "{_waiting} blocked{_by}, the longest for {_longest_s}{_largest}."
rows_severity = "critical"
next = "End the root blocker to unblock them: `kill {_pid}`"
row_action = "kill {_pid}"
row_action_if = "_killable"
*/
WITH RECURSIVE edges AS (
  SELECT DISTINCT a.pid, b.blocker
  FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(blocker)
  WHERE a.wait_event_type = 'Lock'
), heads AS (
  SELECT DISTINCT e.blocker AS pid FROM edges e WHERE NOT EXISTS (SELECT 1 FROM edges x WHERE x.pid = e.blocker)
), above AS (
  SELECT pid, blocker AS above FROM edges
  UNION -- removes repeats: enumerating the paths of a queue would be exponential
  SELECT a.pid, e.blocker FROM above a JOIN edges e ON e.pid = a.above
), nodes AS (
  SELECT pid, true AS is_head FROM heads UNION SELECT pid, false FROM edges
), ranks AS (
  SELECT n.pid, count(a.above) AS above FROM nodes n LEFT JOIN above a ON a.pid = n.pid GROUP BY n.pid
), parents AS (
  -- A session in a queue waits for all sessions ahead of it; it is drawn below the last of them.
  SELECT DISTINCT ON (e.pid) e.pid, e.blocker AS parent
  FROM edges e JOIN ranks r ON r.pid = e.blocker ORDER BY e.pid, r.above DESC, e.blocker
), tree AS (
  SELECT h.pid, 0 AS depth, ARRAY[-(SELECT count(*) FROM above a WHERE a.above = h.pid), h.pid] AS path FROM heads h
  UNION ALL
  SELECT p.pid, t.depth + 1, t.path || ARRAY[r.above, p.pid]
  FROM tree t JOIN parents p ON p.parent = t.pid JOIN ranks r ON r.pid = p.pid
), prepared AS (
  -- A prepared transaction holds its locks as pid 0, which doesn't tell which one it is.
  SELECT 'prepared transaction ' || string_agg(gid, ' or ' ORDER BY prepared) AS name FROM pg_prepared_xacts
)
SELECT CASE WHEN t.depth > 0 THEN repeat('│ ', LEAST(t.depth, 6) - 1) || '└ ' ELSE '' END || n.pid AS session,
       CASE WHEN n.is_head THEN 'root blocker (' || b.behind || ' waiting)'
            ELSE (SELECT string_agg(e.blocker::text, ', ' ORDER BY e.blocker) FROM edges e WHERE e.pid = n.pid) END AS "blocked by",
       s.for_s,
       CASE WHEN n.pid = 0 THEN p.name ELSE COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type)::text END AS app,
       CASE WHEN l.pid IS NOT NULL THEN 'waiting for ' || l.mode ELSE a.state END AS state,
       a.datname::text AS database, a.query,
       CASE w.waiting WHEN 1 THEN '1 session is' ELSE w.waiting || ' sessions are' END AS _waiting,
       max(s.for_s) FILTER (WHERE l.pid IS NOT NULL) OVER () AS _longest_s,
       CASE WHEN w.heads > 1 THEN ' in ' || w.heads || ' queues' ELSE ' by ' || h.name END AS _by,
       CASE WHEN w.heads > 1 THEN '; the root blocker of the largest queue is ' || h.name ELSE '' END AS _largest,
       n.is_head AND COALESCE(a.backend_type = 'client backend' AND NOT u.rolsuper, false) AS _killable,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start,
       n.pid AS _pid
FROM nodes n
-- Sessions in a deadlock that isn't resolved yet wait for each other: they have no root blocker and no place in the tree.
LEFT JOIN tree t ON t.pid = n.pid
CROSS JOIN prepared p
CROSS JOIN (SELECT (SELECT count(DISTINCT pid) FROM edges) AS waiting, (SELECT count(*) FROM heads) AS heads) w
CROSS JOIN LATERAL (SELECT count(*) AS behind FROM above r WHERE r.above = n.pid) b
LEFT JOIN pg_stat_activity a ON a.pid = n.pid
LEFT JOIN pg_roles u ON u.oid = a.usesysid
LEFT JOIN LATERAL (SELECT * FROM pg_locks k WHERE k.pid = n.pid AND NOT k.granted LIMIT 1) l ON true
CROSS JOIN LATERAL (SELECT extract(epoch FROM clock_timestamp() - CASE WHEN l.pid IS NULL THEN a.xact_start
  -- waitstart exists from PostgreSQL 14 on
  ELSE COALESCE((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start) END)::float8 AS for_s) s
CROSS JOIN LATERAL (SELECT CASE WHEN n.pid = 0 THEN p.name
  ELSE 'pid ' || n.pid || ' (' || COALESCE(NULLIF(a.application_name, ''), a.usename, '-') || ') of ' || COALESCE(a.datname, '-') END AS name) h
ORDER BY t.path NULLS LAST, for_s DESC NULLS LAST
LIMIT 50
