-- What keeps dead rows of this database from being removed, the oldest first.
SELECT what, held_s, xid_age FROM (
  SELECT 'session ' || pid || ' (' || COALESCE(NULLIF(application_name, ''), usename::text, '-') || ', ' || COALESCE(state, '-') || ')' AS what,
         age(COALESCE(backend_xmin, backend_xid)) AS xid_age, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS held_s
  FROM pg_stat_activity
  WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
    AND (datname = current_database() OR backend_type = 'walsender') AND backend_type <> 'autovacuum worker'
  UNION ALL
  SELECT 'the prepared transaction ' || gid, age(transaction), extract(epoch FROM clock_timestamp() - prepared)::float8
  FROM pg_prepared_xacts WHERE database = current_database()
  UNION ALL
  SELECT 'the replication slot ' || slot_name, age(xmin), NULL FROM pg_replication_slots WHERE xmin IS NOT NULL
) h
ORDER BY xid_age DESC NULLS LAST LIMIT 20
