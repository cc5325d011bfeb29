/*
summary  = "Sessions waiting for a lock, and who holds it"
group    = "sessions"
risk     = "read"
scope    = "server"
example  = "blocked"
sees_sessions = true
empty    = "No session is waiting for a lock."
verdict  = "{_waiting} sessions wait; pid {pid} ({app}) of {database} holds them up."
rows_are = "act"
next     = "End the head to free them: `kill {pid}`"
offer    = "kill {pid}"
offer_if = "_killable"
*/
WITH RECURSIVE edges AS (
  SELECT DISTINCT a.pid, b.blocker
  FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(blocker)
  WHERE a.wait_event_type = 'Lock'
), heads AS (
  SELECT DISTINCT e.blocker AS pid FROM edges e WHERE NOT EXISTS (SELECT 1 FROM edges x WHERE x.pid = e.blocker)
), reach AS (
  SELECT h.pid AS head, e.pid FROM heads h JOIN edges e ON e.blocker = h.pid
  UNION
  SELECT r.head, e.pid FROM reach r JOIN edges e ON e.blocker = r.pid
), nodes AS (
  SELECT pid, true AS is_head FROM heads UNION SELECT pid, false FROM edges
)
SELECT n.pid,
       CASE WHEN n.pid = 0 THEN 'prepared transaction ' || (SELECT string_agg(gid, ', ') FROM pg_prepared_xacts)
            WHEN n.is_head THEN 'head' ELSE 'waits' END AS "is",
       (SELECT array_agg(e.blocker ORDER BY e.blocker) FROM edges e WHERE e.pid = n.pid) AS "waits for pid",
       a.datname::text AS database, a.usename::text AS role, a.application_name AS app, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_s,
       CASE WHEN l.pid IS NOT NULL THEN
         extract(epoch FROM clock_timestamp() - COALESCE((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start))::float8
       END AS waiting_s,
       (SELECT count(*) FROM reach r WHERE r.head = n.pid) AS behind,
       l.mode AS wants,
       a.query,
       (SELECT count(DISTINCT pid) FROM edges) AS _waiting,
       n.is_head AND n.pid <> 0 AS _killable,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start
FROM nodes n
LEFT JOIN pg_stat_activity a ON a.pid = n.pid
LEFT JOIN LATERAL (SELECT * FROM pg_locks k WHERE k.pid = n.pid AND NOT k.granted LIMIT 1) l ON true
ORDER BY n.is_head DESC, behind DESC, waiting_s DESC NULLS LAST
LIMIT 50
