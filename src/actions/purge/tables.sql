-- Tables that rows can be deleted from: $1 as typed, or NULL for all. Exact matches come first.
SELECT format('%I.%I', n.nspname, c.relname) AS relation, c.relname::text AS name, c.oid::int8 AS oid,
       c.relkind = 'p' AS partitioned,
       t.typed IN (c.relname::text, n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname)) AS exact
FROM (SELECT $1::text AS typed) t, pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND (t.typed IS NULL
       OR lower(t.typed) IN (lower(c.relname), lower(n.nspname || '.' || c.relname), lower(format('%I.%I', n.nspname, c.relname)),
                             lower(quote_ident(c.relname))))
ORDER BY 5 DESC, 1
