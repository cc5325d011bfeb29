-- Who holds a lock on the table now, or waits for one, the longest first. $1 oid.
SELECT COALESCE('session ' || l.pid, 'the prepared transaction ' || p.gid, '-') AS who,
       COALESCE(NULLIF(a.application_name, ''), a.usename::text, p.owner::text, '-') AS app, COALESCE(a.state, '-') AS state,
       extract(epoch FROM clock_timestamp() - COALESCE(a.xact_start, p.prepared))::float8 AS held_s, count(*) OVER () AS total
FROM (SELECT DISTINCT pid, CASE WHEN pid IS NULL THEN virtualtransaction END AS virtualtransaction FROM pg_locks
      WHERE relation = $1::int8::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid IS DISTINCT FROM pg_backend_pid()) l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction
ORDER BY held_s DESC NULLS LAST, who LIMIT 10
