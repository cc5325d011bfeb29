-- What receives WAL from this server, by what it does: the name is the client's choice. A replica reports what it has replayed;
-- pg_receivewal and the like replay nothing, so nothing is known of how far behind they are.
SELECT COALESCE(NULLIF(t.application_name, ''), t.usename, '-')::text AS name, host(t.client_addr) AS client, t.state, t.sync_state,
       k.kind, s.slot_name::text AS slot, t.replay_lsn,
       CASE WHEN t.replay_lsn >= h.lsn THEN 0 ELSE pg_wal_lsn_diff(h.lsn, t.replay_lsn) END::bigint AS behind_bytes,
       -- The lag was measured when the replica last reported, and has grown since. PostgreSQL keeps showing the last one for a while
       -- after everything has been replayed. The report has the replica's clock: one that goes wrong counts for as long at most as a
       -- replica may be silent.
       CASE WHEN t.replay_lsn >= h.lsn THEN 0
            WHEN t.replay_lsn IS NOT NULL
            THEN COALESCE(extract(epoch FROM t.replay_lag), 0)
                 + greatest(least(extract(epoch FROM clock_timestamp() - t.reply_time),
                                  NULLIF(extract(epoch FROM current_setting('wal_sender_timeout')::interval), 0) / 2), 0) END::float8 AS lag_s
FROM pg_stat_replication t
LEFT JOIN pg_replication_slots s ON s.active_pid = t.pid
CROSS JOIN LATERAL (SELECT CASE WHEN t.state = 'backup' THEN 'base backup' WHEN s.slot_type = 'logical' THEN 'logical receiver'
                                WHEN t.replay_lsn IS NULL THEN 'receiver of WAL' ELSE 'replica' END AS kind) k
-- A replica passes on what it has received, replayed or not.
CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                        ELSE pg_current_wal_lsn() END AS lsn) h
