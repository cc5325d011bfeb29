-- Ends the sessions of this role that work for run $1, which is $2 seconds old: as find.sql finds them.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE usename = session_user AND pid <> pg_backend_pid() AND (state <> 'idle' OR application_name ~ ' migration$')
  AND application_name LIKE 'countersign #' || $1::int8 || ' %'
  AND COALESCE(query_start, backend_start) >= clock_timestamp() - make_interval(secs => $2::float8)
