-- One login, seen from itself: what it may. A role that this major version doesn't have is NULL.
SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       quote_ident(current_user) AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       pg_has_role('pg_read_all_stats', 'USAGE') AS has_pg_read_all_stats,
       pg_has_role('pg_signal_backend', 'USAGE') AS signals,
       (SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_data') AS reads_all,
       -- A setting of the extension exists only while its library is loaded.
       EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max') AS statements_loaded
