/*
summary = "Autovacuum status: overdue tables, and what holds VACUUM back"
group = "databases"
risk = "read"
scope = "server"
needs = ["sessions"]
args = [{ name = "service", type = "service", positional = true, help = "one service; all services if omitted" }]
example = "autovacuum asset-service"
details = "A table is due when its dead, inserted or changed rows exceed its own threshold, including per-table options. A due table is normal; an overdue one is reported. Partitions count one by one, as they do for autovacuum, which never analyzes their parent. The age is that of the oldest transaction or multixact that is not frozen yet: 3 million short of 2,147,483,648 (1 million before PostgreSQL 14) the server stops accepting writes. The counters of dead, inserted and changed rows begin again at zero after a crash, a failover or a reset; a replica has none. A session is offered to be ended only beyond the limits of `held_s` or `held_xids`, and not while it waits for a lock itself. A session is listed after it has held VACUUM back for 1 min or 10,000 transactions."
sort = "_rank"
top = 8
verdict_empty = "No configured service runs in this environment."
verdict = "Autovacuum keeps up with what the counters show: no table is overdue, and no session, prepared transaction, slot or replica has held VACUUM back for long."
rows_severity = "ok"
next = "To end the session that holds VACUUM back: `kill {pid}`"
row_action = "kill {pid}"
row_action_if = "_killable"
row_action_severity = "warning"

[thresholds]
_replica = { warning = 1, in_part = true, message = "{target}: its server is a replica, where autovacuum never runs and no counters are kept. Ask its primary.", next = "`environments` lists the servers." }
_uncounted = { warning = 1, in_part = true, message = "{target}: PostgreSQL's counters began again after a crash, a failover or a reset ({_since_at}): how many rows of {_tables} are dead is unknown. Next: `vacuum {service}`" }
_off = { critical = 1, message = "{target}: autovacuum is disabled ({_why} = off).", next = "`settings autovacuum` shows the setting." }
_busy = { warning = 1, message = "{target}: all {_workers} autovacuum workers are busy.", next = "`settings autovacuum` shows the limits." }
held_s = { warning = 3600, critical = 86400, message = "" }
held_xids = { column = "_xids", warning = 10000000, critical = 150000000, message = "" }
_held_s = { warning = 3600, critical = 86400, message = "{target}: {_holder} has held VACUUM back for {value}: rows that died since then can't be removed.", next = "`long` shows open transactions, `replication` slots and replicas." }
_held_xids = { warning = 10000000, critical = 150000000, message = "{target}: {_holder} holds VACUUM back: rows that died in the last {value} transactions can't be removed.", next = "`replication` shows slots and replicas." }
_without = { warning = 1, message = "{target}: {table} is due, but autovacuum is disabled for it. Next: `vacuum {service} {_typed}`" }
_overdue_pct = { warning = 300, critical = 1000, message = "{target}: {table} is overdue, with {dead rows} dead rows ({value} of its threshold). Next: `vacuum {service} {_typed}`" }
_stale = { warning = 1, message = "{target}: the planner statistics of {table} are stale: {_changed} rows have changed since the last ANALYZE. Next: `analyze {service} {_typed}`" }
_wraparound_pct = { warning = 50, critical = 75, message = "{target}: {_oldest} is {value} of the way to XID wraparound and needs VACUUM.", next = "`long` shows open transactions, which VACUUM waits for; `vacuum <service>` runs it." }
wraparound_pct = { column = "XID wraparound_pct", warning = 50, critical = 75, message = "" }
*/
-- Looked at: settings
-- Shown only in the verdict.
SELECT CASE WHEN s.off IS NOT NULL THEN 1 END AS _off, s.off AS _why,
       CASE WHEN w.workers >= s.most THEN 1 END AS _busy, w.workers AS _workers
FROM (SELECT CASE WHEN NOT current_setting('autovacuum')::boolean THEN 'autovacuum'
                  WHEN NOT current_setting('track_counts')::boolean THEN 'track_counts' END AS off,
             current_setting('autovacuum_max_workers')::int AS most) s
CROSS JOIN (SELECT count(*) AS workers FROM pg_stat_activity WHERE backend_type = 'autovacuum worker') w;

-- ## Running now [database]
-- Looked at: running VACUUMs
SELECT CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) WHEN n.nspname IS NOT NULL THEN format('%I.%I', n.nspname, c.relname)
            ELSE p.relid::text END AS "table",
       p.phase || CASE WHEN j.j ->> 'indexes_total' <> '0' -- from PostgreSQL 17 on
                       THEN ', ' || (j.j ->> 'indexes_processed') || ' of ' || (j.j ->> 'indexes_total') ELSE '' END AS phase,
       (100.0 * p.heap_blks_scanned / NULLIF(p.heap_blks_total, 0))::float8 AS scanned_pct,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS running_s,
       CASE WHEN a.query LIKE '%(to prevent wraparound)' THEN 'to prevent wraparound: not cancelled for other locks'
            WHEN a.backend_type <> 'autovacuum worker' THEN 'manual, pid ' || p.pid END AS note,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS _rank
