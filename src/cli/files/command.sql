/*
# One line for `help`, and the heading that it is listed under.
summary = "Tables of a service with the most live rows"
group = "team"
# A `read` command runs at once, as the reader, in a READ ONLY transaction. A `danger` command waits for approval and counts what it
# changes: docs/custom-commands.md has an example.
risk = "read"
# `database` takes a service; `server` runs once on each server.
scope = "database"
args = [
  { name = "service", type = "service", positional = true, required = true, help = "the service" },
  { name = "most", type = "int", default = "10", help = "maximum number of tables" },
]
example = "@name@ asset-service"
verdict_empty = "The database has no tables."
*/
-- ## Tables
-- Values are bound: `:'most'::int`. The end of a column's name is its unit: `_bytes`, `_s`, `_pct`, `_at`. Tables need their schema.
SELECT t.schemaname::text AS schema, t.relname::text AS "table", t.n_live_tup AS live_rows, t.n_dead_tup AS dead_rows,
       t.last_autovacuum AS autovacuumed_at
FROM pg_catalog.pg_stat_user_tables t
ORDER BY t.n_live_tup DESC, t.schemaname, t.relname
LIMIT :'most'::int
