/*
summary = "Check that every service answers, and look for common problems"
group = "databases"
risk = "read"
scope = "database"
needs = ["sessions"]
args = [{ name = "service", type = "service", positional = true, help = "one service; all services if omitted" }]
example = "health"
details = "`health` asks every service's database and every server in parallel and waits at most 5 s for each. The answer lists the checks that were made on each server, the worst finding first, and names those that could not be made. Of the checks of databases (sequences, migrations, invalid indexes, backups), a server's row shows the worst database. Only Countersign's own dumps count as backups; a team with others sets the limits of `missing_backups` for an environment. Countersign's own transactions and the limits of its own roles are left out. Rates are counted since the last statistics reset; a database with too few reads shows no cache hit rate."
timeout = "5s"
sort = "_rank"
rows_severity = "ok"
verdict = "All services answer. No problem found with {checks}."
verdict_empty = "No configured service runs in this environment."

[limits]
_hidden = "{target}: {_hidden_sessions}: nothing can be said of {_them}. `settings track_activities` shows the setting."

[thresholds]
connections_pct = { warning = 75, critical = 90, message = "{target}: {_taken} of {_usable} connections are in use ({value}). `connections` shows by which applications." }
limit_pct = { column = "_limit_pct", warning = 75, critical = 100, message = "{target}: {_limited} has {_limit_taken} of {_limit} connections in use{_limit_reached}. `connections` shows by which applications." }
waiting_s = { warning = 0, critical = 10, urgent = true, message = "{target}: {_blocked} waiting for a lock, the longest for {value}. `blocked` shows the root blocker." }
waiting_at_most_s = { column = "_waiting_at_most_s", warning = 0, urgent = true, message = "{target}: {_blocked} waiting for a lock, the longest for at most {value}: PostgreSQL 13 knows when the statement began, not the wait. `blocked` shows the root blocker." }
blocked = { warning = 1, message = "" }
other_waits = { column = "_other_waits", warning = 1, message = "{target}: {_other_waiting} waiting for a buffer pin or a safe snapshot. `blocked` shows which." }
missing_standbys = { column = "_missing_standbys", critical = 1, urgent = true, message = "{target}: commits need {_standbys_needed} and have {_standbys}, so they hang; {_sync_waiting} waiting now. `replication` shows the standbys." }
sync_wait_s = { column = "_sync_wait_s", warning = 60, message = "{target}: {_sync_waiting} waiting for a synchronous standby, the longest for at most {value}. `replication` shows the standbys." }
idle_in_transaction_s = { warning = 300, critical = 900, message = "{target}: pid {_idle_pid} ({_idle_app}) has been idle in a transaction for {value}. To end it: `kill {_idle_pid}`" }
idle_superuser_s = { column = "_idle_superuser_s", warning = 300, critical = 900, message = "{target}: a superuser's session, pid {_superuser_pid} ({_superuser_app}), has been idle in a transaction for {value}; only a superuser can end it. `idle` shows it." }
oldest_transaction_s = { warning = 43200, critical = 86400, message = "{target}: pid {_oldest_pid} ({_oldest_app}) has had a transaction open for {value}{_held_back}. `long` shows it." }
wraparound_pct = { column = "XID wraparound_pct", warning = 50, critical = 75, message = "{target}: {_oldest_database} is {value} of the way to XID wraparound and needs VACUUM.", next = "`autovacuum` shows what holds VACUUM back." }
_prepared_s = { warning = 300, critical = 3600, message = "{target}: the prepared transaction {_gid} has held its locks for {value}. Its owner must commit it or roll it back.", next = "`blocked` shows who waits for it." }
behind_bytes = { warning = 52428800, critical = 104857600, message = "{target}: {_behind} is {value} behind. `replication` shows it." }
lag_s = { warning = 60, critical = 600, message = "{target}: replication is {value} behind. `replication` shows it." }
late_at_most_s = { column = "_late_at_most_s", warning = 60, message = "{target} is a replica at most {value} behind: it misses WAL, and its last change is that old. `replication` shows it." }
_paused = { warning = 1, message = "{target} is a replica with paused replay. `replication` shows it." }
_cut_off = { warning = 1, critical = 1, message = "{target} is a replica that has lost its primary: its data is out of date. `replication` shows it." }
unsafe_settings = { column = "_unsafe_settings", critical = 1, message = "{target}: {_unsafe}, so a crash of the server can corrupt its data. `settings {_unsafe_name}` shows the setting." }
unvacuumed_settings = { column = "_unvacuumed_settings", warning = 1, message = "{target}: {_unvacuumed}, so autovacuum doesn't run. `settings {_unvacuumed_name}` shows the setting." }
sequence_pct = { column = "_sequence_pct", warning = 75, critical = 90, message = "{target}: {_sequence} has used {value} of its range; {_left} numbers are left. `sequences {service}` shows the limits." }
failed_migrations = { column = "_failed_migrations", critical = 1, message = "{target}: {_failed}. Deploys are blocked (P3009) until it is marked as applied or rolled back. `migrations {service}` shows it." }
pending_migrations = { column = "_pending_migrations", warning = 1, message = "{target}: {_pending} pending. `migrations {service}` shows which." }
invalid_indexes = { column = "_invalid_indexes", warning = 1, message = "{target}: {_invalid} invalid. `indexes {service}` shows the step for each." }
interrupted_indexes = { column = "_interrupted_indexes", warning = 1, message = "{target}: {_invalid} invalid: unused by queries but still slowing writes. To rebuild the largest: `reindex {service} {_typed}`" }
missing_backups = { column = "_missing_backups", warning = 1, message = "{target}: no backup in Countersign's storage.", next = "To make one: `backup {service}`" }
backup_age_s = { column = "_backup_age_s", warning = 86400, critical = 259200, message = "{target}: the newest backup is {value} old. To make one: `backup {service}`" }
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

-- ## Server [server facts public]
SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END AS role,
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 AS uptime_s;

-- ## Connections [server check]
SELECT l.pct AS connections_pct, l.in_use AS _taken, l.allowed AS _usable, '{_taken} of {_usable} ({connections_pct})' AS result
FROM json_to_recordset(:'connection_limits'::json) AS l(kind text, in_use int, allowed int, pct float8) WHERE l.kind = 'server';

-- ## Connection limits [server check]
SELECT w.pct AS _limit_pct, concat_ws(' ', 'the', w.kind, w.name) AS _limited, w.in_use AS _limit_taken, w.allowed AS _limit,
       CASE WHEN w.free = 0 THEN ': no other login is possible' ELSE '' END AS _limit_reached,
       CASE WHEN w.kind IS NULL THEN 'none set' ELSE 'nearest {_limit_pct}' END AS result
FROM (VALUES (1)) always
-- Countersign keeps its connections open: its own roles may come near their limits.
LEFT JOIN (SELECT * FROM json_to_recordset(:'connection_limits'::json)
                         AS l(kind text, name text, in_use int, allowed int, free int, shut boolean, pct float8, databases text[])
           WHERE kind <> 'server' AND NOT shut AND (free = 0 OR kind <> 'role' OR name <> ALL (:'own_roles'::text[]))
             AND (NULLIF(:'database', '') IS NULL OR :'database' = ANY (databases))
           ORDER BY pct DESC, name LIMIT 1) w ON true;

-- ## Locks [server check]
SELECT w.blocked, CASE w.blocked WHEN 1 THEN '1 session is' ELSE w.blocked || ' sessions are' END AS _blocked,
       -- A wait that begins at this moment has no start yet.
       CASE WHEN w.blocked > 0 AND w.waiting_at_most_s IS NULL THEN COALESCE(w.waiting_s, 0) END AS waiting_s,
       w.waiting_at_most_s AS _waiting_at_most_s, CASE w.blocked WHEN 0 THEN 'none waiting' ELSE '{blocked} waiting' END AS result
FROM (
  -- waitstart exists from PostgreSQL 14 on; the statement's start is the earliest that a wait can have begun.
  SELECT extract(epoch FROM clock_timestamp() - min((to_jsonb(l) ->> 'waitstart')::timestamptz))::float8 AS waiting_s,
         CASE WHEN current_setting('server_version_num')::int < 140000
              THEN extract(epoch FROM clock_timestamp() - min(a.query_start))::float8 END AS waiting_at_most_s,
         count(DISTINCT COALESCE(a.leader_pid, a.pid)) AS blocked
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE NOT l.granted
) w;

-- ## Other waits [server check]
SELECT NULLIF(w.waiting, 0) AS _other_waits, CASE w.waiting WHEN 1 THEN '1 session is' ELSE w.waiting || ' sessions are' END AS _other_waiting,
       CASE w.waiting WHEN 0 THEN 'none waiting' ELSE '{_other_waits} waiting' END AS result
FROM (SELECT count(*) AS waiting FROM pg_stat_activity WHERE wait_event_type = 'BufferPin' OR wait_event = 'SafeSnapshot') w;

-- ## Sync standbys [server check]
SELECT CASE WHEN y.hang THEN y.missing END AS _missing_standbys,
       CASE y.needed WHEN 1 THEN '1 synchronous standby' ELSE y.needed || ' synchronous standbys' END AS _standbys_needed,
       y.present AS _standbys,
       CASE y.waiting WHEN 1 THEN '1 session is' ELSE y.waiting || ' sessions are' END AS _sync_waiting,
       CASE WHEN NOT y.hang THEN y.waiting_at_most_s END AS _sync_wait_s,
       CASE WHEN y.needed = 0 THEN 'none needed'
            ELSE y.present || ' of ' || y.needed || CASE y.waiting WHEN 0 THEN '' ELSE ', ' || y.waiting || ' waiting' END END AS result
FROM (SELECT *, missing > 0 AND commits IS NOT NULL AS hang
      FROM json_to_recordset(:'standbys'::json) AS s(needed int, present int, missing int, waiting int, waiting_at_most_s float8, commits text)) y;

-- ## Idle transactions [server check]
WITH clients AS (
  SELECT a.*, COALESCE(NULLIF(a.application_name, ''), a.usename, '-')::text AS app, COALESCE(r.rolsuper, true) AS superuser
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
  WHERE a.backend_type = 'client backend' AND a.usename::text <> ALL (:'own_roles'::text[])
)
SELECT i.idle_in_transaction_s, i.idle_pid AS _idle_pid, i.idle_app AS _idle_app,
       i.superuser_s AS _idle_superuser_s, i.superuser_pid AS _superuser_pid, i.superuser_app AS _superuser_app,
       CASE i.idle WHEN 0 THEN 'none' ELSE i.idle || ', longest {_longest_s}' END
         || CASE WHEN h.hidden > 0 THEN ' + ' || h.hidden || ' hidden' ELSE '' END AS result,
       greatest(i.idle_in_transaction_s, i.superuser_s) AS _longest_s,
       NULLIF(h.hidden, 0) AS _hidden, CASE h.hidden WHEN 1 THEN '1 session hides what it does (track_activities is off for it)'
         ELSE h.hidden || ' sessions hide what they do (track_activities is off for them)' END AS _hidden_sessions,
       CASE h.hidden WHEN 1 THEN 'it' ELSE 'them' END AS _them
FROM (SELECT count(*) AS idle,
             extract(epoch FROM clock_timestamp() - min(state_change) FILTER (WHERE NOT superuser))::float8 AS idle_in_transaction_s,
             (array_agg(pid ORDER BY state_change) FILTER (WHERE NOT superuser))[1] AS idle_pid,
             (array_agg(app ORDER BY state_change) FILTER (WHERE NOT superuser))[1] AS idle_app,
             extract(epoch FROM clock_timestamp() - min(state_change) FILTER (WHERE superuser))::float8 AS superuser_s,
             (array_agg(pid ORDER BY state_change) FILTER (WHERE superuser))[1] AS superuser_pid,
             (array_agg(app ORDER BY state_change) FILTER (WHERE superuser))[1] AS superuser_app
      FROM clients WHERE state LIKE 'idle in transaction%') i
CROSS JOIN (SELECT count(*) AS hidden FROM clients WHERE state = 'disabled') h;

-- ## Long transactions [server check]
SELECT o.oldest_transaction_s, o.pid AS _oldest_pid, o.app AS _oldest_app, o.held_back AS _held_back,
       CASE WHEN o.pid IS NULL THEN 'none open' ELSE 'oldest {oldest_transaction_s}' END AS result
FROM (VALUES (1)) always
LEFT JOIN (SELECT pid, COALESCE(NULLIF(application_name, ''), usename, '-')::text AS app,
                  extract(epoch FROM clock_timestamp() - xact_start)::float8 AS oldest_transaction_s,
                  CASE WHEN backend_xmin IS NOT NULL OR backend_xid IS NOT NULL THEN ' and holds VACUUM back' ELSE '' END AS held_back
           FROM pg_stat_activity
           WHERE backend_type = 'client backend' AND usename::text <> ALL (:'own_roles'::text[]) AND xact_start IS NOT NULL
           ORDER BY xact_start LIMIT 1) o ON true;

-- ## Prepared xacts [server check]
SELECT p.prepared_s AS _prepared_s, p.gid AS _gid,
       CASE p.prepared WHEN 0 THEN 'none' ELSE p.prepared || ', oldest {_prepared_s}' END AS result
FROM (SELECT count(*) AS prepared, min(gid) FILTER (WHERE prepared = oldest) AS gid,
             extract(epoch FROM clock_timestamp() - min(oldest))::float8 AS prepared_s
      FROM (SELECT gid, prepared, min(prepared) OVER () AS oldest FROM pg_prepared_xacts) x) p;

-- ## XID wraparound [server check public]
SELECT w.wraparound_pct AS "XID wraparound_pct", w.oldest_database AS _oldest_database, '{XID wraparound_pct} of the way' AS result
FROM (SELECT max(100.0 * greatest(age(datfrozenxid), mxid_age(datminmxid)) / 2147483648)::float8 AS wraparound_pct,
             (array_agg(datname::text ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC))[1] AS oldest_database
      FROM pg_database) w;

-- ## Replication [server check]
WITH receivers AS (
  SELECT *, kind = 'logical receiver' AS logical
  FROM json_to_recordset(:'walsenders'::json) AS w(name text, kind text, behind_bytes bigint, lag_s float8)
  WHERE kind IN ('replica', 'logical receiver')
), counts AS (
  SELECT count(*) FILTER (WHERE NOT logical) AS replicas, count(*) FILTER (WHERE logical) AS subscribers,
         max(behind_bytes) AS behind_bytes, max(lag_s) AS lag_s,
         (array_agg(CASE WHEN logical THEN 'the subscriber ' ELSE 'the replica ' END || name ORDER BY behind_bytes DESC NULLS LAST))[1] AS behind
  FROM receivers
)
SELECT c.behind_bytes, c.behind AS _behind, CASE WHEN y.standby THEN y.late_s ELSE c.lag_s END AS lag_s, y.late_at_most_s AS _late_at_most_s,
       CASE WHEN y.paused THEN 1 END AS _paused, CASE WHEN y.standby AND y.receiver IS DISTINCT FROM 'streaming' THEN 1 END AS _cut_off,
       concat_ws(', ', CASE WHEN y.standby THEN COALESCE(y.receiver, 'not connected') END, CASE WHEN y.paused THEN 'replay paused' END,
         CASE WHEN y.late_s IS NOT NULL THEN '{lag_s} behind' WHEN y.late_at_most_s IS NOT NULL THEN 'at most {_late_at_most_s} behind'
              WHEN y.unreplayed_bytes = 0 THEN 'all replayed' END,
         CASE c.replicas WHEN 0 THEN CASE WHEN NOT y.standby AND c.subscribers = 0 THEN 'no replica' END
                         WHEN 1 THEN '1 replica' ELSE c.replicas || ' replicas' END,
         CASE c.subscribers WHEN 0 THEN NULL WHEN 1 THEN '1 subscriber' ELSE c.subscribers || ' subscribers' END,
         CASE WHEN c.behind_bytes IS NOT NULL THEN '{behind_bytes} behind' END) AS result
FROM counts c
CROSS JOIN json_to_recordset(:'replay'::json)
  AS y(standby boolean, receiver text, unreplayed_bytes bigint, late_s float8, late_at_most_s float8, paused boolean);

-- ## Settings [server check public]
SELECT NULLIF(count(*) FILTER (WHERE crash), 0) AS _unsafe_settings, min(name) FILTER (WHERE crash) AS _unsafe_name,
       string_agg(name || ' is off', ' and ' ORDER BY name) FILTER (WHERE crash) AS _unsafe,
       NULLIF(count(*) FILTER (WHERE NOT crash), 0) AS _unvacuumed_settings, min(name) FILTER (WHERE NOT crash) AS _unvacuumed_name,
       string_agg(name || ' is off', ' and ' ORDER BY name) FILTER (WHERE NOT crash) AS _unvacuumed,
       COALESCE(string_agg(name || ' off', ', ' ORDER BY name), 'fsync, vacuum on') AS result
FROM (VALUES ('fsync', true), ('full_page_writes', true), ('autovacuum', false), ('track_counts', false)) s(name, crash)
WHERE current_setting(name) = 'off';

-- ## Sequences [database check]
SELECT CASE WHEN NOT s.cycles THEN s.used_pct END AS _sequence_pct, s.sequence AS _sequence, least(s.left_over, 9223372036854775807)::bigint AS _left,
       CASE WHEN s.sequence IS NULL THEN 'none' WHEN s.used_pct IS NULL THEN CASE WHEN s.hidden + s.unread > 0 THEN 'none read' ELSE 'none used' END WHEN s.cycles THEN 'all cycle'
            ELSE '{_sequence_pct} in {service}' END AS result,
       CASE WHEN s.hidden > 0 THEN format('doesn''t let %s read every sequence: `sequences` shows the grant', current_user)
            WHEN s.unread > 0 THEN 'has sequences that another session locked: `blocked` shows who waits' END AS _partly_checked,
       CASE WHEN NOT s.cycles THEN s.used_pct END AS _rank
FROM (VALUES (1)) always
LEFT JOIN json_to_recordset(:'sequences'::json)
  AS s(sequence text, cycles boolean, left_over numeric, used_pct float8, nth int, hidden int, unread int) ON s.nth = 1;

-- ## Migrations [database check]
SELECT NULLIF(m.failed, 0) AS _failed_migrations, m.failed_names AS _failed, NULLIF(m.pending, 0) AS _pending_migrations,
       CASE m.pending WHEN 1 THEN '1 migration is' ELSE m.pending || ' migrations are' END AS _pending,
       CASE WHEN m.failed > 0 THEN '{_failed_migrations} failed in {service}' WHEN m.pending > 0 THEN '{_pending_migrations} pending in {service}'
            WHEN m.running > 0 THEN 'running in {service}' WHEN m.readable = 0 THEN 'no migration table'
            WHEN m.compared THEN 'none failed or pending' ELSE 'none failed' END AS result,
       CASE WHEN m.hidden > 0 THEN format('doesn''t let %s read its migration table: `migrations` shows the grant', current_user)
            WHEN m.altered > 0 THEN 'has a migration table that isn''t read, since it isn''t as Prisma creates it: `migrations` explains it'
            WHEN m.unlisted IS NOT NULL THEN 'has a migrations directory that ' || m.unlisted END AS _partly_checked,
       (m.failed * 1000000 + m.pending * 10 + m.running + m.readable)::float8 AS _rank
FROM (SELECT sum(open)::bigint AS failed, string_agg(open_names, ', ') AS failed_names, COALESCE(sum(cardinality(pending)), 0) AS pending,
             count(running) AS running, count(*) FILTER (WHERE readable) AS readable, bool_and(known) AS compared,
             count(*) FILTER (WHERE NOT permitted) AS hidden, count(*) FILTER (WHERE altered) AS altered, min(unlisted) AS unlisted
      FROM json_to_recordset(:'migration_status'::json)
        AS s(permitted boolean, altered boolean, readable boolean, known boolean, open bigint, open_names text, running text, pending text[], unlisted text)) m;

-- ## Invalid indexes [database check]
SELECT CASE WHEN i.typed IS NULL THEN NULLIF(i.invalid, 0) END AS _invalid_indexes, CASE WHEN i.typed IS NOT NULL THEN i.invalid END AS _interrupted_indexes,
       CASE i.invalid WHEN 1 THEN '1 index is' ELSE i.invalid || ' indexes are' END AS _invalid, i.typed AS _typed,
       CASE WHEN i.invalid > 0 THEN i.invalid || ' in {service}' WHEN i.building > 0 THEN i.building || ' may be building' ELSE 'none' END AS result,
       (i.invalid * 1000 + i.building)::float8 AS _rank
FROM (SELECT count(*) FILTER (WHERE NOT building) AS invalid, count(*) FILTER (WHERE building) AS building,
             (array_agg(typed ORDER BY bytes DESC, typed) FILTER (WHERE rebuild))[1] AS typed
      FROM json_to_recordset(:'invalid_indexes'::json) AS i(typed text, bytes bigint, building boolean, rebuild boolean)) i;

-- ## Backups [database check]
SELECT b.age_s AS _backup_age_s, CASE WHEN b.missing THEN 1 END AS _missing_backups,
       CASE WHEN b.missing THEN 'none for {service}' ELSE 'at most {_backup_age_s} old' END AS result,
       CASE WHEN b.missing IS NULL THEN b.ages #>> '{}' END AS _not_checked, COALESCE(b.age_s, 'infinity') AS _rank
FROM (SELECT a.ages, e.age_s, CASE WHEN e.database IS NOT NULL THEN e.age_s IS NULL END AS missing
      FROM (SELECT :'backup_ages'::json AS ages) a
      LEFT JOIN LATERAL json_to_recordset(CASE WHEN json_typeof(a.ages) = 'array' THEN a.ages ELSE '[]' END)
        AS e(database text, age_s float8) ON e.database = current_database()
      LIMIT 1) b
