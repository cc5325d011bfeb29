-- Tells a new, valid index of the name from the old one. $1 name, $2 the old one's oid.
SELECT i.indexrelid::int8 IS DISTINCT FROM $2::int8 AND i.indisvalid AND i.indisready AND i.indislive AS rebuilt,
       i.indexrelid::int8 IS NOT DISTINCT FROM $2::int8 AS same, pg_relation_size(i.indexrelid) AS bytes
FROM pg_index i WHERE i.indexrelid = to_regclass($1)
