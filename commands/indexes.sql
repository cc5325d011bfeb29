/*
summary = "Invalid, redundant, missing and unused indexes"
group = "databases"
risk = "read"
scope = "database"
needs = []
args = [{ name = "service", type = "service", positional = true, required = true, choices = ["all"], help = "a service, or `all`" }]
example = "indexes asset-service"
details = "Sizes and row counts are PostgreSQL's latest estimates: measuring would wait behind a queued ALTER TABLE. An index is listed as unused if no scan of it has been counted since the counters began, or since it was created: PostgreSQL does not keep that time, so it is known only with track_commit_timestamp. Monthly jobs and queries on replicas are not in the counters. An index that enforces uniqueness is never reported as unused. The indexes of a partitioned table are counted once, over all partitions. Frequent sequential scans are no proof of a missing index: check `slow`."
verdict_empty = "No problem found with indexes."
empty_severity = "ok"
verdict = "No invalid, redundant or missing index was found for certain; the tables below list candidates."
sort = "_rank"
top = 8

[next_by]
_rebuild = "To rebuild it: `reindex {service} {_typed}`"
_step = "In a migration: `{_step}`{_then}"

[thresholds]
_invalid = { warning = 1, message = "{target}: {_indexes} invalid: unused by queries but still slowing writes." }
_double = { warning = 1, message = "{target}: {_indexes} redundant: another index begins with the same columns; about {_all_bytes} can be reclaimed." }
_foreign = { warning = 1, message = "{target}: {_keys} no index that begins with one of its columns, on a table of 10,000 rows or more: each delete in the parent table scans the whole table." }
_unused = { warning = 1, message = "{target}: {_indexes} existed and not been used since {_since_at}; about {_all_bytes} can be reclaimed if no replica uses them." }
*/
-- ## Invalid
-- Looked at: invalid indexes
SELECT index, "table", bytes AS "size (est.)_bytes",
       CASE WHEN building THEN 'may still be building' WHEN leftover THEN 'leftover of REINDEX CONCURRENTLY'
            WHEN parent THEN 'missing on a partition' WHEN enforces THEN 'its build was interrupted, or found duplicates'
            ELSE 'its build was interrupted' END AS note,
       CASE WHEN row_number() OVER (ORDER BY building, parent, bytes DESC, index) = 1
            THEN NULLIF(count(*) FILTER (WHERE NOT building) OVER (), 0) END AS _invalid,
       CASE count(*) FILTER (WHERE NOT building) OVER () WHEN 1 THEN '1 index is' ELSE count(*) FILTER (WHERE NOT building) OVER () || ' indexes are' END AS _indexes,
       CASE WHEN building OR parent THEN -1 ELSE bytes END AS _rank,
       typed AS _typed, NULLIF(rebuild, false) AS _rebuild,
       -- Of duplicates a rebuild fails again, and leaves one index more.
       CASE WHEN building OR rebuild THEN NULL WHEN parent THEN 'ALTER INDEX ' || index || ' ATTACH PARTITION …'
            ELSE 'DROP INDEX CONCURRENTLY ' || index END AS _step,
       CASE WHEN parent THEN ', once each partition has such an index' WHEN enforces AND NOT leftover
            THEN ', then find out whether its columns hold duplicates, and create it again' ELSE '' END AS _then,
       count(*) OVER () AS _total
FROM json_to_recordset(:'invalid_indexes'::json)
  AS i(index text, "table" text, typed text, bytes bigint, parent boolean, leftover boolean, enforces boolean, building boolean, rebuild boolean)
ORDER BY building, parent, bytes DESC, index LIMIT 30;

