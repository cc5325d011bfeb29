/*
summary  = "Sessions waiting for a lock, and who holds it"
group    = "sessions"
risk     = "read"
scope    = "server"
example  = "blocked"
details  = "The head of each queue comes first: it waits for nobody. A lock queue is a queue: a session can wait behind another that waits itself. A head that is a prepared transaction has no session; it ends with COMMIT PREPARED or ROLLBACK PREPARED in its database."
needs_pg_read_all_stats = true
verdict_empty = "No session is waiting for a lock."
verdict  = "{_waiting}; {_head} holds {_them} up."
rows_severity = "critical"
next     = "End the head to free them: `kill {_pid}`"
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
  -- A session in a queue waits for everyone ahead; it hangs below the last of them.
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
       CASE WHEN n.is_head THEN 'head: holds up ' || b.behind
            ELSE (SELECT string_agg(e.blocker::text, ', ' ORDER BY e.blocker) FROM edges e WHERE e.pid = n.pid) END AS "waits for",
       CASE WHEN n.pid = 0 THEN p.name ELSE COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type)::text END AS app,
       a.datname::text AS database,
       CASE WHEN l.pid IS NOT NULL THEN 'wants ' || l.mode ELSE a.state END AS state,
       extract(epoch FROM clock_timestamp() - CASE WHEN l.pid IS NULL THEN a.xact_start
         -- waitstart exists from PostgreSQL 14 on
         ELSE COALESCE((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start) END)::float8 AS for_s,
       a.query,
       CASE w.waiting WHEN 1 THEN '1 session waits' ELSE w.waiting || ' sessions wait' END AS _waiting,
       CASE w.waiting WHEN 1 THEN 'it' ELSE 'them' END AS _them,
       CASE WHEN n.pid = 0 THEN p.name
            ELSE 'pid ' || n.pid || ' (' || COALESCE(NULLIF(a.application_name, ''), a.usename, '-') || ') of ' || COALESCE(a.datname, '-') END
         || CASE WHEN w.heads > 1 THEN ', the head of the longest of ' || w.heads || ' queues,' ELSE '' END AS _head,
       n.is_head AND COALESCE(a.backend_type = 'client backend' AND NOT u.rolsuper, false) AS _killable,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start,
       n.pid AS _pid
FROM nodes n
-- Sessions of a deadlock that nobody has ended yet wait for each other: they have no head, and no place in the tree.
LEFT JOIN tree t ON t.pid = n.pid
CROSS JOIN prepared p
CROSS JOIN (SELECT (SELECT count(DISTINCT pid) FROM edges) AS waiting, (SELECT count(*) FROM heads) AS heads) w
CROSS JOIN LATERAL (SELECT count(*) AS behind FROM above r WHERE r.above = n.pid) b
LEFT JOIN pg_stat_activity a ON a.pid = n.pid
LEFT JOIN pg_roles u ON u.oid = a.usesysid
LEFT JOIN LATERAL (SELECT * FROM pg_locks k WHERE k.pid = n.pid AND NOT k.granted LIMIT 1) l ON true
ORDER BY t.path NULLS LAST, for_s DESC NULLS LAST
LIMIT 50
