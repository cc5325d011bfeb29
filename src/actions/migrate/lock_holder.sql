-- Who holds Prisma's advisory lock of this database, 72707369.
SELECT k.pid, COALESCE(NULLIF(a.application_name, ''), a.usename, '-')::text AS app, COALESCE(a.state, 'not allowed to see') AS state,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS for_s
FROM pg_locks k LEFT JOIN pg_stat_activity a ON a.pid = k.pid
WHERE k.locktype = 'advisory' AND k.granted AND k.classid = 0 AND k.objid = 72707369 AND k.objsubid = 1
  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY k.pid
LIMIT 1
