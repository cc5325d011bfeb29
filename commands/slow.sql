/*
summary = "The most expensive statements, from pg_stat_statements"
group = "databases"
risk = "read"
scope = "database"
needs = ["sessions", "statements"]
args = [
  { name = "service", type = "service", positional = true, help = "one service; all services if omitted" },
  { name = "by", type = "choice", choices = ["total", "mean", "calls", "io"], default = "total", help = "sort by total time, mean time, calls, or reads from disk (io)" },
  { name = "all", type = "text", switch = true, help = "rows below 1 % of the whole, too" },
]
example = "slow asset-service --by mean"
details = "Counted since the last reset of the statistics. The statistics contain no literal values, and utility statements are shown without theirs. Statements that were planned but never executed are left out."
sort = "_rank"
top = 15
verdict_empty = "pg_stat_statements has recorded no statement in this database yet."
verdict = "{target}: {_says}"

[on_error]
42883 = "has no pg_stat_statements: run enable-stats; if the server doesn't load the library, a DBA first adds it to shared_preload_libraries (on Azure also to azure.extensions) and restarts the server"
42501 = "has pg_stat_statements, but Countersign's reader may not use it: run deploy/roles.sql there again, which grants it USAGE of its schema and EXECUTE of its function"
55000 = "has pg_stat_statements, but the server doesn't load it: a DBA has to add it to shared_preload_libraries and restart the server"
*/
-- Looked at: statement statistics
-- Its function is in the schema that a DBA chose for the extension, where others may have created one of its name: the argument has its
-- exact type. Without the extension there is no such name, which is the error.
WITH extension AS (
  SELECT COALESCE((SELECT format('%I.', n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                   WHERE e.extname = 'pg_stat_statements'), '') || 'pg_stat_statements' AS view
), encoded AS (
  -- Column names differ by the extension's version, not the server's: total_time before 1.8, total_exec_time since.
  SELECT substring(query_to_xml(format($$
           WITH counted AS (
             SELECT s.queryid, s.calls, s.query, s.shared_blks_read,
                    COALESCE(j.j ->> 'total_exec_time', j.j ->> 'total_time')::float8 AS total_ms,
                    COALESCE(j.j ->> 'toplevel', 'true')::boolean AS toplevel
             FROM %s(%L::boolean) s CROSS JOIN LATERAL (SELECT to_jsonb(s) - 'query' AS j) j
             WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND s.userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user) AND s.calls > 0
           ), summed AS (
             -- One line per statement, for all roles.
             SELECT min(query) AS query, sum(calls)::bigint AS calls, sum(total_ms) AS total_ms, sum(total_ms) / sum(calls) AS mean_ms,
                    sum(shared_blks_read)::bigint * current_setting('block_size')::int AS read_bytes
             FROM counted WHERE toplevel GROUP BY queryid
           ), ranked AS (
             SELECT *, 100 * total_ms / NULLIF(sum(total_ms) OVER (), 0) AS share_pct,
                    100 * read_bytes::float8 / NULLIF(sum(read_bytes::float8) OVER (), 0) AS read_pct,
                    CASE %L WHEN 'mean' THEN mean_ms WHEN 'calls' THEN calls WHEN 'io' THEN read_bytes ELSE total_ms END::float8 AS rank
             FROM summed ORDER BY rank DESC NULLS LAST LIMIT 10
           )
           -- To the database's own encoding, which converts nothing: in SQL_ASCII a text may be no UTF-8.
           SELECT encode(convert_to(COALESCE(json_agg(r), '[]')::text, getdatabaseencoding()), 'hex') AS hex FROM ranked r
         $$, e.view, :'statement_texts', :'by'), true, true, '')::text FROM '<hex>([0-9a-f]*)</hex>') AS hex
  FROM extension e
)
SELECT s.total_ms, s.share_pct, s.mean_ms, s.calls, s.read_bytes, s.query, s.rank AS _rank,
       CASE :'by' WHEN 'mean' THEN 'the slowest statement takes ' || round(mean_ms)::bigint || ' ms per call.'
                  WHEN 'calls' THEN 'the most frequent statement ran ' || calls || ' times.'
                  WHEN 'io' THEN 'one statement caused ' || round(COALESCE(read_pct, 0))::int || ' % of all reads from disk.'
                  ELSE 'one statement takes ' || round(share_pct)::int || ' % of the total execution time.' END
         || CASE WHEN :'statement_texts' = 'false'
                 THEN ' No text can be shown: that of one statement of this server, maybe of another database, isn''t valid in this database''s encoding.'
                 ELSE '' END AS _says
FROM encoded CROSS JOIN LATERAL json_to_recordset(convert_from(decode(encoded.hex, 'hex'), getdatabaseencoding())::json)
  AS s(total_ms float8, share_pct float8, read_pct float8, mean_ms float8, calls bigint, read_bytes bigint, query text, rank float8)
ORDER BY s.rank DESC NULLS LAST
