-- How far each replica is behind. A replica that says nothing has no lag of its own, so its silence counts while it owes something.
SELECT application_name AS name, state IS NOT NULL AS visible,
       CASE WHEN pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) > 0
            THEN extract(epoch FROM greatest(replay_lag, clock_timestamp() - reply_time))::float8 ELSE 0 END AS lag_s,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::int8 AS behind_bytes
FROM pg_stat_replication
WHERE state IS NULL OR state IN ('streaming', 'catchup')
ORDER BY 3 DESC NULLS LAST
