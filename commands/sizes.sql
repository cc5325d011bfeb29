/*
summary = "Database sizes, or the table sizes of a service"
group = "databases"
risk = "read"
scope = "server"
needs = []
args = [
  { name = "service", type = "service", positional = true, help = "its tables; all databases if omitted" },
  { name = "all", type = "text", switch = true, help = "rows below 1 % of the whole, too" },
]
example = "sizes asset-service"
details = "Sizes include indexes and TOAST, and those of a partitioned table all of its partitions. The size of a database includes large objects, temporary tables and the catalogs too. A table that a session holds or requests exclusively is not measured, because that would wait for its lock: the size shown is PostgreSQL's latest estimate, and marked as such."
sort = "size_bytes"
verdict = "{_what} {_all_bytes}{_of}; the largest is {_largest} with {size_bytes}."
verdict_empty = "The database has no tables."
next = "`sizes <service>` shows a service's tables, `slow <service>` its most expensive statements."

[thresholds]
_estimates = { warning = 1, in_part = true, message = "{_locked}: `blocked` shows the blocking session. {_what} about {_all_bytes}{_of}; the largest is {_largest} with {size_bytes}." }

[on_error]
55P03 = "had a table locked while it was being measured: try again"
*/
-- ## Databases [server unless service]
-- Looked at: database sizes
SELECT d.datname::text AS database, s.size_bytes, (100.0 * s.size_bytes / NULLIF(sum(s.size_bytes) OVER (), 0))::float8 AS share_pct,
       d.datname::text AS _largest, sum(s.size_bytes) OVER ()::bigint AS _all_bytes, ' in total' AS _of,
       CASE count(s.size_bytes) OVER () WHEN 1 THEN '1 database takes' ELSE count(s.size_bytes) OVER () || ' databases take' END AS _what
FROM pg_database d
CROSS JOIN LATERAL (SELECT CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                                THEN pg_database_size(d.oid) END AS size_bytes) s
WHERE NOT d.datistemplate
ORDER BY s.size_bytes DESC NULLS LAST;

-- ## Tables [database if service]
-- Looked at: table sizes
WITH busy AS (
  SELECT DISTINCT l.relation FROM pg_locks l
  WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL
), toast AS (
  SELECT t.oid, t.relpages::bigint + COALESCE(sum(x.relpages), 0) AS pages,
         COALESCE(bool_or(x.oid IN (SELECT relation FROM busy)), false) OR t.oid IN (SELECT relation FROM busy) AS locked
  FROM pg_class t LEFT JOIN pg_index i ON i.indrelid = t.oid LEFT JOIN pg_class x ON x.oid = i.indexrelid
  WHERE t.relkind = 't' GROUP BY t.oid, t.relpages
), rel AS (
  SELECT c.oid, COALESCE(pg_partition_root(c.oid), c.oid) AS root, -- 0 is "unknown" before PostgreSQL 14
         CASE WHEN c.reltuples > 0 OR c.relpages > 0 OR c.reltuples = 0 AND current_setting('server_version_num')::int >= 140000
              THEN c.reltuples END AS tuples,
         -- a file that was never vacuumed or analyzed has no estimate
         NULLIF(c.relpages::bigint + COALESCE(t.pages, 0)
                + COALESCE((SELECT sum(ic.relpages) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid), 0), 0)
           * current_setting('block_size')::bigint AS estimate_bytes,
         COALESCE(t.locked, false) OR EXISTS (
           SELECT FROM busy b WHERE b.relation = c.oid OR b.relation IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid)) AS locked
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN toast t ON t.oid = c.reltoastrelid
  WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
), measured AS (
  SELECT root, oid, locked, tuples,
         CASE WHEN locked THEN estimate_bytes ELSE pg_total_relation_size(oid) END::bigint AS size_bytes,
         CASE WHEN NOT locked THEN pg_indexes_size(oid) END AS indexes_bytes
  FROM rel
), summed AS (
  -- a partitioned table is all of its partitions
  SELECT root, sum(size_bytes)::bigint AS size_bytes, CASE WHEN NOT bool_or(locked) THEN sum(indexes_bytes) END::bigint AS indexes_bytes,
         CASE WHEN bool_and(tuples IS NOT NULL) THEN sum(tuples) END::bigint AS tuples, bool_or(locked) AS locked,
         bool_or(size_bytes IS NULL) AS unknown, count(*) FILTER (WHERE oid <> root) AS partitions
  FROM measured GROUP BY root
), named AS (
  SELECT s.*, CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table"
  FROM summed s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT "table", size_bytes, (100.0 * size_bytes / NULLIF(sum(size_bytes) OVER (), 0))::float8 AS share_pct,
       indexes_bytes, tuples AS "rows (est.)",
       NULLIF(concat_ws(', ', CASE partitions WHEN 0 THEN NULL WHEN 1 THEN '1 partition' ELSE partitions || ' partitions' END,
                        CASE WHEN unknown THEN 'locked, size unknown' WHEN locked THEN 'estimated: locked' END), '') AS note,
       "table" AS _largest, sum(size_bytes) OVER ()::bigint AS _all_bytes,
       CASE count(*) OVER () WHEN 1 THEN '1 table takes' ELSE count(*) OVER () || ' tables take' END AS _what,
       ' of the ' || CASE WHEN d.bytes >= 1073741824 THEN round(d.bytes / 1073741824.0, 1) || ' GiB' ELSE round(d.bytes / 1048576.0, 1) || ' MiB' END
         || ' of the database' AS _of,
       CASE WHEN row_number() OVER (ORDER BY size_bytes DESC NULLS LAST, "table") = 1
            THEN NULLIF(count(*) FILTER (WHERE locked) OVER (), 0) END AS _estimates,
       CASE count(*) FILTER (WHERE locked) OVER () WHEN 1 THEN min("table") FILTER (WHERE locked) OVER () || ' is locked, so its size is an estimate'
            ELSE count(*) FILTER (WHERE locked) OVER () || ' tables are locked, so their sizes are estimates' END AS _locked, count(*) OVER () AS _total
FROM named CROSS JOIN (SELECT pg_database_size(current_database()) AS bytes) d
ORDER BY size_bytes DESC NULLS LAST, "table"
LIMIT 30
