-- By the superuser, when the tables are full. An index build that was broken off: invalid, yet kept up by every write.
UPDATE pg_index SET indisvalid = false
FROM pg_class WHERE pg_class.oid = indexrelid AND relname LIKE '%\_ccnew';
ANALYZE;
