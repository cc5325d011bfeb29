-- The indexes that are invalid or bloated, as the login that will rebuild them sees them: the invalid first, then in order of what can be
-- reclaimed. The size of a B-tree index without bloat is estimated from the statistics of ANALYZE; of duplicates it has less, which
-- errs on the safe side. $1 smallest gain in bytes, $2 smallest share of the index.
WITH indexes AS (
  SELECT c.oid, c.relname, n.nspname, c.relpages::numeric AS pages, c.reltuples::numeric AS entries, i.indrelid, i.indkey, i.indisvalid,
         am.amname = 'btree' AS is_btree, current_setting('block_size')::numeric AS bs,
         COALESCE((SELECT option_value::numeric FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 90) AS fill,
         t.relname AS table_name, tn.nspname AS table_schema
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = c.relam
  JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
  WHERE c.relkind = 'i' AND t.relkind IN ('r', 'm') AND t.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
    -- The leftovers of an interrupted rebuild are dropped, not rebuilt.
    AND (i.indisvalid OR c.relname !~ '_cc(new|old)[0-9]*$')
    -- Before 17 the owner alone may.
    AND has_schema_privilege(n.oid, 'USAGE') AND (pg_has_role(t.relowner, 'USAGE')
         OR CASE WHEN current_setting('server_version_num')::int >= 170000
                 THEN has_table_privilege(t.oid, CASE WHEN current_setting('server_version_num')::int >= 170000 THEN 'MAINTAIN' ELSE 'SELECT' END)
                 ELSE false END)
), entries AS (
  -- The width of an entry's data. The statistics of an expression are those of the index.
  SELECT x.oid, sum((1 - COALESCE(s.null_frac, 0)) * s.avg_width)::numeric AS width, bool_or(s.avg_width IS NULL) AS unknown,
         bool_or(COALESCE(s.null_frac, 0) > 0) AS has_null
  FROM indexes x
  JOIN pg_attribute a ON a.attrelid = x.oid AND a.attnum > 0
  LEFT JOIN pg_attribute c ON c.attrelid = x.indrelid AND x.indkey[a.attnum - 1] <> 0 AND c.attnum = x.indkey[a.attnum - 1]
  LEFT JOIN pg_stats s ON s.schemaname = x.table_schema AND NOT s.inherited
    AND s.tablename = CASE WHEN c.attnum IS NULL THEN x.relname ELSE x.table_name END AND s.attname = COALESCE(c.attname, a.attname)
  GROUP BY x.oid
), measured AS (
  -- A page has a header of 24 bytes and 16 of the index; an entry a header of 8, its data aligned to 8, and a line pointer of 4.
  SELECT x.*, x.bs * (x.pages - least(x.pages, 1 + ceil(x.entries
           / greatest(floor((x.bs - 40) * x.fill / 100 / (CASE WHEN e.has_null THEN 16 ELSE 8 END + ceil(e.width / 8) * 8 + 4)), 1)))) AS gain
  FROM indexes x JOIN entries e ON e.oid = x.oid
  WHERE x.is_btree AND x.indisvalid AND x.pages > 1 AND x.entries >= 0 AND NOT e.unknown
)
SELECT format('%I.%I', x.nspname, x.relname) AS relation, x.oid::int8 AS oid, pg_relation_size(x.oid) AS bytes,
       format('%I.%I', x.table_schema, x.table_name) AS "table", x.indrelid::int8 AS table_oid, COALESCE(m.gain, 0)::int8 AS gain
FROM indexes x LEFT JOIN measured m ON m.oid = x.oid
WHERE NOT x.indisvalid OR m.gain >= $1::int8 AND m.gain >= $2::float8::numeric * x.pages * x.bs
ORDER BY x.indisvalid, m.gain DESC NULLS LAST, 1