-- ## Redundant
-- Looked at: redundant indexes
WITH leaves AS ( -- pg_partition_tree would wait for a lock
  SELECT pg_partition_root(oid) AS root, sum(greatest(relpages, 0)) AS pages FROM pg_class
  WHERE relkind = 'i' AND relispartition GROUP BY 1
), ix AS (
  SELECT i.indexrelid, i.indrelid, i.indisprimary, i.indisunique, i.indimmediate, c.relname, c.relkind, c.relpages, c.relam, c.relispartition,
         i.indnkeyatts AS nk, i.indnatts AS na,
         string_to_array(i.indkey::text, ' ') AS keys, string_to_array(i.indclass::text, ' ') AS classes,
         string_to_array(i.indcollation::text, ' ') AS colls, string_to_array(i.indoption::text, ' ') AS opts,
         -- pg_get_expr would wait behind DDL
         regexp_replace(COALESCE(i.indexprs::text, ''), ':location -?[0-9]+', '', 'g') AS exprs,
         regexp_replace(COALESCE(i.indpred::text, ''), ':location -?[0-9]+', '', 'g') AS pred,
         COALESCE(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') AS nulls, -- from PostgreSQL 15 on
         i.indisexclusion OR i.indisreplident OR EXISTS (SELECT 1 FROM pg_constraint x WHERE x.conindid = i.indexrelid) AS needed
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE i.indisvalid AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
), pairs AS (
  SELECT DISTINCT ON (d.indexrelid) d.indexrelid, d.indrelid, d.relname, d.relkind, d.relpages, k.relname AS covering
  FROM ix d JOIN ix k ON k.indrelid = d.indrelid AND k.indexrelid <> d.indexrelid AND k.relam = d.relam
    AND k.pred = d.pred AND k.exprs = d.exprs AND k.nk >= d.nk
    AND d.na = d.nk -- it has no columns that are INCLUDEd
    AND k.keys[1:d.nk] = d.keys[1:d.nk] AND k.classes[1:d.nk] = d.classes[1:d.nk]
    AND k.colls[1:d.nk] = d.colls[1:d.nk] AND k.opts[1:d.nk] = d.opts[1:d.nk]
    AND (k.nk = d.nk OR (SELECT amname FROM pg_am WHERE oid = d.relam) = 'btree')
  WHERE NOT d.relispartition AND NOT d.needed AND NOT d.indisprimary
    AND (NOT d.indisunique OR k.indisunique AND k.indimmediate AND k.nk = d.nk AND k.nulls = d.nulls)
    -- each equal pair once: what a constraint needs stays, then what keeps rows unique, then the older
    AND (k.nk > d.nk OR k.na > k.nk OR k.needed OR k.relispartition OR k.indisunique AND NOT d.indisunique
         OR k.indisunique = d.indisunique AND d.indexrelid > k.indexrelid)
  ORDER BY d.indexrelid, k.needed DESC, k.nk, k.indexrelid
), sized AS (
  SELECT p.*, t.relname AS of, n.nspname, (greatest(p.relpages, 0) + COALESCE(l.pages, 0))::bigint * current_setting('block_size')::int AS bytes
  FROM pairs p JOIN pg_class t ON t.oid = p.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN leaves l ON l.root = p.indexrelid
), named AS (
  SELECT *, CASE WHEN nspname = 'public' THEN quote_ident(relname) ELSE format('%I.%I', nspname, relname) END AS index FROM sized
)
SELECT index, CASE WHEN nspname = 'public' THEN quote_ident(of) ELSE format('%I.%I', nspname, of) END AS "table",
       quote_ident(covering) AS "covered by", bytes AS "size (est.)_bytes",
       CASE WHEN row_number() OVER (ORDER BY relkind = 'I', bytes DESC, index) = 1 THEN count(*) OVER () END AS _double,
       CASE count(*) OVER () WHEN 1 THEN '1 index is' ELSE count(*) OVER () || ' indexes are' END AS _indexes,
       sum(bytes) OVER ()::bigint AS _all_bytes, CASE WHEN relkind = 'I' THEN -1 ELSE bytes END AS _rank,
       CASE relkind WHEN 'i' THEN 'DROP INDEX CONCURRENTLY ' ELSE 'DROP INDEX ' END || index AS _step,
       CASE relkind WHEN 'i' THEN '' ELSE ', which locks the table and its partitions for a moment' END AS _then, count(*) OVER () AS _total
FROM named ORDER BY relkind = 'I', bytes DESC, index LIMIT 30;

-- ## Foreign keys without an index
-- Looked at: foreign keys
WITH leaves AS (
  SELECT pg_partition_root(oid) AS root, CASE WHEN bool_and(reltuples >= 0 AND (relpages > 0 OR reltuples > 0 OR current_setting('server_version_num')::int >= 140000))
                                                THEN sum(reltuples) END AS tuples -- unknown before each was analyzed
  FROM pg_class WHERE relkind = 'r' AND relispartition GROUP BY 1
), keys AS (
  SELECT c.conrelid, c.conname, c.confrelid, t.relkind,
         CASE WHEN n.nspname = 'public' THEN quote_ident(t.relname) ELSE format('%I.%I', n.nspname, t.relname) END AS "table",
         (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord) FROM unnest(c.conkey) WITH ORDINALITY k(attnum, ord)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) AS columns,
         CASE WHEN t.relkind = 'p' THEN l.tuples WHEN t.relpages > 0 OR t.reltuples > 0 OR current_setting('server_version_num')::int >= 140000 THEN NULLIF(t.reltuples, -1) END::bigint AS about
  FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace LEFT JOIN leaves l ON l.root = t.oid
  WHERE c.contype = 'f' AND c.conparentid = 0 AND n.nspname !~ '^pg_'
    AND NOT EXISTS (
      SELECT 1 FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
      -- One that begins with any of the columns finds the few rows of a key, though not always by the whole key.
      WHERE i.indrelid = c.conrelid AND i.indisvalid AND m.amname IN ('btree', 'hash') AND i.indkey[0] = ANY (c.conkey)
        -- an index on all rows, or on all rows with a key: the check of a foreign key looks for no others
        AND (i.indpred IS NULL
             OR regexp_replace(i.indpred::text, '\{NULLTEST :arg \{VAR [^{}]*\} :nulltesttype 1 [^{}]*\}', '', 'g') ~ '^(\{BOOLEXPR :boolop and :args \( *\) :location -?[0-9]+\})?$'
             AND NOT EXISTS (SELECT FROM regexp_matches(i.indpred::text, ':varattno ([0-9]+) ', 'g') v WHERE v[1]::int2 <> ALL (c.conkey))))
)
SELECT k."table", k.columns, k.about AS "rows (est.)",
       CASE WHEN rn.nspname = 'public' THEN quote_ident(r.relname) ELSE format('%I.%I', rn.nspname, r.relname) END AS parent,
       CASE WHEN row_number() OVER (ORDER BY k.about DESC NULLS LAST, k."table", k.columns, k.conname) = 1
            THEN NULLIF(count(*) FILTER (WHERE k.about >= 10000) OVER (), 0) END AS _foreign,
       CASE count(*) FILTER (WHERE k.about >= 10000) OVER () WHEN 1 THEN '1 foreign key has'
            ELSE count(*) FILTER (WHERE k.about >= 10000) OVER () || ' foreign keys have' END AS _keys,
       k.about AS _rank, CASE WHEN k.about >= 10000
            THEN format(CASE k.relkind WHEN 'p' THEN 'CREATE INDEX ON ONLY %s (%s)' ELSE 'CREATE INDEX CONCURRENTLY ON %s (%s)' END, k."table", k.columns) END AS _step,
       CASE k.relkind WHEN 'p' THEN ', then CONCURRENTLY on each partition, and attach those with ALTER INDEX … ATTACH PARTITION' ELSE '' END AS _then,
       count(*) OVER () AS _total
