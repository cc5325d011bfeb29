-- Names of columns with a date or a time that contain $1, each with the tables that have it.
SELECT a.attname::text AS value, string_agg(c.relname, ', ' ORDER BY c.relname) AS tables
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace s ON s.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND s.nspname <> 'information_schema' AND s.nspname !~ '^pg_'
  AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
  AND strpos(lower(a.attname COLLATE "default"), lower($1)) > 0
GROUP BY a.attname
ORDER BY count(*) DESC, a.attname
LIMIT 100
