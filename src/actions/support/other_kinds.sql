-- Relations of every kind by their name $1 as typed, the exact match first.
SELECT format('%I.%I', n.nspname, c.relname) AS relation,
       CASE c.relkind WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table' WHEN 'S' THEN 'a sequence'
                      WHEN 'c' THEN 'a composite type' WHEN 'i' THEN 'an index' WHEN 'I' THEN 'a partitioned index' WHEN 'p' THEN 'a partitioned table'
                      ELSE 'a table' END AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND lower(replace($1, '"', '')) IN (lower(replace(c.relname, '"', '') COLLATE "default"),
                                      lower(replace(n.nspname || '.' || c.relname, '"', '') COLLATE "default"))
ORDER BY $1 IN (c.relname::text, n.nspname || '.' || c.relname, quote_ident(c.relname), format('%I.%I', n.nspname, c.relname)) DESC, 1
LIMIT 1