FROM pg_stat_progress_vacuum p
CROSS JOIN LATERAL (SELECT to_jsonb(p) AS j) j
LEFT JOIN pg_stat_activity a ON a.pid = p.pid
LEFT JOIN pg_class c ON c.oid = p.relid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.datname = current_database()
ORDER BY a.xact_start, 1 LIMIT 20;

-- ## Held back by [server]
-- Looked at: what holds VACUUM back
WITH holders AS (
  SELECT 'session' AS kind, a.pid, COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type)::text || COALESCE(' of ' || a.datname, '') AS who,
         greatest(age(a.backend_xmin), age(a.backend_xid)) AS xids, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS held_s,
         -- Who waits for a lock is a victim: to end it frees no other session.
         COALESCE(a.backend_type = 'client backend' AND NOT r.rolsuper, false)
           AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted) AS killable,
         to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS backend_start
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
  WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.backend_type <> 'walsender'
    AND a.usename IS DISTINCT FROM current_user
    AND a.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum) -- VACUUM does not wait for VACUUM
    AND (NULLIF(:'database', '') IS NULL OR a.datname = :'database')
  UNION ALL
  SELECT 'prepared transaction', NULL, gid || ' of ' || database, age(transaction), extract(epoch FROM clock_timestamp() - prepared)::float8, false, NULL
  FROM pg_prepared_xacts WHERE NULLIF(:'database', '') IS NULL OR database = :'database'
  UNION ALL
  SELECT CASE WHEN active THEN 'replication slot' ELSE 'unused replication slot' END, NULL, slot_name::text || COALESCE(' of ' || database, ''),
         greatest(age(xmin), age(catalog_xmin)), NULL, false, NULL
  FROM pg_replication_slots WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
  UNION ALL
  SELECT 'replica', NULL, COALESCE(NULLIF(application_name, ''), host(client_addr), pid::text), age(backend_xmin), NULL, false, NULL
  FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
)
SELECT kind AS "held by", pid, who, held_s, xids::bigint AS "age (XIDs)",
       CASE WHEN row_number() OVER (ORDER BY held_s DESC NULLS LAST) = 1 THEN held_s END AS _held_s,
       CASE WHEN row_number() OVER (ORDER BY xids DESC NULLS LAST) = 1 THEN xids::bigint END AS _held_xids,
       CASE WHEN pid IS NOT NULL THEN 'pid ' || pid || ' (' || who || ')' ELSE 'the ' || kind || ' ' || who END AS _holder,
       killable AS _killable, backend_start AS _backend_start, xids::bigint AS _xids, xids::bigint AS _rank
FROM holders WHERE kind <> 'session' OR held_s >= 60 OR xids >= 10000
ORDER BY xids DESC NULLS LAST LIMIT 8;

