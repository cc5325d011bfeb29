/*
summary = "Disk use of the servers: databases, WAL and temporary files"
group = "databases"
risk = "read"
scope = "server"
needs = ["disk-use"]
args = [{ name = "all", type = "text", switch = true, help = "rows below 1 % of the whole, too" }]
example = "storage"
details = "PostgreSQL knows what it has written, but not how large the disk is or what else is on it, so no share of the disk is shown. Measuring databases waits for no lock. The growth of the databases is that of most samples of the last 14 days, one every 10 minutes; it is not shown before there are 20 over 6 hours. `temp files written` counts what a database has written to temporary files since its statistics were last reset."
sort = "size_bytes"
verdict_empty = "No server was asked."
verdict = "{target}: databases use {databases_bytes}, WAL {WAL_bytes}, temporary files {temporary_bytes}. PostgreSQL doesn't know the size of the disk."
next = "`sizes <service>` shows a service's tables, `replication` the slots that retain WAL."

[thresholds]
_unmeasured = { warning = 1, in_part = true, message = "{target} {_shortfall}: `{_fix}`. {_unmeasured} of {_databases} databases can't be measured, so the total is too low." }
_hidden = { warning = 1, in_part = true, message = "{target} {_shortfall}: `{_fix}`. The databases use {databases_bytes}; the size of {_what} is unknown." }
kept_by_slots_bytes = { warning = 1073741824, critical = 5368709120, message = "{target}: slot {_slot} retains {value} of WAL. `replication` shows whether it has a consumer." }
_wal_times = { warning = 3, message = "{target}: WAL takes {WAL_bytes}, {value} times the larger of max_wal_size and wal_keep_size: a slot, a replica or the archive may be behind." }
temporary_bytes = { warning = 10737418240, critical = 53687091200, message = "{target}: running statements use {value} of temporary files. `long` shows the sessions." }
*/
-- ## Disk [server facts]
-- Looked at: disk use
SELECT d.bytes AS databases_bytes, w.wal_bytes AS "WAL_bytes", k.kept_bytes AS kept_by_slots_bytes, w.temporary_bytes,
       d.bytes + w.wal_bytes + w.temporary_bytes AS total_bytes,
       'unknown to PostgreSQL' AS "disk size",
       (g.growth ->> 'per_day')::float8 AS "growth a day_bytes", (g.growth ->> 'over_s')::float8 AS "growth seen over_s",
       k.slot AS _slot, d.databases AS _databases, NULLIF(d.unmeasured, 0) AS _unmeasured,
       CASE WHEN w.wal_bytes IS NULL OR w.temporary_bytes IS NULL THEN 1 END AS _hidden,
       concat_ws(' and ', CASE WHEN w.wal_bytes IS NULL THEN 'WAL' END, CASE WHEN w.temporary_bytes IS NULL THEN 'temporary files' END) AS _what,
       (w.wal_bytes / greatest(pg_size_bytes(current_setting('max_wal_size')), pg_size_bytes(current_setting('wal_keep_size')), 1)::float8)
         AS _wal_times
FROM (SELECT sum(s.bytes)::bigint AS bytes, count(*) AS databases, count(*) FILTER (WHERE s.bytes IS NULL) AS unmeasured
      FROM pg_database b
      CROSS JOIN LATERAL (SELECT CASE WHEN has_database_privilege(b.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                                      THEN pg_database_size(b.oid) END AS bytes) s) d
-- Calling a function without the privilege is an error even in a CASE branch that isn't taken, unless the statement is built only then.
CROSS JOIN (
  SELECT CASE WHEN has_function_privilege('pg_ls_waldir()', 'EXECUTE')
              THEN substring(query_to_xml('SELECT COALESCE(sum(size), 0)::bigint AS n FROM pg_ls_waldir()', true, true, '')::text
                             FROM '<n>([0-9]+)</n>')::bigint END AS wal_bytes,
         CASE WHEN has_function_privilege('pg_ls_tmpdir(oid)', 'EXECUTE')
              THEN substring(query_to_xml('SELECT COALESCE(sum(f.size), 0)::bigint AS n FROM pg_tablespace t, pg_ls_tmpdir(t.oid) f
                                           WHERE t.spcname <> ''pg_global''', true, true, '')::text
                             FROM '<n>([0-9]+)</n>')::bigint END AS temporary_bytes) w
LEFT JOIN (SELECT s.slot_name::text AS slot, greatest(pg_wal_lsn_diff(h.lsn, s.restart_lsn), 0)::bigint AS kept_bytes
           FROM pg_replication_slots s
           CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) h
           WHERE s.restart_lsn IS NOT NULL
           ORDER BY 2 DESC LIMIT 1) k ON true
CROSS JOIN (SELECT :'disk_growth'::json -> :'server_name' AS growth) g;

-- ## Databases [server]
-- Looked at: database sizes
SELECT d.datname::text AS database, s.size_bytes, (100.0 * s.size_bytes / NULLIF(sum(s.size_bytes) OVER (), 0))::float8 AS share_pct,
       t.temp_bytes AS "temp files written_bytes"
FROM pg_database d
LEFT JOIN pg_stat_database t ON t.datid = d.oid
CROSS JOIN LATERAL (SELECT CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                                THEN pg_database_size(d.oid) END AS size_bytes) s
ORDER BY s.size_bytes DESC NULLS LAST, 1
LIMIT 15
