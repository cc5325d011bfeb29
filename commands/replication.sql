/*
summary = "Replication lag of every replica, and the WAL that slots retain"
group = "databases"
risk = "read"
scope = "server"
example = "replication"
details = "The primary reports how far its replicas are behind, and each replica how late it is. A replica that has lost its primary can't measure its lag, so none is shown. A slot retains WAL until its consumer has read it; without a consumer the WAL can fill the disk."
needs_pg_read_all_stats = true
sort = "kept_bytes"
rows_severity = "ok"
verdict_empty = "No server was asked."
verdict = "{target}: {_says}."
row_action_if = "_unneeded"
next = "If slot {slot} is no longer needed, its owner can drop it: `SELECT pg_drop_replication_slot('{slot}')`"

[thresholds]
_cut_off = { warning = 1, critical = 1, message = "{target} is a replica that has lost its primary (receiver: {receiver}): {_last_change}; how far it is behind is unknown. `environments` shows whether the primary answers." }
_paused = { warning = 1, message = "{target} is a replica with paused replay. Resume it: `SELECT pg_wal_replay_resume()`" }
late_s = { warning = 60, critical = 600, message = "{target} is a replica {value} behind its primary." }
unreplayed_bytes = { warning = 52428800, critical = 104857600, message = "{target} is a replica with {value} of received WAL not replayed yet." }
_sync_missing = { warning = 1, critical = 1, message = "{target}: synchronous_standby_names requires a replica that isn't connected, so commits wait for it." }
lag_s = { warning = 60, critical = 600, message = "{replica} is {value} behind {target}." }
behind_bytes = { warning = 52428800, critical = 104857600, message = "{replica} is {value} of WAL behind {target}." }
_lost = { warning = 1, critical = 1, message = "{target}: slot {slot} is invalidated; its consumer must be set up again." }
_losing = { warning = 1, critical = 1, message = "{target}: slot {slot} needs WAL that the next checkpoint may remove; then the slot is lost." }
_unused_bytes = { warning = 0, critical = 5368709120, message = "{target}: slot {slot} has no consumer and retains {value} of WAL." }
_late_bytes = { warning = 1073741824, critical = 5368709120, message = "{target}: slot {slot} is in use, but its consumer is so far behind that {value} of WAL is retained." }
_xid_age = { warning = 50000000, critical = 200000000, message = "{target}: slot {slot} holds VACUUM back by {value} transactions." }
*/
-- ## Servers [server facts]
SELECT CASE WHEN h.standby THEN 'replica' ELSE 'primary' END AS role,
       CASE WHEN NOT h.standby THEN t.replicas END AS replicas,
       CASE WHEN h.standby THEN COALESCE(v.status, 'not connected') END AS receiver,
       l.unreplayed_bytes, l.late_s,
       CASE WHEN h.standby THEN pg_last_xact_replay_timestamp() END AS last_change_at,
       CASE WHEN h.standby AND v.status IS DISTINCT FROM 'streaming' THEN 1 END AS _cut_off,
       COALESCE('its last change is from ' || to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC',
                'it has replayed no change since its start') AS _last_change,
       CASE WHEN h.standby THEN CASE WHEN pg_is_wal_replay_paused() THEN 1 END END AS _paused,
       CASE WHEN NOT h.standby AND current_setting('synchronous_standby_names') <> '' AND t.synchronous = 0 THEN 1 END AS _sync_missing,
       CASE WHEN h.standby AND l.late_s = 0 THEN 'the replica has replayed everything its primary has sent'
            WHEN h.standby THEN 'the replica follows its primary'
            ELSE CASE t.replicas WHEN 0 THEN 'no replica is connected' WHEN 1 THEN '1 replica is connected'
                                 ELSE t.replicas || ' replicas are connected' END
              || CASE s.slots WHEN 0 THEN ', and there are no slots' WHEN 1 THEN ', and the only slot is in use'
                              ELSE ', and all ' || s.slots || ' slots are in use' END END AS _says
FROM (SELECT pg_is_in_recovery() AS standby) h
LEFT JOIN pg_stat_wal_receiver v ON true
-- Received = replayed also holds on a replica that has lost its primary: it means "caught up" only while WAL is streaming. What the
-- primary reports as written counts too. If there is no WAL to replay, the age of the last change is the primary's idle time, not a lag.
CROSS JOIN LATERAL (
  SELECT CASE WHEN v.status = 'streaming'
              THEN greatest(pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), v.latest_end_lsn), pg_last_wal_replay_lsn()), 0)::bigint
         END AS unreplayed_bytes) u
