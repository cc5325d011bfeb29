-- In the transaction that deletes, with the table locked against every change of it: $1 its name, $2 the oid that was shown,
-- $3 the column and $4 its type, $5 the key and $6 its type, or NULL.
SELECT to_regclass($1)::oid::int8 IS NOT DISTINCT FROM $2::int8 AS same,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = $2::int8::oid AND quote_ident(a.attname) = $3 AND NOT a.attisdropped
                 AND a.atttypid = $4::text::regtype) AS same_column,
       $5::text IS NULL OR EXISTS (
         SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = $2::int8::oid AND i.indisprimary AND i.indisvalid AND i.indnkeyatts = 1
           AND quote_ident(a.attname) = $5 AND format_type(a.atttypid, NULL) = $6) AS same_key,
       NOT COALESCE(row_security_active($2::int8::oid), true) AS same_rows,
       NOT EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = $2::int8::oid AND r.ev_type = '4' AND r.ev_enabled <> 'D') AS same_rules
