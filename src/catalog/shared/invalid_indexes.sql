-- Indexes that PostgreSQL doesn't use, and the steps that help: a rebuild, or for duplicates and for leftovers of one, none.
SELECT f.*, CASE WHEN nspname = 'public' THEN relname ELSE nspname || '.' || relname END AS typed, relkind = 'I' AS parent,
       NOT building AND relkind = 'i' AND NOT leftover AND NOT enforces AS rebuild
FROM (
  SELECT i.indexrelid, CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS index,
         CASE WHEN n.nspname = 'public' THEN quote_ident(t.relname) ELSE format('%I.%I', n.nspname, t.relname) END AS "table",
         greatest(c.relpages, 0)::bigint * current_setting('block_size')::int AS bytes, c.relkind, n.nspname, c.relname, c.relname ~ '_cc(new|old)[0-9]*$' AS leftover, i.indisunique AS enforces,
         -- CREATE and REINDEX CONCURRENTLY hold this lock for their whole run; VACUUM does too, so this errs on the safe side.
         EXISTS (SELECT 1 FROM pg_locks l WHERE l.relation = i.indrelid AND l.mode = 'ShareUpdateExclusiveLock'
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS building
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
) f
