-- Sessions of Countersign's roles that work for a run: "countersign #128 ana". An idle one only kept the name, but for a migration's:
-- its command is between two statements. $1 those roles.
SELECT substring(application_name FROM '^countersign #(\d{1,18}) ')::int8 AS run, pid,
       extract(epoch FROM clock_timestamp() - COALESCE(query_start, backend_start))::float8 AS for_s
FROM pg_stat_activity
WHERE usename::text = ANY ($1::text[]) AND pid <> pg_backend_pid() AND (state <> 'idle' OR application_name ~ ' migration$')
  AND application_name ~ '^countersign #\d{1,18} '
ORDER BY query_start
