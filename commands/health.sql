/*
summary = "Check that every service answers, and look for common problems"
group = "databases"
risk = "read"
scope = "database"
args = [{ name = "service", type = "service", positional = true, help = "one service; all services if omitted" }]
example = "health"
details = "`health` asks every service's database and every server in parallel and waits at most 5 s for each. It checks connections, lock waits of clients and background processes, waits for synchronous standbys, idle and long transactions, prepared transactions, XID wraparound, replication and cache hits. Countersign's own transactions are left out. Rates are counted since the last statistics reset; a database with too few reads shows no cache hit rate."
needs_pg_read_all_stats = true
timeout = "5s"
rows_severity = "ok"
verdict = "All services answer. No problem found with connections, locks, transactions, wraparound or replication."
verdict_empty = "No configured service runs in this environment."

[limits]
_hidden = "{target}: {_hidden_sessions}: nothing can be said of {_them}."

[thresholds]
connections_pct = { warning = 75, critical = 90, message = "{target}: {_taken} of {_usable} connections are in use ({value}). `connections` shows by which applications." }
waiting_s = { warning = 0, critical = 60, message = "{target}: {_blocked} waiting for a lock, the longest for {value}. `blocked` shows the root blocker." }
waiting_at_most_s = { column = "_waiting_at_most_s", warning = 0, message = "{target}: {_blocked} waiting for a lock, the longest for at most {value}: PostgreSQL 13 knows when the statement began, not the wait. `blocked` shows the root blocker." }
blocked = { warning = 1, message = "" }
other_waits = { column = "_other_waits", warning = 1, message = "{target}: {_other_waiting} waiting for a buffer pin or a safe snapshot. `blocked` shows which." }
missing_standbys = { column = "_missing_standbys", critical = 1, message = "{target}: commits need {_standbys_needed} and have {_standbys}, so they hang; {_sync_waiting} waiting now. `replication` shows the standbys." }
sync_wait_s = { column = "_sync_wait_s", warning = 60, message = "{target}: {_sync_waiting} waiting for a synchronous standby, the longest for at most {value}. `replication` shows the standbys." }
idle_in_transaction_s = { warning = 300, critical = 900, message = "{target}: pid {_idle_pid} ({_idle_app}) has been idle in a transaction for {value}. To end it: `kill {_idle_pid}`" }
idle_superuser_s = { column = "_idle_superuser_s", warning = 300, critical = 900, message = "{target}: a superuser's session, pid {_superuser_pid} ({_superuser_app}), has been idle in a transaction for {value}; only a superuser can end it. `idle` shows it." }
oldest_transaction_s = { warning = 43200, critical = 86400, message = "{target}: pid {_oldest_pid} ({_oldest_app}) has had a transaction open for {value}{_held_back}. `long` shows it." }
wraparound_pct = { column = "XID wraparound_pct", warning = 50, critical = 75, message = "{target}: {_oldest_database} is {value} of the way to XID wraparound and needs VACUUM." }
_prepared_s = { warning = 300, critical = 3600, message = "{target}: the prepared transaction {_gid} has held its locks for {value}. Its owner must commit it or roll it back." }
behind_bytes = { warning = 52428800, critical = 104857600, message = "{target}: {_behind} is {value} behind. `replication` shows it." }
lag_s = { warning = 60, critical = 600, message = "{target}: replication is {value} behind." }
_cut_off = { warning = 1, critical = 1, message = "{target} is a replica that has lost its primary: its data is out of date." }
cache_hit_pct = { warning = 95, below = true, message = "{target}: only {value} of the reads came from memory. `slow --by io` shows which statements read from disk." }
*/
-- ## Services
SELECT count(a.pid) FILTER (WHERE a.backend_type = 'client backend' AND a.usename::text <> ALL (:'own_roles'::text[])) AS sessions,
       count(DISTINCT COALESCE(a.leader_pid, a.pid)) FILTER (WHERE w.pid IS NOT NULL) AS blocked,
       extract(epoch FROM clock_timestamp() - min(a.xact_start)
         FILTER (WHERE a.backend_type = 'client backend' AND a.usename::text <> ALL (:'own_roles'::text[])))::float8 AS transaction_s,
       -- With fewer reads the rate only shows that the server was started recently.
       CASE WHEN d.blks_hit + d.blks_read > 100000
            THEN (100.0 * d.blks_hit / (d.blks_hit + d.blks_read))::float8 END AS cache_hit_pct,
       d.deadlocks
