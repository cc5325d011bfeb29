-- How far this server, if it is a replica, is behind: of what it has received, of its upstream, and of its primary, which is the one of
-- the environment's servers with the same system and the newest timeline. A primary gives a row of nothing.
WITH positions AS (
  SELECT p.server, p.host, p.port, p.walsenders, p.position ->> 'system' AS system, (p.position ->> 'timeline')::int AS timeline,
         NULLIF(p.position ->> 'lsn', '')::pg_lsn AS lsn
  FROM json_to_recordset(:'wal_positions'::json) AS p(server text, host text, port int, position json, walsenders json)
), own AS (
  SELECT pg_is_in_recovery() AS standby, (SELECT system_identifier FROM pg_control_system())::text AS system
), receiver AS (
  SELECT status, sender_host, sender_port, latest_end_lsn, slot_name::text AS slot,
         COALESCE(NULLIF(sender_host, '') || ':' || sender_port, 'its upstream') AS address,
         -- The server shows it without quotes.
         COALESCE(substring(' ' || conninfo || ' end=' FROM ' application_name=(.*?) [a-z_]+='),
                  substring(' ' || conninfo || ' end=' FROM ' fallback_application_name=(.*?) [a-z_]+=')) AS name
  FROM pg_stat_wal_receiver
)
SELECT h.standby, v.status AS receiver, u.name AS upstream, b.server AS "primary", b.behind_bytes, r.unreplayed_bytes,
       CASE WHEN r.unreplayed_bytes = 0 AND b.behind_bytes = 0 THEN 0 WHEN r.unreplayed_bytes > 0 THEN k.lag_s END::float8 AS late_s,
       CASE WHEN r.unreplayed_bytes > 0 AND k.lag_s IS NULL OR r.unreplayed_bytes = 0 AND b.behind_bytes > 0
            THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END::float8 AS late_at_most_s,
       CASE WHEN h.standby THEN pg_is_wal_replay_paused() END AS paused
FROM own h
LEFT JOIN receiver v ON true
-- Of two primaries of one system, one was left behind by a failover.
LEFT JOIN LATERAL (SELECT p.server, greatest(pg_wal_lsn_diff(p.lsn, pg_last_wal_replay_lsn()), 0)::bigint AS behind_bytes
                   FROM positions p WHERE h.standby AND p.system = h.system AND p.lsn IS NOT NULL
                   ORDER BY p.timeline DESC, p.lsn DESC LIMIT 1) b ON true
LEFT JOIN LATERAL (SELECT COALESCE((SELECT min(p.server) FROM positions p WHERE p.host = v.sender_host AND p.port = v.sender_port),
                                   CASE WHEN v.status IS NOT NULL THEN v.address END) AS name) u ON h.standby
-- The upstream knows since when something is missing; the replica knows only when the last change that it has was made, and that is the
-- primary's idle time, too. Two replicas of one name are told apart by their slots only.
LEFT JOIN LATERAL (SELECT max(w.lag_s) AS lag_s
                   FROM positions p CROSS JOIN LATERAL json_to_recordset(p.walsenders) AS w(name text, slot text, kind text, lag_s float8)
                   WHERE p.system = h.system AND w.kind = 'replica'
                     AND CASE WHEN v.slot IS NULL THEN w.slot IS NULL AND w.name = v.name ELSE w.slot = v.slot END) k ON h.standby
-- Received = replayed also holds on a replica that has lost its primary: it means "caught up" only while WAL is streaming. What the
-- upstream reports as written counts too.
CROSS JOIN LATERAL (
  SELECT CASE WHEN v.status = 'streaming'
              THEN greatest(pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), v.latest_end_lsn), pg_last_wal_replay_lsn()), 0)::bigint
         END AS unreplayed_bytes) r