FROM keys k JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
ORDER BY k.about DESC NULLS LAST, k."table", k.columns, k.conname LIMIT 30;

-- ## Unused
-- Looked at: unused indexes
WITH counting AS (
  -- From 15 on a database that was never reset has no time of its own. A crash or the first start has left one with the server; there a
  -- reset of one kind of counters has its own time, which is not that of the others.
  SELECT greatest(d.stats_reset, least(b.stats_reset, a.stats_reset)) AS since
  FROM pg_stat_database d, pg_stat_bgwriter b, pg_stat_archiver a WHERE d.datname = current_database()
), ix AS (
  SELECT COALESCE(pg_partition_root(s.indexrelid), s.indexrelid) AS root, sum(s.idx_scan) AS scans,
         sum(greatest(c.relpages, 0))::bigint * current_setting('block_size')::int AS bytes
  FROM pg_stat_user_indexes s JOIN pg_class c ON c.oid = s.indexrelid WHERE c.relpersistence <> 't' GROUP BY 1
), found AS (
  SELECT CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS index,
         CASE WHEN n.nspname = 'public' THEN quote_ident(t.relname) ELSE format('%I.%I', n.nspname, t.relname) END AS "table",
         c.relkind, ix.bytes, counting.since, greatest(counting.since, created.at) AS unused_since,
         created.at > now() - interval '7 days' AS young,
         COALESCE(created.at IS NOT NULL AND greatest(counting.since, created.at) < now() - interval '7 days', false)
           AND NOT pg_is_in_recovery() AS old_enough,
         CASE WHEN EXISTS (SELECT 1 FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = i.indrelid AND i.indkey[0] = ANY (f.conkey))
              THEN 'serves a foreign key'
              ELSE 'same columns as ' || (SELECT min(quote_ident(o.relname)) FROM pg_index k JOIN pg_class o ON o.oid = k.indexrelid
                                  WHERE k.indrelid = i.indrelid AND k.indexrelid <> i.indexrelid AND k.indisvalid AND k.indkey::text = i.indkey::text
                                    AND k.indclass::text = i.indclass::text AND k.indexprs IS NULL AND i.indexprs IS NULL
                                    AND k.indpred IS NULL AND i.indpred IS NULL) END AS note
  FROM ix JOIN pg_index i ON i.indexrelid = ix.root JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace CROSS JOIN counting
  -- Its row in pg_class is as old as the index, or younger: without the time of its transaction its age is unknown.
  CROSS JOIN LATERAL (SELECT CASE WHEN current_setting('track_commit_timestamp')::boolean THEN pg_xact_commit_timestamp(c.xmin) END AS at) created
  WHERE ix.scans = 0 AND i.indisvalid AND NOT (i.indisunique OR i.indisprimary OR i.indisexclusion OR i.indisreplident OR i.indisclustered)
)
SELECT index, "table", bytes AS "size (est.)_bytes", extract(epoch FROM clock_timestamp() - since)::float8 AS "counters age_s",
       COALESCE(note, CASE WHEN old_enough THEN NULL WHEN young THEN 'younger than 7 d' ELSE 'age unknown' END) AS note,
       CASE WHEN row_number() OVER (ORDER BY droppable DESC, bytes DESC, index) = 1 THEN NULLIF(count(*) FILTER (WHERE droppable) OVER (), 0) END AS _unused,
       CASE count(*) FILTER (WHERE droppable) OVER () WHEN 1 THEN '1 index has' ELSE count(*) FILTER (WHERE droppable) OVER () || ' indexes have' END AS _indexes,
       max(unused_since) FILTER (WHERE droppable) OVER () AS _since_at, sum(bytes) FILTER (WHERE droppable) OVER ()::bigint AS _all_bytes, bytes AS _rank,
       CASE WHEN droppable THEN CASE relkind WHEN 'i' THEN 'DROP INDEX CONCURRENTLY ' ELSE 'DROP INDEX ' END || index END AS _step,
       ', if no replica and no monthly job uses it' AS _then, count(*) OVER () AS _total
