-- Leftovers of an interrupted REINDEX CONCURRENTLY on the tables: invalid, and as long as one is ready, every write maintains it.
-- $1 the tables' oids.
SELECT format('%I.%I', n.nspname, c.relname) AS relation, c.oid::int8 AS oid, pg_relation_size(c.oid) AS bytes,
       -- To drop it takes the owner, where MAINTAIN is enough to build it.
       pg_has_role(c.relowner, 'USAGE') AS may, pg_get_userbyid(c.relowner)::text AS owner,
       -- Another role's progress may be hidden but for its database, and its lock never is: VACUUM holds that one too, which errs on
       -- the safe side.
       EXISTS (SELECT FROM pg_stat_progress_create_index p
               WHERE p.datname = current_database() AND p.pid <> pg_backend_pid() AND COALESCE(NULLIF(p.relid, 0), i.indrelid) = i.indrelid)
         OR EXISTS (SELECT FROM pg_locks l
                    WHERE l.relation = i.indrelid AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS building
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid::int8 = ANY ($1::int8[]) AND c.relkind = 'i' AND c.relname ~ '_cc(new|old)[0-9]*$'
  AND NOT (i.indisvalid AND i.indisready AND i.indislive)
ORDER BY 1
