/*
summary  = "Whether the replicas follow, how far behind they are, and what the slots keep"
group    = "databases"
risk     = "read"
scope    = "server"
example  = "replication"
details  = "Asks both sides: a primary what its replicas still lack, a replica how late it is. A replica without a connection to its primary can't know how late it is, so it shows none. A slot keeps WAL for whoever reads it, until the disk is full if nobody does."
needs_pg_read_all_stats = true
sort     = "kept_bytes"
rows_severity = "ok"
verdict_empty = "No server was asked."
verdict  = "{target}: {_says}."
row_action_if = "_unneeded"
next     = "If nobody will need the slot {slot} again, its owner drops it: `SELECT pg_drop_replication_slot('{slot}')`."

[thresholds]
_cut_off         = { warning = 1, critical = 1, message = "{target} is a replica cut off from its primary ({receiver}): {_last_change}, and what it lacks can't be told from here. `environments` shows whether the primary answers." }
_paused          = { warning = 1, message = "{target} is a replica on which somebody has paused the replay: `SELECT pg_wal_replay_resume()` lets it go on." }
late_s           = { warning = 60, critical = 600, message = "{target} is a replica that is {value} behind its primary." }
unreplayed_bytes = { warning = 52428800, critical = 104857600, message = "{target} is a replica with {value} received and not replayed." }
_sync_missing    = { warning = 1, critical = 1, message = "{target}: synchronous_standby_names asks for a replica that isn't there, so commits wait for it." }
lag_s            = { warning = 60, critical = 600, message = "{replica} is {value} behind {target}." }
behind_bytes     = { warning = 52428800, critical = 104857600, message = "{replica} lacks {value} of what {target} has written." }
_lost            = { warning = 1, critical = 1, message = "{target}: the slot {slot} is invalidated; whoever reads it must be set up anew." }
_losing          = { warning = 1, critical = 1, message = "{target}: the slot {slot} needs WAL that the next checkpoint may remove; then it is lost." }
_unused_bytes    = { warning = 0, critical = 5368709120, message = "{target}: nobody reads the slot {slot}, and it keeps {value} of WAL." }
_late_bytes      = { warning = 1073741824, critical = 5368709120, message = "{target}: the slot {slot} is in use, but so far behind that it keeps {value} of WAL." }
_xid_age         = { warning = 50000000, critical = 200000000, message = "{target}: the slot {slot} holds VACUUM back by {value} transactions." }
*/
-- ## Servers [server facts]
SELECT CASE WHEN h.standby THEN 'replica' ELSE 'primary' END AS role,
       CASE WHEN NOT h.standby THEN t.replicas END AS replicas,
       CASE WHEN h.standby THEN COALESCE(v.status, 'not connected') END AS receiver,
       l.unreplayed_bytes, l.late_s,
       CASE WHEN h.standby THEN pg_last_xact_replay_timestamp() END AS last_change_at,
       CASE WHEN h.standby AND v.status IS DISTINCT FROM 'streaming' THEN 1 END AS _cut_off,
       COALESCE('its last change is of ' || to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC',
                'it has replayed no change since it was started') AS _last_change,
       CASE WHEN h.standby THEN CASE WHEN pg_is_wal_replay_paused() THEN 1 END END AS _paused,
       CASE WHEN NOT h.standby AND current_setting('synchronous_standby_names') <> '' AND t.synchronous = 0 THEN 1 END AS _sync_missing,
       CASE WHEN h.standby AND l.late_s = 0 THEN 'a replica that has replayed all that its primary has sent'
            WHEN h.standby THEN 'a replica that follows its primary'
            ELSE CASE t.replicas WHEN 0 THEN 'no replica is connected' WHEN 1 THEN '1 replica follows'
                                 ELSE t.replicas || ' replicas follow' END
              || CASE s.slots WHEN 0 THEN ', and there is no slot' WHEN 1 THEN ', and the one slot is in use'
                              ELSE ', and all ' || s.slots || ' slots are in use' END END AS _says
FROM (SELECT pg_is_in_recovery() AS standby) h
LEFT JOIN pg_stat_wal_receiver v ON true
-- Received = replayed on a replica that is cut off, too: only while WAL streams in does it mean that nothing is missing. What
-- the primary says to have written counts as well. With nothing to replay, the age of the last change tells how long the
-- primary has been idle, and no lag.
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
       -- The last lag that was measured stands there for a while after everything has been replayed.
       CASE WHEN t.replay_lsn >= h.lsn THEN 0 ELSE extract(epoch FROM t.replay_lag) END::float8 AS lag_s
FROM pg_stat_replication t
LEFT JOIN pg_replication_slots s ON s.active_pid = t.pid
CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) h
ORDER BY behind_bytes DESC NULLS LAST, 1
LIMIT 30;

-- ## Slots [server]
SELECT s.slot_name::text AS slot, s.slot_type || COALESCE(' of ' || s.database, '') AS kind,
       CASE WHEN f.lost THEN 'invalidated' || COALESCE(': ' || replace(f.reason, '_', ' '), '')
            WHEN s.active THEN 'in use' WHEN f.synced THEN 'kept in step with the primary''s' ELSE 'nobody reads it' END AS state,
       k.kept_bytes, f.wal_status AS wal, f.left_bytes, f.unused_s,
       CASE WHEN f.lost THEN 1 END AS _lost,
       CASE WHEN f.wal_status = 'unreserved' THEN 1 END AS _losing,
       CASE WHEN NOT f.lost AND NOT s.active AND NOT f.synced THEN COALESCE(k.kept_bytes, 0) END AS _unused_bytes,
       CASE WHEN s.active THEN k.kept_bytes END AS _late_bytes,
       greatest(age(s.xmin), age(s.catalog_xmin))::bigint AS _xid_age,
       NOT s.active AND NOT f.synced AS _unneeded
FROM pg_replication_slots s
-- What a version lacks is NULL: the column names are PostgreSQL 13's to 18's.
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
