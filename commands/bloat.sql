/*
summary = "Wasted space in tables, and dead rows that VACUUM has not removed yet"
group = "databases"
risk = "read"
scope = "database"
args = [{ name = "service", type = "service", positional = true, required = true, help = "a service, or `all`" }]
example = "bloat asset-service"
details = "Bloat is space that a table's file keeps and that new rows can reuse; dead rows are rows that VACUUM has not yet turned into such space. Bloat is estimated from the statistics of ANALYZE, to within a few percent, for tables only: indexes and TOAST are not included. PostgreSQL shows these statistics only to roles with SELECT on the table. VACUUM does not shrink a file. `vacuum-full` does, with the table locked against reads and writes; so does pg_repack."
sort = "_rank"
top = 10
verdict_empty = "The database has no table with rows."
verdict = "No table of 10 MiB or more is bloated by an estimated 30 %, and none has 20 % dead rows."
rows_severity = "ok"
next = "Next: `vacuum {service} {_typed}`"
row_action_if = "_due"

[thresholds]
_bloat_pct = { warning = 30, message = "{target}: an estimated {value} of {table} is wasted: {wasted (est.)_bytes} of {size (est.)_bytes}." }
_dead_pct = { warning = 20, message = "{target}: {value} of the rows of {table} are dead and not removed yet. `autovacuum` shows why." }
_hidden = { warning = 1, message = "{target}: Countersign's reader may not SELECT from {_tables}, so their bloat is unknown. Grant it SELECT on them." }
*/
-- ## Bloat (estimated)
WITH widths AS (
  SELECT schemaname, tablename, sum((1 - null_frac) * avg_width) AS data_w, bool_or(null_frac > 0) AS has_null, count(*) AS columns
  FROM pg_stats WHERE NOT inherited GROUP BY 1, 2
), tables AS (
  SELECT c.oid, COALESCE(pg_partition_root(c.oid), c.oid) AS root, c.relpages, c.reltuples, current_setting('block_size')::numeric AS bs,
         COALESCE((SELECT option_value::int FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 100) AS fill,
         w.data_w, w.has_null, w.columns, COALESCE(pg_stat_get_live_tuples(c.oid), 0) AS live,
         -- the rule of pg_stats
         NOT row_security_active(c.oid) AND (SELECT COALESCE(bool_and(has_column_privilege(c.oid, a.attnum, 'SELECT')), true) FROM pg_attribute a
                                             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS allowed
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN widths w ON w.schemaname = n.nspname AND w.tablename = c.relname
  WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
), needed AS (
  SELECT root, relpages, bs, allowed,
         CASE WHEN relpages = 1 THEN 1 -- too small to waste anything
              WHEN reltuples = 0 AND relpages > 0 THEN 0
              WHEN reltuples > 0 AND allowed AND columns > 0
              -- A header of 23 bytes and a bit for each column, the data, both aligned to 8 bytes, and a line pointer of 4.
              THEN least(relpages, ceil(reltuples::numeric / greatest(floor((bs * fill / 100 - 24)
                     / (ceil((23 + CASE WHEN has_null THEN ceil(columns / 8.0) ELSE 0 END) / 8.0) * 8 + ceil(data_w::numeric / 8) * 8 + 4)), 1)))
         END AS pages
  FROM tables WHERE relpages > 0 OR live > 0
), summed AS (
  SELECT root, (sum(relpages) * max(bs))::bigint AS bytes, (sum(relpages - pages) * max(bs))::bigint AS wasted, bool_or(pages IS NULL) AS unknown,
         bool_or(pages IS NULL AND NOT allowed) AS hidden
  FROM needed GROUP BY root
), named AS (
  SELECT s.*, CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table"
  FROM summed s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT "table", bytes AS "size (est.)_bytes",
       CASE WHEN NOT unknown THEN wasted END AS "wasted (est.)_bytes",
       CASE WHEN NOT unknown THEN (100.0 * wasted / bytes)::float8 END AS share_pct,
       CASE WHEN hidden THEN 'needs SELECT' WHEN unknown THEN 'not analyzed yet' END AS note,
       CASE WHEN NOT unknown AND wasted >= 10485760 THEN (100.0 * wasted / bytes)::float8 END AS _bloat_pct,
       CASE WHEN row_number() OVER (ORDER BY unknown, wasted DESC NULLS LAST, bytes DESC, "table") = 1
            THEN NULLIF(count(*) FILTER (WHERE hidden) OVER (), 0) END AS _hidden,
       count(*) FILTER (WHERE hidden) OVER () || ' of ' || count(*) OVER () || ' tables' AS _tables,
       CASE WHEN unknown THEN -1 / (1 + bytes::float8) ELSE wasted END AS _rank
FROM named
ORDER BY unknown, wasted DESC NULLS LAST, bytes DESC, "table"
LIMIT 30;

-- ## Dead rows
WITH summed AS (
  SELECT COALESCE(pg_partition_root(s.relid), s.relid) AS root, sum(s.n_live_tup)::bigint AS live, sum(s.n_dead_tup)::bigint AS dead,
         max(greatest(s.last_vacuum, s.last_autovacuum)) AS last_vacuum
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't' GROUP BY 1
), named AS (
  SELECT s.*, (100.0 * dead / NULLIF(live + dead, 0))::float8 AS pct,
         CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table"
  FROM summed s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT "table", dead AS "dead rows", pct AS "of all rows_pct", last_vacuum AS vacuumed_at,
       CASE WHEN dead >= 10000 THEN pct END AS _dead_pct,
       dead >= 10000 AND pct >= 20 AS _due, n.typed AS _typed, dead AS _rank
FROM named
-- As people type it: without quotes around names, with quotes around a space.
CROSS JOIN LATERAL (SELECT CASE WHEN "table" LIKE '% %' THEN '"' || replace("table", '"', '') || '"' ELSE replace("table", '"', '') END AS typed) n
WHERE dead > 0 ORDER BY dead DESC, "table" LIMIT 30