FROM pg_stat_database d
LEFT JOIN pg_stat_activity a ON a.datid = d.datid
LEFT JOIN (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted) w ON w.pid = a.pid
WHERE d.datname = current_database()
GROUP BY d.blks_hit, d.blks_read, d.deadlocks;

-- ## Server [server facts]
WITH activity AS MATERIALIZED (
  SELECT a.*, COALESCE(NULLIF(a.application_name, ''), a.usename, '-')::text AS app, COALESCE(r.rolsuper, true) AS superuser,
         a.backend_type = 'client backend' AS client,
         a.backend_type = 'client backend' AND a.usename::text <> ALL (:'own_roles'::text[]) AS foreign_client
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
), idle AS (
  SELECT * FROM activity WHERE foreign_client AND state LIKE 'idle in transaction%'
), waits AS (
  -- waitstart exists from PostgreSQL 14 on; the statement's start is the earliest that a wait can have begun.
  SELECT extract(epoch FROM clock_timestamp() - min((to_jsonb(l) ->> 'waitstart')::timestamptz))::float8 AS waiting_s,
         CASE WHEN current_setting('server_version_num')::int < 140000
              THEN extract(epoch FROM clock_timestamp() - min(a.query_start))::float8 END AS waiting_at_most_s,
         count(DISTINCT COALESCE(a.leader_pid, a.pid)) AS blocked
  FROM pg_locks l JOIN activity a ON a.pid = l.pid WHERE NOT l.granted
), standbys AS (
  SELECT CASE WHEN pg_is_in_recovery() OR n.names = '' THEN 0
              ELSE COALESCE((regexp_match(n.names, '^\s*(?:first\s+|any\s+)?(\d+)\s*\(', 'i'))[1]::int, 1) END AS needed,
         (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS present
  FROM (SELECT btrim(current_setting('synchronous_standby_names')) AS names) n
), replicas AS (
  SELECT t.*, EXISTS (SELECT FROM pg_replication_slots o WHERE o.active_pid = t.pid AND o.slot_type = 'logical') AS logical,
         pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                         t.replay_lsn)::bigint AS bytes
  FROM pg_stat_replication t
)
SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END AS role,
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 AS uptime_s,
       (100.0 * s.taken / NULLIF(c.usable, 0))::float8 AS connections_pct, s.taken AS _taken, c.usable AS _usable,
       l.blocked, CASE l.blocked WHEN 1 THEN '1 session is' ELSE l.blocked || ' sessions are' END AS _blocked,
       -- A wait that begins at this moment has no start yet.
       CASE WHEN l.blocked > 0 AND l.waiting_at_most_s IS NULL THEN COALESCE(l.waiting_s, 0) END AS waiting_s,
       l.waiting_at_most_s AS _waiting_at_most_s,
       NULLIF(s.other_waits, 0) AS _other_waits,
       CASE s.other_waits WHEN 1 THEN '1 session is' ELSE s.other_waits || ' sessions are' END AS _other_waiting,
       y.missing AS _missing_standbys,
       CASE y.needed WHEN 1 THEN '1 synchronous standby' ELSE y.needed || ' synchronous standbys' END AS _standbys_needed,
       y.present AS _standbys,
       CASE s.sync_waits WHEN 1 THEN '1 session is' ELSE s.sync_waits || ' sessions are' END AS _sync_waiting,
       CASE WHEN y.missing IS NULL THEN s.sync_wait_s END AS _sync_wait_s,
       i.idle_in_transaction_s, i.idle_pid AS _idle_pid, i.idle_app AS _idle_app,
       i.superuser_s AS _idle_superuser_s, i.superuser_pid AS _superuser_pid, i.superuser_app AS _superuser_app,
       o.oldest_transaction_s, o.pid AS _oldest_pid, o.app AS _oldest_app, o.held_back AS _held_back,
       NULLIF(s.hidden, 0) AS _hidden, CASE s.hidden WHEN 1 THEN '1 session hides what it does (track_activities is off for it)'
         ELSE s.hidden || ' sessions hide what they do (track_activities is off for them)' END AS _hidden_sessions,
       CASE s.hidden WHEN 1 THEN 'it' ELSE 'them' END AS _them,
       w.wraparound_pct AS "XID wraparound_pct", w.oldest_database AS _oldest_database,
       p.prepared AS prepared_transactions, p.prepared_s AS _prepared_s, p.gid AS _gid,
       r.replicas, r.subscribers, r.behind_bytes, r.behind AS _behind,
       CASE WHEN NOT pg_is_in_recovery() THEN r.lag_s
            -- On a replica that is cut off, received = replayed holds too: without a receiver the lag is unknown.
            WHEN v.status = 'streaming' AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            WHEN v.status = 'streaming'
            THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END::float8 AS lag_s,
       CASE WHEN pg_is_in_recovery() THEN COALESCE(v.status, 'not connected') END AS receiver,
       CASE WHEN pg_is_in_recovery() AND v.status IS DISTINCT FROM 'streaming' THEN 1 END AS _cut_off
