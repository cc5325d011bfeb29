/*
summary  = "Settings that differ from the default, and what waits for a restart"
group    = "databases"
risk     = "read"
scope    = "server"
args     = [{ name = "pattern", type = "text", positional = true, help = "part of a name; `*` stands for anything" }]
example  = "settings autovacuum"
details  = "Without a pattern, what somebody has changed; with one, every setting whose name has it. Texts that can carry a password, such as primary_conninfo or archive_command, are never shown, nor are settings that PostgreSQL doesn't know. What Countersign's own session sets for itself hides the server's value, and says so."
top      = 30
verdict_empty = "No server was asked."
verdict  = "{target}: {_says}"
next     = "`settings <part of a name>` shows every setting that has it in its name."

[thresholds]
_restart = { warning = 1, message = "{target}: {_waiting} for a restart of the server: until then the old value counts." }
_blind   = { warning = 1, message = "{target}: not allowed to see the settings that only administrators see: grant pg_monitor to Countersign's reader." }
*/
-- Shown in the verdict alone.
WITH asked AS (
  SELECT '%' || replace(replace(replace(COALESCE(:'pattern', ''), '\', '\\'), '_', '\_'), '*', '%') || '%' AS pattern, COALESCE(:'pattern', '') <> '' AS given
), counted AS (
  SELECT count(*) FILTER (WHERE s.source IN ('environment variable', 'configuration file', 'command line', 'global')
                            AND s.setting IS DISTINCT FROM s.boot_val) AS changed,
         count(*) AS matching, string_agg(s.name, ', ' ORDER BY s.name) FILTER (WHERE s.pending_restart) AS waiting,
         count(*) FILTER (WHERE s.pending_restart) AS restarts
  FROM pg_settings s CROSS JOIN asked a WHERE s.name ILIKE a.pattern
)
SELECT CASE WHEN c.restarts > 0 THEN 1 END AS _restart, c.waiting || CASE c.restarts WHEN 1 THEN ' waits' ELSE ' wait' END AS _waiting,
       CASE WHEN NOT pg_has_role('pg_read_all_settings', 'USAGE') THEN 1 END AS _blind,
       CASE WHEN a.given AND c.matching = 0 THEN 'no setting has that in its name.'
            WHEN a.given THEN c.matching || CASE c.matching WHEN 1 THEN ' setting has' ELSE ' settings have' END || ' that in the name, '
                              || CASE c.changed WHEN 0 THEN 'all with their' WHEN 1 THEN '1 with another value than its' ELSE c.changed || ' with other values than their' END
                              || ' default.'
            ELSE c.changed || CASE c.changed WHEN 1 THEN ' setting differs' ELSE ' settings differ' END || ' from the default; none waits for a restart.' END AS _says
FROM counted c CROSS JOIN asked a;

-- ## Settings
WITH asked AS (
  SELECT '%' || replace(replace(replace(COALESCE(:'pattern', ''), '\', '\\'), '_', '\_'), '*', '%') || '%' AS pattern, COALESCE(:'pattern', '') <> '' AS given
), named AS (
  SELECT s.*, a.given, CASE s.unit WHEN 'B' THEN 1 WHEN 'kB' THEN 1024 WHEN '8kB' THEN 8192 WHEN 'MB' THEN 1048576 END AS factor,
         -- Numbers and choices can't carry a secret. Of texts only these can't.
         s.vartype <> 'string' OR s.name IN ('DateStyle', 'IntervalStyle', 'TimeZone', 'application_name', 'azure.extensions', 'client_encoding', 'cluster_name',
           'default_table_access_method', 'default_tablespace', 'default_text_search_config', 'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'lc_collate',
           'lc_ctype', 'listen_addresses', 'local_preload_libraries', 'log_connections', 'log_destination', 'log_directory', 'log_filename', 'log_line_prefix', 'log_timezone',
           'pgaudit.log', 'search_path', 'server_encoding', 'server_version', 'session_preload_libraries', 'shared_preload_libraries', 'ssl_ciphers', 'ssl_library',
           'synchronous_standby_names', 'temp_tablespaces', 'timezone_abbreviations', 'unix_socket_directories', 'wal_consistency_checking') AS showable,
         -- ours, not the server's
         s.source IN ('client', 'session', 'interactive', 'user', 'database user', 'database') AS ours
  FROM pg_settings s CROSS JOIN asked a WHERE s.name ILIKE a.pattern
), shown AS (
  SELECT *, setting IS DISTINCT FROM boot_val AND source IN ('environment variable', 'configuration file', 'command line', 'global') AS changed FROM named
)
SELECT name AS setting,
       CASE WHEN ours THEN NULL WHEN NOT showable THEN CASE WHEN setting = '' THEN 'empty' ELSE 'set, not shown' END
            WHEN setting IN ('0', '-1') OR unit IS NULL THEN setting
            WHEN factor IS NULL THEN setting || ' ' || unit ELSE pg_size_pretty(setting::bigint * factor) END AS value,
       CASE WHEN NOT showable OR NOT changed OR ours THEN NULL
            WHEN boot_val IN ('0', '-1') OR unit IS NULL THEN boot_val
            WHEN factor IS NULL THEN boot_val || ' ' || unit ELSE pg_size_pretty(boot_val::bigint * factor) END AS default,
       CASE WHEN pending_restart THEN 'waits for a restart' WHEN ours THEN 'hidden by Countersign''s own value'
            WHEN context = 'postmaster' AND given THEN 'changing it takes a restart' END AS note
FROM shown
WHERE pending_restart OR changed OR given
ORDER BY pending_restart DESC, changed DESC, name LIMIT 100;

-- ## For roles and databases
WITH asked AS (
  SELECT '%' || replace(replace(replace(COALESCE(:'pattern', ''), '\', '\\'), '_', '\_'), '*', '%') || '%' AS pattern
), entries AS (
  SELECT COALESCE(d.datname, 'all')::text AS database, COALESCE(r.rolname, 'all')::text AS role,
         split_part(e.entry, '=', 1) AS name, substr(e.entry, strpos(e.entry, '=') + 1) AS value
  FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS e(entry)
  LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
)
SELECT e.role, e.database, e.name AS setting,
       CASE WHEN k.vartype <> 'string' OR e.name IN ('DateStyle', 'IntervalStyle', 'TimeZone', 'client_encoding', 'default_tablespace', 'default_text_search_config',
                                                     'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'search_path', 'pgaudit.log', 'temp_tablespaces')
            THEN e.value ELSE 'set, not shown' END AS value
FROM entries e CROSS JOIN asked a LEFT JOIN pg_settings k ON lower(k.name) = lower(e.name)
WHERE e.name ILIKE a.pattern
ORDER BY e.role, e.database, e.name LIMIT 60
