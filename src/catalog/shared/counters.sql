-- What the counters of dead, inserted and changed rows can't tell: all of it on a replica, and that of tables that hold rows although
-- the counters know of none that was ever written. Smaller tables than 1 MiB are left out, and so are locked ones, since measuring
-- would wait for the lock.
WITH busy AS (
  SELECT DISTINCT l.relation FROM pg_locks l
  WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL
), uncounted AS (
  SELECT CASE WHEN s.schemaname = 'public' THEN quote_ident(s.relname) ELSE format('%I.%I', s.schemaname, s.relname) END AS "table"
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  WHERE s.n_tup_ins + s.n_tup_upd + s.n_tup_del = 0 AND COALESCE(s.last_vacuum, s.last_autovacuum, s.last_analyze, s.last_autoanalyze) IS NULL
    AND s.relid NOT IN (SELECT relation FROM busy)
    AND CASE WHEN c.relpages > 0 THEN c.relpages * current_setting('block_size')::bigint ELSE pg_relation_size(s.relid) END >= 1048576
), counting AS (
  -- From 15 on a database that was never reset has no time of its own. A crash leaves one with the server; there a reset of one kind of
  -- counters has its own time, which is not that of the others.
  SELECT greatest(d.stats_reset, least(b.stats_reset, a.stats_reset)) AS since
  FROM pg_stat_database d, pg_stat_bgwriter b, pg_stat_archiver a WHERE d.datname = current_database()
)
SELECT CASE WHEN pg_is_in_recovery() THEN 1 END AS replica,
       CASE WHEN NOT pg_is_in_recovery() THEN NULLIF(u.tables, 0) END AS uncounted,
       CASE u.tables WHEN 1 THEN u.first ELSE u.first || ' and ' || u.tables - 1 || CASE u.tables WHEN 2 THEN ' other table' ELSE ' other tables' END END AS tables,
       c.since
FROM counting c, (SELECT count(*) AS tables, min("table") AS first FROM uncounted) u
WHERE pg_is_in_recovery() OR u.tables > 0
