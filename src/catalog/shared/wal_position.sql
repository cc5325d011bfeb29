-- The place of a server's WAL, and which servers' WAL it can be compared with: those of the same system.
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system, (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
       pg_is_in_recovery() AS standby, CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END AS lsn
