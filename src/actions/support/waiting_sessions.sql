-- All sessions that wait behind a session, directly or in the queue. $1 pid. UNION keeps it from enumerating paths.
WITH RECURSIVE edges AS (
  SELECT DISTINCT a.pid, b.blocker
  FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(blocker)
  WHERE a.wait_event_type = 'Lock'
), behind AS (
  SELECT e.pid FROM edges e WHERE e.blocker = $1
  UNION
  SELECT e.pid FROM behind b JOIN edges e ON e.blocker = b.pid
)
SELECT a.pid, COALESCE(a.usename, '-')::text AS role, COALESCE(NULLIF(a.application_name, ''), '-') AS app,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS waiting_s,
       count(*) OVER () AS total
FROM behind b JOIN pg_stat_activity a ON a.pid = b.pid
WHERE a.pid <> $1
ORDER BY a.query_start LIMIT 20