FROM (SELECT *, old_enough AND note IS NULL AS droppable FROM found) f
ORDER BY droppable DESC, bytes DESC, index LIMIT 30;

-- ## Large tables with frequent sequential scans
-- Looked at: sequential scans
WITH read AS (
  SELECT COALESCE(pg_partition_root(s.relid), s.relid) AS root, sum(s.seq_scan)::bigint AS scans, sum(s.seq_tup_read)::bigint AS tuples,
         sum(COALESCE(s.idx_scan, 0))::bigint AS index_scans, sum(s.n_live_tup)::bigint AS about
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't' GROUP BY 1
)
SELECT CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table",
       r.about AS "rows (est.)", r.scans AS "seq scans", r.index_scans AS "index scans", r.tuples AS _rank, count(*) OVER () AS _total
FROM read r JOIN pg_class c ON c.oid = r.root JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.about >= 10000 AND r.scans >= 10 AND r.tuples / r.scans > r.about / 10
ORDER BY r.tuples DESC, 1 LIMIT 15;

-- ## Tables without a primary key
-- Looked at: primary keys
WITH leaves AS (
  SELECT pg_partition_root(oid) AS root, CASE WHEN bool_and(reltuples >= 0 AND (relpages > 0 OR reltuples > 0 OR current_setting('server_version_num')::int >= 140000))
                                                THEN sum(reltuples) END AS tuples -- unknown before each was analyzed
  FROM pg_class WHERE relkind = 'r' AND relispartition GROUP BY 1
)
SELECT CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS "table",
       r.about AS "rows (est.)", r.about AS _rank, count(*) OVER () AS _total
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN leaves l ON l.root = c.oid
CROSS JOIN LATERAL (SELECT CASE WHEN c.relkind = 'p' THEN l.tuples WHEN c.relpages > 0 OR c.reltuples > 0 OR current_setting('server_version_num')::int >= 140000
                              THEN NULLIF(c.reltuples, -1) END::bigint AS about) r
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p')
ORDER BY 2 DESC NULLS LAST, 1 LIMIT 30
