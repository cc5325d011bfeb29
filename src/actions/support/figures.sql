SELECT s.bytes::float8 AS databases_bytes,
       CASE WHEN has_function_privilege('pg_ls_waldir()', 'EXECUTE')
            THEN substring(query_to_xml('SELECT COALESCE(sum(size), 0)::bigint AS n FROM pg_ls_waldir()', true, true, '')::text
                           FROM '<n>([0-9]+)</n>')::float8 END AS wal_bytes
FROM (SELECT sum(CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                      THEN pg_database_size(d.oid) END) AS bytes,
             bool_and(has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')) AS all_measured
      FROM pg_database d) s
WHERE s.all_measured