-- ## Tables [database]
-- Looked at: dead rows
WITH options AS (
  SELECT c.oid, greatest(c.reltuples, 0)::float8 AS tuples, greatest(age(c.relfrozenxid), 0)::float8 AS xids,
         -- from PostgreSQL 18 on only the share that is not frozen counts for inserts
         CASE WHEN to_jsonb(c) ? 'relallfrozen' AND c.relpages > 0
              THEN 1 - least((to_jsonb(c) ->> 'relallfrozen')::float8 / c.relpages, 1) ELSE 1 END AS unfrozen,
         o.*
  FROM pg_class c
  CROSS JOIN LATERAL (
    SELECT COALESCE((o ->> 'autovacuum_enabled')::boolean, true) AS enabled,
           COALESCE(o ->> 'autovacuum_vacuum_threshold', current_setting('autovacuum_vacuum_threshold'))::float8 AS base,
           COALESCE(o ->> 'autovacuum_vacuum_scale_factor', current_setting('autovacuum_vacuum_scale_factor'))::float8 AS factor,
           COALESCE(NULLIF(COALESCE(o ->> 'autovacuum_vacuum_max_threshold', current_setting('autovacuum_vacuum_max_threshold', true)), '-1'),
                    '1e18')::float8 AS most, -- from PostgreSQL 18 on
           COALESCE(o ->> 'autovacuum_vacuum_insert_threshold', current_setting('autovacuum_vacuum_insert_threshold'))::float8 AS insert_base,
           COALESCE(o ->> 'autovacuum_vacuum_insert_scale_factor', current_setting('autovacuum_vacuum_insert_scale_factor'))::float8 AS insert_factor,
           COALESCE(o ->> 'autovacuum_analyze_threshold', current_setting('autovacuum_analyze_threshold'))::float8 AS analyze_base,
           COALESCE(o ->> 'autovacuum_analyze_scale_factor', current_setting('autovacuum_analyze_scale_factor'))::float8 AS analyze_factor,
           least((o ->> 'autovacuum_freeze_max_age')::float8, current_setting('autovacuum_freeze_max_age')::float8) AS freeze_age
    FROM (SELECT COALESCE(jsonb_object_agg(option_name, option_value), '{}') AS o FROM pg_options_to_table(c.reloptions)) x
  ) o
  WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' -- autovacuum can't see into another session's tables
), judged AS (
  SELECT s.*, o.enabled, CASE WHEN s.schemaname = 'public' THEN quote_ident(s.relname) ELSE format('%I.%I', s.schemaname, s.relname) END AS "table",
         100 * s.n_dead_tup / greatest(least(o.base + o.factor * o.tuples, o.most), 1) AS vacuum_pct,
         CASE WHEN o.insert_base >= 0 THEN 100 * (to_jsonb(s) ->> 'n_ins_since_vacuum')::float8
                                            / greatest(o.insert_base + o.insert_factor * o.tuples * o.unfrozen, 1) ELSE 0 END AS insert_pct,
         100 * s.n_mod_since_analyze / greatest(o.analyze_base + o.analyze_factor * o.tuples, 1) AS analyze_pct,
         o.xids > o.freeze_age AS freezing
  FROM pg_stat_user_tables s JOIN options o ON o.oid = s.relid
), due AS (
  SELECT *, concat_ws(', ', CASE WHEN vacuum_pct > 100 THEN 'dead rows' END, CASE WHEN insert_pct > 100 THEN 'inserts' END,
                      CASE WHEN freezing THEN 'freezing' END, CASE WHEN analyze_pct > 100 THEN 'statistics' END) AS due,
         CASE WHEN enabled AND n_dead_tup >= 10000 THEN vacuum_pct END AS overdue,
         CASE WHEN enabled AND n_mod_since_analyze >= 10000 AND analyze_pct >= 300 THEN analyze_pct END AS stale
  FROM judged WHERE n_live_tup + n_dead_tup + n_mod_since_analyze > 0 OR freezing
), ranked AS (
  SELECT *, row_number() OVER (ORDER BY NOT enabled AND due <> '' DESC, n_dead_tup DESC, "table") AS nth_off,
         row_number() OVER (ORDER BY overdue DESC NULLS LAST, "table") AS nth_overdue,
         row_number() OVER (ORDER BY stale DESC NULLS LAST, "table") AS nth_stale
  FROM due
)
SELECT "table", n_dead_tup AS "dead rows", vacuum_pct::float8 AS "of threshold_pct",
       extract(epoch FROM clock_timestamp() - greatest(last_vacuum, last_autovacuum))::float8 AS "vacuumed ago_s",
       extract(epoch FROM clock_timestamp() - greatest(last_analyze, last_autoanalyze))::float8 AS "analyzed ago_s",
       NULLIF(due, '') AS "due for", CASE WHEN NOT enabled THEN 'autovacuum disabled' END AS note,
       CASE WHEN nth_off = 1 AND NOT enabled AND due <> '' THEN 1 END AS _without,
       CASE WHEN nth_overdue = 1 THEN overdue END AS _overdue_pct,
       CASE WHEN nth_stale = 1 AND stale IS NOT NULL THEN 1 END AS _stale, n_mod_since_analyze AS _changed,
       CASE WHEN schemaname = 'public' THEN relname ELSE schemaname || '.' || relname END AS _typed,
       CASE WHEN due <> '' THEN 1e12 ELSE 0 END + greatest(vacuum_pct, insert_pct, analyze_pct) AS _rank, count(*) OVER () AS _total
FROM ranked
ORDER BY _rank DESC, "table" LIMIT 20;

-- ## [database limits]
-- Looked at: row counters
-- Shown only in the verdict.
SELECT replica AS _replica, uncounted AS _uncounted, tables AS _tables, since AS _since_at
FROM json_to_recordset(:'counters'::json) AS c(replica int, uncounted int, tables text, since timestamptz);

-- ## Age of databases [server unless service]
SELECT datname::text AS database, x.age::bigint AS "age (XIDs)", (100.0 * x.age / 2147483648)::float8 AS "XID wraparound_pct",
       CASE WHEN row_number() OVER (ORDER BY x.age DESC, datname) = 1 THEN (100.0 * x.age / 2147483648)::float8 END AS _wraparound_pct,
       datname::text AS _oldest, x.age::bigint AS _rank
FROM pg_database CROSS JOIN LATERAL (SELECT greatest(age(datfrozenxid), mxid_age(datminmxid)) AS age) x
ORDER BY x.age DESC, datname LIMIT 3;

-- ## Age of tables [database if service]
WITH aged AS (
  SELECT CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table",
         greatest(age(c.relfrozenxid), mxid_age(c.relminmxid), age(t.relfrozenxid), mxid_age(t.relminmxid)) AS age,
         NULLIF(greatest(c.relpages, 0), 0)::bigint * current_setting('block_size')::int AS bytes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
  WHERE c.relkind IN ('r', 'm') -- the oldest can be a catalog or a forgotten temporary table
)
SELECT "table", age::bigint AS "age (XIDs)", (100.0 * age / 2147483648)::float8 AS "XID wraparound_pct", bytes AS "size (est.)_bytes",
       CASE WHEN row_number() OVER (ORDER BY age DESC, bytes DESC NULLS LAST, "table") = 1 THEN (100.0 * age / 2147483648)::float8 END AS _wraparound_pct,
       "table" AS _oldest, age::bigint AS _rank
FROM aged ORDER BY age DESC, bytes DESC NULLS LAST, "table" LIMIT 3
