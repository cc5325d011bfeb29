/*
summary = "Wasted space in tables, and dead rows that VACUUM has not removed yet"
group = "databases"
risk = "read"
scope = "database"
# What it can't see it counts, as a team may decide; `countersign check` tells as advice what lets it see more.
needs = []
args = [{ name = "service", type = "service", positional = true, required = true, choices = ["all"], help = "a service, or `all`" }]
example = "bloat asset-service"
details = "Bloat is space that a table's file keeps and that new rows can reuse; dead rows are rows that VACUUM has not yet turned into such space. Bloat is estimated from the statistics of ANALYZE, most often to within a few percent, for tables only: indexes and TOAST are not included. Where the extension pgstattuple is installed, pgstattuple_approx measures the largest tables instead, which needs no SELECT: pg_monitor allows it. PostgreSQL shows these statistics only to roles with SELECT on the table, which deploy/roles.sql does not grant to Countersign's reader unless you choose so there, and not through row security. Dead rows are what PostgreSQL's counters know: they begin again at zero after a crash, a failover or a reset, and a replica has none. VACUUM does not shrink a file. `vacuum-full` does, with the table locked against reads and writes; so does pg_repack."
sort = "_rank"
top = 10
verdict_empty = "The database has no table with rows."
verdict = "No table of 10 MiB or more is bloated by an estimated 30 %, and none of that size or with 10,000 dead rows has 20 % dead rows."
rows_severity = "ok"
next = "Next: `vacuum {service} {_typed}`"
row_action_if = "_due"

[thresholds]
_bloat_pct = { warning = 30, message = "{target}: an estimated {value} of {table} is wasted: {wasted (est.)_bytes} of {size (est.)_bytes}.", next = "To shrink it, with the table locked: `vacuum-full {service} {_typed}`" }
_dead_pct = { warning = 20, message = "{target}: {value} of the rows of {table} are dead and not removed yet. `autovacuum` shows why." }
_hidden = { warning = 1, in_part = true, message = "{target}: Countersign's reader may not SELECT from {_tables}, so their bloat is unknown: PostgreSQL shows the widths of their rows only with SELECT, which lets it read the rows too. deploy/roles.sql says how to grant it. With the extension pgstattuple no SELECT is needed: `CREATE EXTENSION pgstattuple`" }
_secured = { warning = 1, in_part = true, message = "{target}: row security hides the statistics of {_behind} from Countersign's reader, so their bloat is unknown: SELECT alone does not show them. With the extension pgstattuple they are measured: `CREATE EXTENSION pgstattuple`" }
_unanalyzed = { warning = 1, in_part = true, message = "{target}: {_never} no statistics yet, so their bloat is unknown. Next: `analyze {service} {_typed}`" }
_replica = { warning = 1, in_part = true, message = "{target}: its server is a replica, which does not count dead rows. Ask its primary.", next = "`environments` lists the servers." }
_uncounted = { warning = 1, in_part = true, message = "{target}: PostgreSQL's counters began again after a crash, a failover or a reset ({_since_at}): how many rows of {_tables} are dead is unknown. Next: `vacuum {service}`" }

[on_error]
55P03 = "had a table locked while it was being measured: try again"
*/
-- ## Bloat (estimated)
-- Looked at: bloat
WITH RECURSIVE busy AS (
  SELECT DISTINCT l.relation FROM pg_locks l
  WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL
), tables AS (
  SELECT c.oid, COALESCE(pg_partition_root(c.oid), c.oid) AS root, n.nspname, c.relname, c.reltuples, c.relnatts,
         -- A table that was never analyzed has no size in the catalog; one that is locked would have to be waited for.
         CASE WHEN c.relpages > 0 THEN c.relpages::numeric
              WHEN c.oid IN (SELECT relation FROM busy) THEN NULL ELSE ceil(pg_relation_size(c.oid) / current_setting('block_size')::numeric) END AS pages,
         c.relpages > 0 OR c.reltuples = 0 AND current_setting('server_version_num')::int >= 140000 AS analyzed,
         current_setting('block_size')::numeric AS bs,
         c.relpersistence = 'p' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap') AND c.oid NOT IN (SELECT relation FROM busy) AS readable,
         c.relallvisible,
         COALESCE((SELECT option_value::int FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 100) AS fill,
         -- the rule of pg_stats
         row_security_active(c.oid) AS secured,
         (SELECT COALESCE(bool_and(has_column_privilege(c.oid, a.attnum, 'SELECT')), true) FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS allowed
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
), extension AS (
  -- In the schema that a DBA chose for it, where others may have created a function of that name.
  SELECT quote_ident(n.nspname) AS schema
  FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass
  JOIN pg_proc p ON p.oid = d.objid AND p.proname = 'pgstattuple_approx' AND p.proargtypes::text = '2205'
  JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE e.extname = 'pgstattuple' AND has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(n.oid, 'USAGE')
), measurable AS (
  -- It reads the pages that aren't all-visible, and knows the others from the free space map. The largest tables first, as far as 512 MiB
  -- are read in all and 128 MiB of one table.
  SELECT array_agg(oid) AS oids
  FROM (SELECT oid, sum(pages - relallvisible) OVER (ORDER BY pages DESC, oid) AS all_pages
        FROM tables WHERE readable AND pages > 1 AND pages - relallvisible <= 16384) m
  WHERE all_pages <= 65536
), measured AS MATERIALIZED (
  SELECT substring(query_to_xml(format($$
           SELECT json_object_agg(o.oid, m.approx_free_space + m.dead_tuple_len) AS bytes
           FROM unnest(%L::oid[]) AS o(oid) CROSS JOIN LATERAL %s.pgstattuple_approx(o.oid::regclass) m
         $$, m.oids, e.schema), false, true, '')::text FROM '<bytes>(.*)</bytes>')::jsonb AS wasted
  FROM extension e CROSS JOIN measurable m WHERE m.oids IS NOT NULL
), statistics AS MATERIALIZED (
  SELECT schemaname, tablename, jsonb_object_agg(attname, jsonb_build_array(null_frac, avg_width)) AS columns
  FROM pg_stats WHERE NOT inherited GROUP BY 1, 2
), widths AS (
  -- A column's share of rows that have it, its width, and what its type is aligned to: a short text or number without a fixed length is
  -- not. A column that was dropped or is computed when it is read is NULL in its rows.
  SELECT t.oid, row_number() OVER (PARTITION BY t.oid ORDER BY a.attnum) AS nth, s.avg_width IS NOT NULL AS known,
         CASE WHEN a.attisdropped OR a.attgenerated = 'v' THEN 0 ELSE 1 - COALESCE(s.null_frac, 0) END AS filled,
         CASE WHEN a.attlen > 0 THEN a.attlen ELSE COALESCE(s.avg_width, 32) END AS width, a.attlen > 0 AS fixed,
         CASE WHEN a.attlen = -1 AND COALESCE(s.avg_width, 32) < 127 THEN 1
              ELSE CASE a.attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END END AS align
  FROM tables t JOIN statistics x ON x.schemaname = t.nspname AND x.tablename = t.relname
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
  CROSS JOIN LATERAL (SELECT (x.columns -> a.attname::text ->> 0)::numeric AS null_frac, (x.columns -> a.attname::text ->> 1)::numeric AS avg_width) s
  WHERE t.pages > 1 AND t.reltuples > 0 AND t.allowed AND NOT t.secured
), laid_out AS (
  -- column after column: its place is known as a remainder of unit bytes; where it is not, half of what alignment can take is lost
  SELECT oid, nth, CASE WHEN filled >= 0.5 AND NOT fixed THEN 1 ELSE 8 END AS unit,
         CASE WHEN filled >= 0.5 AND fixed THEN width % 8 ELSE 0 END AS place, filled * width AS data, known, filled < 1 AS has_null
  FROM widths WHERE nth = 1
  UNION ALL
  SELECT w.oid, w.nth,
         CASE WHEN w.filled < 0.5 THEN l.unit WHEN NOT w.fixed THEN 1 ELSE greatest(l.unit, w.align) END,
         CASE WHEN w.filled < 0.5 THEN l.place WHEN NOT w.fixed THEN 0
              ELSE (CASE WHEN w.align > l.unit THEN 0 ELSE ceil(l.place / w.align) * w.align END + w.width) % greatest(l.unit, w.align) END,
         l.data + w.filled * (w.width + CASE WHEN w.align > l.unit THEN (w.align - 1) / 2.0 ELSE ceil(l.place / w.align) * w.align - l.place END),
         l.known OR w.known, l.has_null OR w.filled < 1
  FROM laid_out l JOIN widths w ON w.oid = l.oid AND w.nth = l.nth + 1
), rows AS (
  SELECT DISTINCT ON (oid) oid, data, has_null, known FROM laid_out ORDER BY oid, nth DESC
), needed AS (
  SELECT t.root, t.pages, t.bs, t.allowed, t.secured, t.analyzed, m.wasted IS NOT NULL AS measured,
         CASE WHEN m.wasted IS NOT NULL
              -- Less what fillfactor reserves.
              THEN t.pages - greatest(0, least(t.pages, floor(m.wasted / t.bs - t.pages * (100 - t.fill) / 100)))
              WHEN t.pages <= 1 THEN t.pages -- too small to waste anything
              WHEN t.reltuples = 0 AND t.analyzed THEN 0
              WHEN t.reltuples > 0 AND r.known
              -- A header of 23 bytes and a bit for each column, the data, both aligned to 8 bytes, and a line pointer of 4.
              THEN least(t.pages, ceil(t.reltuples::numeric / greatest(floor((t.bs * t.fill / 100 - 24)
                     / (ceil((23 + CASE WHEN r.has_null THEN ceil(t.relnatts / 8.0) ELSE 0 END) / 8.0) * 8 + ceil(r.data / 8) * 8 + 4)), 1)))
         END AS needed
  FROM tables t LEFT JOIN rows r ON r.oid = t.oid
  LEFT JOIN LATERAL (SELECT (measured.wasted ->> t.oid::text)::numeric AS wasted FROM measured) m ON true
  WHERE t.pages IS NULL OR t.pages > 0
), summed AS (
  SELECT root, NULLIF(sum(pages) * max(bs), 0)::bigint AS bytes, (sum(pages - needed) * max(bs))::bigint AS wasted, bool_or(needed IS NULL) AS unknown,
         bool_or(needed IS NULL AND secured) AS secured, bool_or(needed IS NULL AND NOT secured AND NOT allowed) AS hidden,
         bool_or(pages IS NULL) AS locked, bool_and(measured OR pages <= 1) AS measured
  FROM needed GROUP BY root
), named AS (
  SELECT s.*, CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table",
         CASE WHEN n.nspname = 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END AS typed,
         unknown AND NOT secured AND NOT hidden AND bytes >= 10485760 AS unanalyzed
  FROM summed s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace
), ranked AS (
  SELECT *, row_number() OVER (ORDER BY unknown, wasted DESC NULLS LAST, bytes DESC NULLS LAST, "table") AS nth,
         row_number() OVER (ORDER BY unanalyzed DESC, bytes DESC NULLS LAST, "table") AS nth_unanalyzed,
         count(*) FILTER (WHERE hidden) OVER () AS all_hidden, count(*) FILTER (WHERE secured) OVER () AS all_secured,
         count(*) FILTER (WHERE unanalyzed) OVER () AS all_unanalyzed, count(*) OVER () AS all_tables
  FROM named
)
SELECT "table", bytes AS "size (est.)_bytes",
       CASE WHEN NOT unknown THEN wasted END AS "wasted (est.)_bytes",
       CASE WHEN NOT unknown THEN (100.0 * wasted / bytes)::float8 END AS share_pct,
       CASE WHEN secured THEN 'row security' WHEN hidden THEN 'needs SELECT' WHEN locked THEN 'locked' WHEN unknown THEN 'not analyzed yet' WHEN measured AND bytes > 8192 THEN 'measured' END AS note,
       CASE WHEN NOT unknown AND bytes >= 10485760 THEN (100.0 * wasted / bytes)::float8 END AS _bloat_pct,
       CASE WHEN nth = 1 THEN NULLIF(all_hidden, 0) END AS _hidden, all_hidden || ' of ' || all_tables || ' tables' AS _tables,
       CASE WHEN nth = 1 THEN NULLIF(all_secured, 0) END AS _secured, all_secured || ' of ' || all_tables || ' tables' AS _behind,
       CASE WHEN nth_unanalyzed = 1 THEN NULLIF(all_unanalyzed, 0) END AS _unanalyzed,
       CASE all_unanalyzed WHEN 1 THEN '1 table of 10 MiB or more has' ELSE all_unanalyzed || ' tables of 10 MiB or more have' END AS _never, typed AS _typed,
       CASE WHEN unknown THEN -1 / (1 + COALESCE(bytes, 0)::float8) ELSE wasted END AS _rank, all_tables AS _total
FROM ranked
ORDER BY least(nth, nth_unanalyzed + 1), nth
LIMIT 30;

-- ## Dead rows
WITH summed AS (
  SELECT COALESCE(pg_partition_root(s.relid), s.relid) AS root, sum(s.n_live_tup)::bigint AS live, sum(s.n_dead_tup)::bigint AS dead,
         max(greatest(s.last_vacuum, s.last_autovacuum)) AS last_vacuum, sum(c.relpages::bigint) * current_setting('block_size')::bigint AS bytes
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't' GROUP BY 1
), named AS (
  SELECT s.*, (100.0 * dead / NULLIF(live + dead, 0))::float8 AS pct,
         CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table",
         CASE WHEN n.nspname = 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END AS typed,
         -- A table that was never analyzed has no size in the catalog.
         dead >= 10000 OR bytes >= 10485760 OR bytes = 0 AND dead >= 1000 AS counts
  FROM summed s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT "table", dead AS "dead rows", pct AS "of all rows_pct", last_vacuum AS vacuumed_at,
       CASE WHEN counts THEN pct END AS _dead_pct,
       counts AND pct >= 20 AS _due, typed AS _typed, dead AS _rank, count(*) OVER () AS _total
FROM named
WHERE dead > 0 ORDER BY dead DESC, "table" LIMIT 30;

-- ## [database limits]
-- Looked at: row counters
-- Shown only in the verdict.
SELECT replica AS _replica, uncounted AS _uncounted, tables AS _tables, since AS _since_at
FROM json_to_recordset(:'counters'::json) AS c(replica int, uncounted int, tables text, since timestamptz)
