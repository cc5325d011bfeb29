/*
summary = "Check that every service answers, and look for common problems"
group = "databases"
risk = "read"
scope = "database"
args = [{ name = "service", type = "service", positional = true, help = "one service; all services if omitted" }]
example = "health"
details = "`health` asks every service's database and every server in parallel and waits at most 5 s for each. It checks connections, lock waits, idle and long transactions, prepared transactions, XID wraparound, replication and cache hits. Rates are counted since the last statistics reset; a database with too few reads shows no cache hit rate."
needs_pg_read_all_stats = true
timeout = "5s"
rows_severity = "ok"
verdict = "All services answer. No problem found with connections, locks, transactions, wraparound or replication."
verdict_empty = "No configured service runs in this environment."

[thresholds]
connections_pct = { warning = 75, critical = 90, message = "{target}: {_taken} of {_usable} connections are in use ({value}). `connections` shows by which applications." }
waiting_s = { warning = 0, critical = 60, message = "{target}: {_blocked} waiting for a lock, the longest for {value}. `blocked` shows the root blocker." }
blocked = { warning = 1, message = "" }
idle_in_transaction_s = { warning = 300, critical = 900, message = "{target}: pid {_idle_pid} ({_idle_app}) has been idle in a transaction for {value}. To end it: `kill {_idle_pid}`" }
oldest_transaction_s = { warning = 43200, critical = 86400, message = "{target}: a transaction has been open for {value}; VACUUM can't remove rows that died since then. `long` shows the session." }
wraparound_pct = { column = "XID wraparound_pct", warning = 50, critical = 75, message = "{target}: {_oldest_database} is {value} of the way to XID wraparound and needs VACUUM." }
_prepared_s = { warning = 300, critical = 3600, message = "{target}: the prepared transaction {_gid} has held its locks for {value}. Its owner must commit it or roll it back." }
behind_bytes = { warning = 52428800, critical = 104857600, message = "{target}: a replica is {value} behind." }
lag_s = { warning = 60, critical = 600, message = "{target}: replication is {value} behind." }
_cut_off = { warning = 1, critical = 1, message = "{target} is a replica that has lost its primary: its data is out of date." }
cache_hit_pct = { warning = 95, below = true, message = "{target}: only {value} of the reads came from memory. `slow --by io` shows which statements read from disk." }
*/
-- ## Services
SELECT count(a.pid) AS sessions,
       count(a.pid) FILTER (WHERE a.wait_event_type = 'Lock') AS blocked,
       extract(epoch FROM clock_timestamp() - min(a.xact_start))::float8 AS transaction_s,
       -- With fewer reads the rate only shows that the server was started recently.
       CASE WHEN d.blks_hit + d.blks_read > 100000
            THEN (100.0 * d.blks_hit / (d.blks_hit + d.blks_read))::float8 END AS cache_hit_pct,
       d.deadlocks
FROM pg_stat_database d
LEFT JOIN pg_stat_activity a
       ON a.datid = d.datid AND a.backend_type = 'client backend' AND a.usename <> current_user
WHERE d.datname = current_database()
GROUP BY d.blks_hit, d.blks_read, d.deadlocks;

-- ## Server [server facts]
SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END AS role,
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 AS uptime_s,
       (100.0 * s.taken / NULLIF(c.usable, 0))::float8 AS connections_pct, s.taken AS _taken, c.usable AS _usable,
       s.blocked, CASE s.blocked WHEN 1 THEN '1 session is' ELSE s.blocked || ' sessions are' END AS _blocked,
       s.waiting_s, s.idle_in_transaction_s, s.idle_pid AS _idle_pid, s.idle_app AS _idle_app, s.oldest_transaction_s,
       w.wraparound_pct AS "XID wraparound_pct", w.oldest_database AS _oldest_database,
       p.prepared AS prepared_transactions, p.prepared_s AS _prepared_s, p.gid AS _gid,
       r.replicas, r.behind_bytes,
       CASE WHEN NOT pg_is_in_recovery() THEN r.lag_s
            -- On a replica that is cut off, received = replayed holds too: without a receiver the lag is unknown.
            WHEN v.status = 'streaming' AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            WHEN v.status = 'streaming'
            THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END::float8 AS lag_s,
       CASE WHEN pg_is_in_recovery() THEN COALESCE(v.status, 'not connected') END AS receiver,
       CASE WHEN pg_is_in_recovery() AND v.status IS DISTINCT FROM 'streaming' THEN 1 END AS _cut_off
FROM (SELECT count(*) AS taken,
             count(*) FILTER (WHERE wait_event_type = 'Lock') AS blocked,
             extract(epoch FROM clock_timestamp() - min(query_start) FILTER (WHERE wait_event_type = 'Lock'))::float8 AS waiting_s,
             extract(epoch FROM clock_timestamp() - min(state_change) FILTER (WHERE state LIKE 'idle in transaction%'))::float8
               AS idle_in_transaction_s,
             (array_agg(pid ORDER BY state_change) FILTER (WHERE state LIKE 'idle in transaction%'))[1] AS idle_pid,
             (array_agg(application_name ORDER BY state_change) FILTER (WHERE state LIKE 'idle in transaction%'))[1] AS idle_app,
             extract(epoch FROM clock_timestamp() - min(xact_start) FILTER (WHERE usename <> current_user))::float8
               AS oldest_transaction_s
      FROM pg_stat_activity WHERE backend_type = 'client backend') s
CROSS JOIN (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                   - COALESCE(NULLIF(current_setting('reserved_connections', true), '')::int, 0) AS usable) c
CROSS JOIN (SELECT max(100.0 * greatest(age(datfrozenxid), mxid_age(datminmxid)) / 2000000000)::float8 AS wraparound_pct,
                   (array_agg(datname::text ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC))[1] AS oldest_database
            FROM pg_database) w
CROSS JOIN (SELECT count(*) AS prepared, min(gid) FILTER (WHERE prepared = oldest) AS gid,
                   extract(epoch FROM clock_timestamp() - min(oldest))::float8 AS prepared_s
            FROM (SELECT gid, prepared, min(prepared) OVER () AS oldest FROM pg_prepared_xacts) x) p
CROSS JOIN (SELECT NULLIF(count(*), 0) AS replicas, max(pg_wal_lsn_diff(h.lsn, t.replay_lsn))::bigint AS behind_bytes,
                   extract(epoch FROM max(t.replay_lag))::float8 AS lag_s
            FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) h
            CROSS JOIN pg_stat_replication t) r
LEFT JOIN pg_stat_wal_receiver v ON true
