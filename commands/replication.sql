/*
summary = "Replication lag of every replica, and the WAL that slots retain"
group = "databases"
risk = "read"
scope = "server"
needs = ["sessions"]
example = "replication"
details = "The primary reports how far its replicas are behind, and each replica what it is missing of the primary's WAL. If nothing is missing, it is not late, however old its last change is. A replica that has lost its primary can't measure its lag, so none is shown. What receives WAL is named by what it does, because a client chooses its name itself: pg_receivewal and pg_basebackup replay nothing and have no lag. A slot retains WAL until its consumer has read it; without a consumer the WAL can fill the disk."
sort = "kept_bytes"
rows_severity = "ok"
verdict_empty = "No server was asked."
verdict = "{target}: {_says}."
row_action_if = "_unneeded"
next = "If slot {slot} is no longer needed, its owner can drop it: `SELECT pg_drop_replication_slot('{slot}')`"

[thresholds]
_cut_off = { warning = 1, critical = 1, message = "{target} is a replica that has lost its primary (receiver: {receiver}): {_last_change}; how far it is behind is unknown. `environments` shows whether the primary answers." }
cut_off_bytes = { column = "_cut_off_bytes", critical = 0, message = "{target} is a replica that has lost its primary (receiver: {receiver}): {_last_change}, and it is {value} of WAL behind {_primary}. `environments` shows whether the primary answers." }
_paused = { warning = 1, message = "{target} is a replica with paused replay. Resume it: `SELECT pg_wal_replay_resume()`" }
late_s = { warning = 60, critical = 600, message = "{target} is a replica {value} behind its upstream.", next = "`long` shows statements that hold replay back." }
late_at_most_s = { column = "late at most_s", warning = 60, message = "{target} is a replica at most {value} behind its primary: it misses WAL, and its last change is that old.", next = "`environments` shows which servers answer." }
behind_primary_bytes = { column = "behind primary_bytes", warning = 52428800, critical = 104857600, message = "{target} is a replica {value} of WAL behind its primary.", next = "`environments` shows which servers answer." }
unreplayed_bytes = { warning = 52428800, critical = 104857600, message = "{target} is a replica with {value} of received WAL not replayed yet.", next = "`long` shows statements that hold replay back." }
_sync_missing = { warning = 1, critical = 1, message = "{target}: synchronous_standby_names requires {_needed}, of which {_present} connected, so {_commits}{_waiting}.", next = "`settings synchronous` shows the settings." }
_sync_unused = { warning = 1, message = "{target}: synchronous_standby_names requires {_needed}, of which {_present} connected; no commit waits, because synchronous_commit is off or local.", next = "`settings synchronous` shows the settings." }
_sync_wait_s = { warning = 5, critical = 60, message = "{target}: {_sync_waiting} waiting for a synchronous standby that is connected, the longest for at most {value}. `blocked` shows them." }
lag_s = { warning = 60, critical = 600, message = "The {_what} is {value} behind {target}.", next = "`storage` shows how much WAL is kept." }
behind_bytes = { warning = 52428800, critical = 104857600, message = "The {_what} is {value} of WAL behind {target}.", next = "`storage` shows how much WAL is kept." }
_lost = { warning = 1, critical = 1, message = "{target}: slot {slot} is invalidated; its consumer must be set up again.", next = "`settings max_slot_wal_keep_size` shows the limit." }
_losing = { warning = 1, critical = 1, message = "{target}: slot {slot} needs WAL that the next checkpoint may remove; then the slot is lost.", next = "`settings max_slot_wal_keep_size` shows the limit." }
_unused_bytes = { warning = 0, critical = 5368709120, message = "{target}: slot {slot} has no consumer and retains {value} of WAL.", next = "`storage` shows how much WAL is kept." }
_late_bytes = { warning = 1073741824, critical = 5368709120, message = "{target}: slot {slot} is in use, but its consumer is so far behind that {value} of WAL is retained.", next = "`storage` shows how much WAL is kept." }
_xid_age = { warning = 50000000, critical = 200000000, message = "{target}: slot {slot} holds VACUUM back by {value} transactions.", next = "`autovacuum` shows what else holds VACUUM back." }
*/
-- ## Servers [server facts]
WITH walsenders AS (
  SELECT * FROM json_to_recordset(:'walsenders'::json) AS w(kind text, state text)
), counts AS (
  SELECT count(*) FILTER (WHERE kind = 'replica') AS replicas, count(*) FILTER (WHERE kind = 'receiver of WAL') AS receivers,
         count(*) FILTER (WHERE kind = 'logical receiver') AS logical, count(*) FILTER (WHERE kind = 'base backup') AS backups
  FROM walsenders WHERE state IN ('streaming', 'catchup', 'backup')
), standbys AS (
  SELECT *, CASE needed WHEN 1 THEN '1 synchronous standby' ELSE needed || ' synchronous standbys' END AS needed_words,
         CASE waiting WHEN 1 THEN '1 session is' ELSE waiting || ' sessions are' END AS waiting_words
  FROM json_to_recordset(:'standbys'::json)
    AS y(needed int, present int, missing int, waiting int, waiting_at_most_s float8, commits text)
), replay AS (
  SELECT * FROM json_to_recordset(:'replay'::json)
    AS r(receiver text, upstream text, "primary" text, behind_bytes bigint, unreplayed_bytes bigint, late_s float8, late_at_most_s float8,
         paused boolean)
)
SELECT CASE WHEN h.standby THEN 'replica' ELSE 'primary' END AS role,
       CASE WHEN NOT h.standby OR c.replicas > 0 THEN c.replicas END AS replicas,
       NULLIF(c.receivers, 0) AS "receivers of WAL", NULLIF(c.logical, 0) AS "logical receivers", NULLIF(c.backups, 0) AS "base backups",
       CASE WHEN h.standby THEN COALESCE(r.receiver, 'not connected') END AS receiver,
       r.upstream AS upstream, r.behind_bytes AS "behind primary_bytes",
       r.unreplayed_bytes, r.late_s, r.late_at_most_s AS "late at most_s",
       CASE WHEN h.standby THEN pg_last_xact_replay_timestamp() END AS last_change_at,
       CASE WHEN h.standby AND r.receiver IS DISTINCT FROM 'streaming' AND r.behind_bytes IS NULL THEN 1 END AS _cut_off,
       CASE WHEN h.standby AND r.receiver IS DISTINCT FROM 'streaming' THEN r.behind_bytes END AS _cut_off_bytes, r."primary" AS _primary,
       COALESCE('its last change is from ' || to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC',
                'it has replayed no change since its start') AS _last_change,
       CASE WHEN r.paused THEN 1 END AS _paused,
       CASE WHEN y.commits IS NOT NULL THEN NULLIF(y.missing, 0) END AS _sync_missing,
       CASE WHEN y.commits IS NULL THEN NULLIF(y.missing, 0) END AS _sync_unused,
       CASE WHEN y.missing = 0 AND y.waiting > 0 THEN y.waiting_at_most_s END AS _sync_wait_s,
       y.needed_words AS _needed, CASE y.present WHEN 0 THEN 'none is' WHEN 1 THEN '1 is' ELSE y.present || ' are' END AS _present, y.commits AS _commits,
       CASE y.waiting WHEN 0 THEN '' ELSE '; ' || y.waiting_words || ' waiting now' END AS _waiting, y.waiting_words AS _sync_waiting,
       CASE WHEN h.standby AND r.late_s = 0 THEN 'the replica has replayed everything its primary has written'
            WHEN h.standby AND r.receiver = 'streaming' AND r.unreplayed_bytes = 0 AND r.behind_bytes IS NULL
            THEN 'the replica has replayed everything that its upstream (' || r.upstream || ') has sent; how far that is behind the primary is unknown'
            WHEN h.standby THEN 'the replica follows its primary'
            ELSE CASE c.replicas WHEN 0 THEN 'no replica is connected' WHEN 1 THEN '1 replica is connected'
                                 ELSE c.replicas || ' replicas are connected' END
              || CASE c.receivers WHEN 0 THEN '' WHEN 1 THEN ', and 1 receiver of WAL that replays nothing'
                                  ELSE ', and ' || c.receivers || ' receivers of WAL that replay nothing' END
              || CASE c.logical WHEN 0 THEN '' WHEN 1 THEN ', and 1 logical receiver' ELSE ', and ' || c.logical || ' logical receivers' END
              || CASE c.backups WHEN 0 THEN '' WHEN 1 THEN ', and 1 base backup' ELSE ', and ' || c.backups || ' base backups' END
              || CASE s.slots WHEN 0 THEN ', and there are no slots' WHEN 1 THEN ', and the only slot is in use'
                              ELSE ', and all ' || s.slots || ' slots are in use' END END AS _says
FROM (SELECT pg_is_in_recovery() AS standby) h
CROSS JOIN counts c
CROSS JOIN (SELECT count(*) AS slots FROM pg_replication_slots) s
LEFT JOIN standbys y ON true
LEFT JOIN replay r ON true;

-- ## Replicas and other receivers of WAL [server]
-- Looked at: WAL receivers
SELECT w.name, w.kind, w.client, concat_ws(', ', w.state, CASE WHEN w.kind <> 'logical receiver' THEN w.sync_state END) AS state,
       w.behind_bytes, w.lag_s, w.kind || ' ' || w.name AS _what
FROM json_to_recordset(:'walsenders'::json)
  AS w(name text, kind text, client text, state text, sync_state text, behind_bytes bigint, lag_s float8)
ORDER BY w.behind_bytes DESC NULLS LAST, 1
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
