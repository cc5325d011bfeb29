-- What the tables take, without asking for any relation's size: that would wait behind a queued ACCESS EXCLUSIVE lock.
SELECT pg_database_size(current_database()) AS database_bytes,
       greatest(pg_database_size(current_database())
                - (SELECT coalesce(sum(relpages::bigint), 0)::bigint FROM pg_class WHERE relkind = 'i')
                  * current_setting('block_size')::bigint, 0) AS table_bytes,
       split_part(current_setting('server_version'), ' ', 1) AS version
