/*
summary = "Settings that differ from their defaults, and changes waiting for a restart"
group = "databases"
risk = "read"
scope = "server"
needs = ["settings"]
args = [{ name = "pattern", type = "text", positional = true, help = "part of a name; `*` matches any characters" }]
example = "settings autovacuum"
details = "Without a pattern, `settings` lists the changed settings; with one, every setting with a matching name. Values that can contain a password, such as primary_conninfo or archive_command, are never shown, nor are values of settings that PostgreSQL doesn't know. A setting that Countersign's own session overrides is marked instead of showing its value."
top = 30
verdict_empty = "No server was asked."
verdict = "{target}: {_says}"
next = "To see every setting with a matching name: `settings <part of a name>`"

[thresholds]
_restart = { warning = 1, message = "{target}: {_waiting} for a server restart; until then the old value applies." }
_blind = { warning = 1, in_part = true, message = "{target} {_shortfall}: `{_fix}`." }
*/
-- Looked at: changes waiting for a restart
-- Shown only in the verdict.
WITH asked AS (
  SELECT '%' || replace(replace(replace(replace(COALESCE(:'pattern', ''), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%') || '%' AS pattern, COALESCE(:'pattern', '') <> '' AS given
), counted AS (
  SELECT count(*) FILTER (WHERE s.source IN ('environment variable', 'configuration file', 'command line', 'global')
                            AND s.setting IS DISTINCT FROM s.boot_val) AS changed,
         count(*) AS matching, string_agg(s.name, ', ' ORDER BY s.name) FILTER (WHERE s.pending_restart) AS waiting,
         count(*) FILTER (WHERE s.pending_restart) AS restarts
  FROM pg_settings s CROSS JOIN asked a WHERE s.name ILIKE a.pattern
)
SELECT CASE WHEN c.restarts > 0 THEN 1 END AS _restart, c.waiting || CASE c.restarts WHEN 1 THEN ' waits' ELSE ' wait' END AS _waiting,
       CASE WHEN NOT pg_has_role('pg_read_all_settings', 'USAGE') THEN 1 END AS _blind,
       CASE WHEN a.given AND c.matching = 0 THEN 'no setting has a matching name.'
            WHEN a.given THEN c.matching || CASE c.matching WHEN 1 THEN ' setting matches; ' ELSE ' settings match; ' END
                              || CASE c.changed WHEN 0 THEN 'none differs from its default.' WHEN 1 THEN '1 differs from its default.'
                                                ELSE c.changed || ' differ from their defaults.' END
            ELSE c.changed || CASE c.changed WHEN 1 THEN ' setting differs from its default' ELSE ' settings differ from their defaults' END || '; no change is waiting for a restart.' END AS _says
FROM counted c CROSS JOIN asked a;

-- ## Settings
WITH asked AS (
  SELECT '%' || replace(replace(replace(replace(COALESCE(:'pattern', ''), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%') || '%' AS pattern, COALESCE(:'pattern', '') <> '' AS given
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
       CASE WHEN ours THEN NULL WHEN NOT showable THEN CASE WHEN setting = '' THEN 'empty' ELSE 'set (hidden)' END
            WHEN setting IN ('0', '-1') OR unit IS NULL THEN setting
            WHEN factor IS NULL THEN setting || ' ' || unit ELSE pg_size_pretty(setting::bigint * factor) END AS value,
       CASE WHEN NOT showable OR NOT changed OR ours THEN NULL
            WHEN boot_val IN ('0', '-1') OR unit IS NULL THEN boot_val
            WHEN factor IS NULL THEN boot_val || ' ' || unit ELSE pg_size_pretty(boot_val::bigint * factor) END AS default,
       CASE WHEN pending_restart THEN 'waiting for a restart' WHEN ours THEN 'overridden by Countersign'
            WHEN context = 'postmaster' AND given THEN 'a change needs a restart' END AS note
FROM shown
WHERE pending_restart OR changed OR given
ORDER BY pending_restart DESC, changed DESC, name LIMIT 100;

-- ## Role and database settings
-- Looked at: overrides by role or database
WITH asked AS (
  SELECT '%' || replace(replace(replace(replace(COALESCE(:'pattern', ''), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%') || '%' AS pattern
), entries AS (
  SELECT COALESCE(d.datname, 'all')::text AS database, COALESCE(r.rolname, 'all')::text AS role,
         split_part(e.entry, '=', 1) AS name, substr(e.entry, strpos(e.entry, '=') + 1) AS value
  FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS e(entry)
  LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
)
SELECT e.role, e.database, e.name AS setting,
       CASE WHEN k.vartype <> 'string' OR e.name IN ('DateStyle', 'IntervalStyle', 'TimeZone', 'client_encoding', 'default_tablespace', 'default_text_search_config',
                                                     'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'search_path', 'pgaudit.log', 'temp_tablespaces')
            THEN e.value ELSE 'set (hidden)' END AS value
FROM entries e CROSS JOIN asked a LEFT JOIN pg_settings k ON lower(k.name) = lower(e.name)
WHERE e.name ILIKE a.pattern
ORDER BY e.role, e.database, e.name LIMIT 60
