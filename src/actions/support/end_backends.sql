-- Ends the sessions of this role that work for run $1, which is $2 seconds old: those of find_backends.sql.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity a
WHERE usename = session_user AND pid <> pg_backend_pid() AND (state <> 'idle' OR application_name ~ ' migration$'
       OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted AND l.classid = 1129531214))
  AND application_name LIKE 'countersign #' || $1::int8 || ' %'
  AND COALESCE(query_start, backend_start) >= clock_timestamp() - make_interval(secs => $2::float8)
