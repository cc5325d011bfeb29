/*
summary  = "The statements that cost most, from pg_stat_statements"
group    = "databases"
risk     = "read"
scope    = "database"
args     = [
  { name = "service", type = "service", positional = true, help = "one service; without it, all of them" },
  { name = "by", type = "choice", choices = ["total", "mean", "calls", "io"], default = "total", help = "what to order by: time in all, time of one call, calls, or reads from disk" },
]
example  = "slow asset-service --by mean"
details  = "Counts since the statistics were last reset. Values are not in the statistics, and what an administrator typed is shown without its literals. Times of a statement that is planned only are left out."
sort     = "_rank"
top      = 15
verdict_empty = "pg_stat_statements has counted no statement of it yet."
verdict  = "{target}: {_says}"

[on_error]
42P01 = "has no pg_stat_statements: a DBA adds it to shared_preload_libraries (on Azure also to azure.extensions), restarts the server, and runs CREATE EXTENSION pg_stat_statements in that database"
55000 = "has pg_stat_statements, but the server doesn't load it: a DBA adds it to shared_preload_libraries and restarts the server"
*/
-- Column names differ by the extension's version, not the server's: total_time before 1.8, total_exec_time since.
WITH counted AS (
  SELECT s.queryid, s.calls, s.query, s.shared_blks_read,
         COALESCE(j.j ->> 'total_exec_time', j.j ->> 'total_time')::float8 AS total_ms,
         COALESCE(j.j ->> 'toplevel', 'true')::boolean AS toplevel
  FROM pg_stat_statements s CROSS JOIN LATERAL (SELECT to_jsonb(s) - 'query' AS j) j
  WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND s.userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user) AND s.calls > 0
), summed AS (
  -- One line for a statement, whoever ran it.
  SELECT min(query) AS query, sum(calls)::bigint AS calls, sum(total_ms) AS total_ms, sum(total_ms) / sum(calls) AS mean_ms,
         sum(shared_blks_read)::bigint * current_setting('block_size')::int AS read_bytes
  FROM counted WHERE toplevel GROUP BY queryid
), ranked AS (
  SELECT *, 100 * total_ms / NULLIF(sum(total_ms) OVER (), 0) AS share_pct,
         100 * read_bytes::float8 / NULLIF(sum(read_bytes::float8) OVER (), 0) AS read_pct,
         CASE :'by' WHEN 'mean' THEN mean_ms WHEN 'calls' THEN calls WHEN 'io' THEN read_bytes ELSE total_ms END::float8 AS rank
  FROM summed
)
SELECT total_ms, share_pct, mean_ms, calls, read_bytes, query, rank AS _rank,
       CASE :'by' WHEN 'mean' THEN 'the slowest statement takes ' || round(mean_ms)::bigint || ' ms a call.'
                  WHEN 'calls' THEN 'the most frequent statement ran ' || calls || ' times.'
                  WHEN 'io' THEN 'one statement read ' || round(COALESCE(read_pct, 0))::int || ' % of what came from disk.'
                  ELSE 'one statement takes ' || round(share_pct)::int || ' % of the database''s time.' END AS _says
FROM ranked ORDER BY rank DESC NULLS LAST LIMIT 10
