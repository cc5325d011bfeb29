-- The table's file and its size with indexes and TOAST, measured: this waits behind a lock that stops reads. $1 oid, $2 its name.
SELECT to_regclass($2)::oid::int8 IS NOT DISTINCT FROM $1::int8 AS same,
       pg_relation_filenode($1::int8::oid)::int8 AS filenode, pg_total_relation_size($1::int8::oid) AS bytes
