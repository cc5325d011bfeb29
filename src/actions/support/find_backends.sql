-- Sessions of Countersign's roles that work for a run: "countersign #128 ana". An idle one only kept the name, but for a migration's,
-- whose command is between two statements, and for one with a lock of Countersign's: its process may be paused before it acts. $1 those roles.
SELECT substring(application_name FROM '^countersign #(\d{1,18}) ')::int8 AS run, a.pid,
       extract(epoch FROM clock_timestamp() - COALESCE(query_start, backend_start))::float8 AS for_s
FROM pg_stat_activity a
WHERE usename::text = ANY ($1::text[]) AND a.pid <> pg_backend_pid() AND (state <> 'idle' OR application_name ~ ' migration$'
       OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted AND l.classid = 1129531214))
  AND application_name ~ '^countersign #\d{1,18} '
ORDER BY query_start
