-- Client sessions that may be signalled: those that hold others up and wait for none first, then those that are longest in a transaction,
-- the idle last. $1 the bot's own roles, $2 a part of pid, application, role or database, $3 only those that run a statement.
WITH waiting AS (
  SELECT b.pid FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(pid) WHERE a.wait_event_type = 'Lock'
), behind AS (SELECT pid, count(*) AS sessions FROM waiting GROUP BY pid),
client AS (
  SELECT a.pid, COALESCE(NULLIF(a.application_name, ''), a.usename, '-')::text AS app, COALESCE(a.state, '-') AS state,
         CASE WHEN a.state = 'active' THEN a.query_start WHEN a.state = 'idle' THEN a.state_change ELSE a.xact_start END AS since,
         concat_ws(' ', a.pid, a.application_name, a.usename, a.datname) AS words,
         COALESCE(a.wait_event_type = 'Lock', false) AS waits
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
  WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND NOT COALESCE(r.rolsuper, true) AND a.usename::text <> ALL ($1::text[])
    AND (NOT $3::bool OR a.state = 'active')
)
SELECT c.pid::text AS value, c.app, c.state, extract(epoch FROM clock_timestamp() - c.since)::float8 AS for_s, COALESCE(b.sessions, 0) AS waiting
FROM client c LEFT JOIN behind b USING (pid)
WHERE strpos(lower(c.words COLLATE "default"), lower($2)) > 0
ORDER BY b.pid IS NOT NULL AND NOT c.waits DESC, b.sessions DESC NULLS LAST,
         CASE WHEN c.state LIKE 'idle in transaction%' THEN 0 WHEN c.state = 'active' THEN 1 ELSE 2 END, c.since NULLS LAST
LIMIT 100
