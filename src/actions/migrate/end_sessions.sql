-- Ends what is left of a command's own sessions. $1 application_name, $2 when it was started.
SELECT count(pg_terminate_backend(a.pid)) AS ended
FROM pg_stat_activity a
WHERE a.application_name = $1 AND a.backend_start >= $2::text::timestamptz
  AND a.datname = current_database() AND a.usename = session_user AND a.pid <> pg_backend_pid()
