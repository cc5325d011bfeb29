-- Tables and indexes of the kinds $1 with $2 in their names, the largest first; with $3 only tables that have a date or a time, with $4
-- only tables with indexes, and partitioned ones with partitions. Sizes are those of the last VACUUM or ANALYZE: to measure them would
-- wait for locks.
SELECT n.name AS value, c.relpages::int8 * current_setting('block_size')::int8 AS bytes, c.relkind IN ('i', 'I') AS is_index
FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
     CROSS JOIN LATERAL (SELECT CASE WHEN s.nspname = 'public' THEN c.relname::text ELSE s.nspname || '.' || c.relname END AS name) n
WHERE c.relkind = ANY ($1::text[]::"char"[]) AND c.relpersistence <> 't' AND s.nspname <> 'information_schema' AND s.nspname !~ '^pg_'
  AND strpos(lower(n.name COLLATE "default"), lower($2)) > 0
  AND (NOT $3::bool OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                                 AND a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)))
  AND (NOT $4::bool OR ((c.relhasindex OR c.relkind IN ('i', 'I'))
                        AND (c.relkind NOT IN ('p', 'I') OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid))))
ORDER BY c.relpages DESC, n.name
LIMIT 100
