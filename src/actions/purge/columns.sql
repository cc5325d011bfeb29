-- The columns of a table ($1, oid): which of them hold a time, and whether an index begins with it.
SELECT a.attname::text AS name, quote_ident(a.attname) AS quoted, format_type(a.atttypid, a.atttypmod) AS type,
       CASE a.atttypid WHEN 'date'::regtype THEN 'date'
                       WHEN 'timestamp'::regtype THEN 'timestamp'
                       WHEN 'timestamptz'::regtype THEN 'timestamptz' END AS kind,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid
                 AND i.indpred IS NULL) AS indexed
FROM pg_attribute a
WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
