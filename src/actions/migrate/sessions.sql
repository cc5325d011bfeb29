-- The sessions of a command: by the name that its URL gives them, or, where a program doesn't pass that on, by Prisma's lock.
-- $1 application_name, $2 role, $3 when it was started. Those that are `named_by_run` are surely its own. The head is whom they wait
-- for, who waits for nobody.
WITH RECURSIVE edges AS (
  SELECT DISTINCT a.pid, b.blocker
  FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(blocker)
  WHERE a.wait_event_type = 'Lock'
), ours AS (
  SELECT a.pid, a.query_start, a.application_name = $1 AS named_by_run
  FROM pg_stat_activity a
  WHERE a.datname = current_database() AND a.backend_start >= $3::text::timestamptz
    AND (a.application_name = $1
         OR a.usename = $2 AND EXISTS (
              SELECT FROM pg_locks k WHERE k.pid = a.pid AND k.locktype = 'advisory' AND k.classid = 0 AND k.objid = 72707369 AND k.objsubid = 1))
), chain AS (
  SELECT e.blocker FROM ours o JOIN edges e ON e.pid = o.pid
  UNION -- removes repeats: enumerating the paths of a queue would be exponential
  SELECT e.blocker FROM chain c JOIN edges e ON e.pid = c.blocker
), head AS (
  SELECT c.blocker AS pid, COALESCE(NULLIF(a.application_name, ''), a.usename, 'a prepared transaction')::text AS app,
         COALESCE(a.state, '-') AS state, extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS for_s
  FROM chain c LEFT JOIN pg_stat_activity a ON a.pid = c.blocker
  WHERE NOT EXISTS (SELECT FROM edges e WHERE e.pid = c.blocker) AND c.blocker NOT IN (SELECT pid FROM ours)
  ORDER BY a.state_change
  LIMIT 1
)
SELECT (SELECT array_agg(pid ORDER BY pid) FROM ours) AS pids, (SELECT COALESCE(bool_and(named_by_run), false) FROM ours) AS all_named_by_run,
       (SELECT extract(epoch FROM clock_timestamp() - max(o.query_start))::float8 FROM ours o JOIN edges e ON e.pid = o.pid) AS waits_s,
       h.pid, h.app, h.state, h.for_s
FROM (SELECT 1) one LEFT JOIN head h ON true
