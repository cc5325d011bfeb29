-- The open transactions of this database, the oldest first: building an index without a lock waits for those that use its table
-- and for those that see older rows.
SELECT who, app, state, held_s, count(*) OVER () AS total FROM (
  SELECT 'session ' || pid AS who, COALESCE(NULLIF(application_name, ''), usename::text, '-') AS app, COALESCE(state, '-') AS state,
         extract(epoch FROM clock_timestamp() - xact_start)::float8 AS held_s
  FROM pg_stat_activity
  WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  UNION ALL
  SELECT 'the prepared transaction ' || gid, owner::text, '-', extract(epoch FROM clock_timestamp() - prepared)::float8
  FROM pg_prepared_xacts WHERE database = current_database()
) o
ORDER BY held_s DESC NULLS LAST, who LIMIT 5
