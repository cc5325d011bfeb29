-- Roles and applications of sessions. $1 their pids.
SELECT a.pid, COALESCE(a.usename, '-')::text AS role, COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type, '-')::text AS app
FROM pg_stat_activity a WHERE a.pid = ANY ($1::int4[])