CROSS JOIN LATERAL (
  SELECT u.unreplayed_bytes,
         CASE WHEN u.unreplayed_bytes = 0 THEN 0
              WHEN u.unreplayed_bytes > 0 THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
         END::float8 AS late_s) l
CROSS JOIN (SELECT count(*) FILTER (WHERE state IN ('streaming', 'catchup')) AS replicas,
                   count(*) FILTER (WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')) AS synchronous
            FROM pg_stat_replication) t
CROSS JOIN (SELECT count(*) AS slots FROM pg_replication_slots) s;

-- ## Replicas [server]
SELECT COALESCE(NULLIF(t.application_name, ''), t.usename, '-')::text AS replica, host(t.client_addr) AS client,
       t.state || CASE WHEN s.slot_type = 'logical' THEN ', logical' ELSE ', ' || t.sync_state END AS state,
       CASE WHEN t.replay_lsn >= h.lsn THEN 0 ELSE pg_wal_lsn_diff(h.lsn, t.replay_lsn) END::bigint AS behind_bytes,
       -- PostgreSQL keeps showing the last measured lag for a while after everything has been replayed.
       CASE WHEN t.replay_lsn >= h.lsn THEN 0 ELSE extract(epoch FROM t.replay_lag) END::float8 AS lag_s
FROM pg_stat_replication t
LEFT JOIN pg_replication_slots s ON s.active_pid = t.pid
CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) h
ORDER BY behind_bytes DESC NULLS LAST, 1
LIMIT 30;

-- ## Slots [server]
SELECT s.slot_name::text AS slot, s.slot_type || COALESCE(' of ' || s.database, '') AS kind,
       CASE WHEN f.lost THEN 'invalidated' || COALESCE(': ' || replace(f.reason, '_', ' '), '')
            WHEN s.active THEN 'in use' WHEN f.synced THEN 'synced from the primary' ELSE 'no consumer' END AS state,
       k.kept_bytes, f.wal_status AS wal, f.left_bytes, f.unused_s,
       CASE WHEN f.lost THEN 1 END AS _lost,
       CASE WHEN f.wal_status = 'unreserved' THEN 1 END AS _losing,
       CASE WHEN NOT f.lost AND NOT s.active AND NOT f.synced THEN COALESCE(k.kept_bytes, 0) END AS _unused_bytes,
       CASE WHEN s.active THEN k.kept_bytes END AS _late_bytes,
       greatest(age(s.xmin), age(s.catalog_xmin))::bigint AS _xid_age,
       NOT s.active AND NOT f.synced AS _unneeded
FROM pg_replication_slots s
-- A column that this version doesn't have is NULL: the names are those of PostgreSQL 13 to 18.
CROSS JOIN LATERAL (SELECT to_jsonb(s) AS j) x
CROSS JOIN LATERAL (
  SELECT x.j ->> 'wal_status' AS wal_status, (x.j ->> 'safe_wal_size')::bigint AS left_bytes,
         COALESCE(x.j ->> 'invalidation_reason', CASE WHEN (x.j ->> 'conflicting')::boolean THEN 'conflict' END) AS reason,
         COALESCE(x.j ->> 'wal_status' = 'lost', false) OR x.j ->> 'invalidation_reason' IS NOT NULL
           OR COALESCE((x.j ->> 'conflicting')::boolean, false) AS lost,
         COALESCE((x.j ->> 'synced')::boolean, false) AND pg_is_in_recovery() AS synced,
         extract(epoch FROM clock_timestamp() - (x.j ->> 'inactive_since')::timestamptz)::float8 AS unused_s) f
CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) h
CROSS JOIN LATERAL (SELECT CASE WHEN s.restart_lsn < h.lsn THEN pg_wal_lsn_diff(h.lsn, s.restart_lsn)::bigint
                                WHEN s.restart_lsn IS NOT NULL THEN 0 END AS kept_bytes) k
ORDER BY kept_bytes DESC NULLS LAST, 1
LIMIT 30
