-- One login, seen from itself.
SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       quote_ident(current_user) AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
