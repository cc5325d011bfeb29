/*
summary = "Database sizes, or the table sizes of a service"
group = "databases"
risk = "read"
scope = "server"
args = [{ name = "service", type = "service", positional = true, help = "its tables; all databases if omitted" }]
example = "sizes asset-service"
details = "Sizes include indexes and TOAST. A table that a session holds or requests exclusively is not measured, because that would wait for its lock: the size shown is PostgreSQL's latest estimate, and marked as such."
sort = "size_bytes"
verdict = "{_what} {_all_bytes} in total; the largest is {_largest} with {size_bytes}."
verdict_empty = "The database has no tables."
next = "`sizes <service>` shows a service's tables, `slow <service>` its most expensive statements."

[thresholds]
_estimates = { warning = 1, message = "{_locked}, so its size is an estimate: `blocked` shows the blocking session. {_what} {_all_bytes} in total; the largest is {_largest} with {size_bytes}." }

[on_error]
55P03 = "had a table locked while it was being measured: try again"
*/
-- ## Databases [server unless service]
SELECT d.datname::text AS database, s.size_bytes, (100.0 * s.size_bytes / NULLIF(sum(s.size_bytes) OVER (), 0))::float8 AS share_pct,
       d.datname::text AS _largest, sum(s.size_bytes) OVER ()::bigint AS _all_bytes,
       CASE count(*) OVER () WHEN 1 THEN '1 database takes' ELSE count(*) OVER () || ' databases take' END AS _what
FROM pg_database d
CROSS JOIN LATERAL (SELECT CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                                THEN pg_database_size(d.oid) END AS size_bytes) s
WHERE NOT d.datistemplate
ORDER BY s.size_bytes DESC NULLS LAST;

-- ## Tables [database if service]
WITH busy AS (
  SELECT DISTINCT l.relation FROM pg_locks l
  WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL
), rel AS (
  SELECT c.oid, c.relkind, n.nspname, c.relname, c.reltoastrelid, c.reltuples,
         (c.relpages::bigint + COALESCE((SELECT t.relpages FROM pg_class t WHERE t.oid = c.reltoastrelid), 0)
          + COALESCE((SELECT sum(ic.relpages) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid), 0))
           * current_setting('block_size')::bigint AS estimate_bytes,
         EXISTS (SELECT FROM busy b WHERE b.relation = c.oid OR b.relation = c.reltoastrelid
                    OR b.relation IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid)) AS locked
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
), measured AS (
  SELECT CASE WHEN nspname = 'public' THEN quote_ident(relname) ELSE format('%I.%I', nspname, relname) END AS "table",
         locked, reltuples,
         CASE WHEN locked THEN estimate_bytes ELSE pg_total_relation_size(oid) END::bigint AS size_bytes,
         CASE WHEN NOT locked THEN pg_indexes_size(oid) END AS indexes_bytes
  FROM rel
)
SELECT "table", size_bytes, (100.0 * size_bytes / NULLIF(sum(size_bytes) OVER (), 0))::float8 AS share_pct,
       indexes_bytes, NULLIF(reltuples, -1)::bigint AS "rows (est.)",
       CASE WHEN locked THEN 'estimated: locked' END AS note,
       "table" AS _largest, sum(size_bytes) OVER ()::bigint AS _all_bytes,
       CASE count(*) OVER () WHEN 1 THEN '1 table takes' ELSE count(*) OVER () || ' tables take' END AS _what,
       CASE WHEN row_number() OVER (ORDER BY size_bytes DESC NULLS LAST, "table") = 1
            THEN NULLIF(count(*) FILTER (WHERE locked) OVER (), 0) END AS _estimates,
       CASE count(*) FILTER (WHERE locked) OVER () WHEN 1 THEN min("table") FILTER (WHERE locked) OVER () || ' is locked'
            ELSE count(*) FILTER (WHERE locked) OVER () || ' tables are locked' END AS _locked
FROM measured
ORDER BY size_bytes DESC NULLS LAST, "table"
LIMIT 30