FROM (SELECT count(*) FILTER (WHERE client) AS taken,
             count(*) FILTER (WHERE wait_event_type = 'BufferPin' OR wait_event = 'SafeSnapshot') AS other_waits,
             count(*) FILTER (WHERE wait_event = 'SyncRep') AS sync_waits,
             extract(epoch FROM clock_timestamp() - min(query_start) FILTER (WHERE wait_event = 'SyncRep'))::float8 AS sync_wait_s,
             count(*) FILTER (WHERE foreign_client AND state = 'disabled') AS hidden
      FROM activity) s
CROSS JOIN waits l
CROSS JOIN LATERAL (SELECT b.needed, b.present,
                           -- Asynchronous commits don't wait.
                           CASE WHEN b.needed > b.present AND (s.sync_waits > 0 OR current_setting('synchronous_commit') NOT IN ('off', 'local'))
                                THEN b.needed - b.present END AS missing
                    FROM standbys b) y
CROSS JOIN (SELECT extract(epoch FROM clock_timestamp() - min(state_change) FILTER (WHERE NOT superuser))::float8 AS idle_in_transaction_s,
                   (array_agg(pid ORDER BY state_change) FILTER (WHERE NOT superuser))[1] AS idle_pid,
                   (array_agg(app ORDER BY state_change) FILTER (WHERE NOT superuser))[1] AS idle_app,
                   extract(epoch FROM clock_timestamp() - min(state_change) FILTER (WHERE superuser))::float8 AS superuser_s,
                   (array_agg(pid ORDER BY state_change) FILTER (WHERE superuser))[1] AS superuser_pid,
                   (array_agg(app ORDER BY state_change) FILTER (WHERE superuser))[1] AS superuser_app
            FROM idle) i
LEFT JOIN (SELECT pid, app, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS oldest_transaction_s,
                  CASE WHEN backend_xmin IS NOT NULL OR backend_xid IS NOT NULL THEN ' and holds VACUUM back' ELSE '' END AS held_back
           FROM activity WHERE foreign_client AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1) o ON true
CROSS JOIN (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                   - COALESCE(NULLIF(current_setting('reserved_connections', true), '')::int, 0) AS usable) c
CROSS JOIN (SELECT max(100.0 * greatest(age(datfrozenxid), mxid_age(datminmxid)) / 2147483648)::float8 AS wraparound_pct,
                   (array_agg(datname::text ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC))[1] AS oldest_database
            FROM pg_database) w
CROSS JOIN (SELECT count(*) AS prepared, min(gid) FILTER (WHERE prepared = oldest) AS gid,
                   extract(epoch FROM clock_timestamp() - min(oldest))::float8 AS prepared_s
            FROM (SELECT gid, prepared, min(prepared) OVER () AS oldest FROM pg_prepared_xacts) x) p
CROSS JOIN (SELECT NULLIF(count(*) FILTER (WHERE NOT logical), 0) AS replicas, NULLIF(count(*) FILTER (WHERE logical), 0) AS subscribers,
                   max(bytes) AS behind_bytes, extract(epoch FROM max(replay_lag))::float8 AS lag_s,
                   (array_agg(CASE WHEN logical THEN 'the subscriber ' ELSE 'the replica ' END
                              || COALESCE(NULLIF(application_name, ''), usename, '-') ORDER BY bytes DESC NULLS LAST))[1] AS behind
            FROM replicas) r
LEFT JOIN pg_stat_wal_receiver v ON true
