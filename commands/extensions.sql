/*
summary = "Installed extensions, and which can be updated"
group = "databases"
risk = "read"
scope = "database"
needs = ["settings"]
args = [{ name = "service", type = "service", positional = true, help = "one service; all services if omitted" }]
example = "extensions asset-service"
details = "After a server upgrade an extension keeps its old version until ALTER EXTENSION … UPDATE. Some extensions work only if the server preloads their library; changing that needs a restart. On Azure the server parameter azure.extensions lists the extensions that may be created."
sort = "_rank"
top = 20
verdict_empty = "No service's database has an extension."
verdict = "All extensions are up to date."
rows_severity = "ok"
next = "As the extension's owner, run in that database: `{_step}`"
row_action_if = "_due"

[thresholds]
_missing = { warning = 1, critical = 1, message = "{target}: the server has no files for {extension}: whatever uses it fails.", next = "`settings shared_preload_libraries` shows which libraries the server loads." }
_update = { warning = 1, message = "{target}: an update is available for {_updates}.", next = "A DBA can run: `ALTER EXTENSION {extension} UPDATE`" }
_idle = { warning = 1, message = "{target}: {extension} is installed, but the server doesn't load it: add it to shared_preload_libraries and restart.", next = "`settings shared_preload_libraries` shows the setting." }
_blind = { warning = 1, in_part = true, message = "{target} {_shortfall}: `{_fix}`. Whether the server preloads a library is unknown." }
*/
-- ## Extensions
WITH loaded AS (
  SELECT (SELECT string_to_array(regexp_replace(setting, '[ "]|[^,]*/', '', 'g'), ',') FROM pg_settings WHERE name = 'shared_preload_libraries') AS libraries
), found AS (
  SELECT e.extname, e.extversion, x.default_version, n.nspname, x.name IS NULL AS missing, e.extversion <> x.default_version AS due,
         e.extname IN ('pg_stat_statements', 'pgaudit', 'pg_cron', 'timescaledb', 'citus', 'pg_wait_sampling', 'pg_qualstats', 'pg_stat_kcache', 'pg_stat_monitor')
           AND NOT e.extname = ANY (l.libraries) AS idle
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace LEFT JOIN pg_available_extensions x ON x.name = e.extname CROSS JOIN loaded l
)
SELECT quote_ident(extname) AS extension, extversion AS installed, CASE WHEN due THEN default_version END AS available, quote_ident(nspname) AS schema,
       CASE WHEN missing THEN 'files missing on the server' WHEN idle THEN 'not loaded by the server' END AS note,
       CASE WHEN missing THEN 1 END AS _missing, CASE WHEN idle THEN 1 END AS _idle,
       CASE WHEN row_number() OVER (ORDER BY due DESC NULLS LAST, extname) = 1 THEN NULLIF(count(*) FILTER (WHERE due) OVER (), 0) END AS _update,
       string_agg(quote_ident(extname), ', ') FILTER (WHERE due) OVER () AS _updates,
       due AS _due, format('ALTER EXTENSION %I UPDATE', extname) AS _step,
       CASE WHEN missing THEN 3 WHEN idle THEN 2 WHEN due THEN 1 ELSE 0 END AS _rank
FROM found ORDER BY _rank DESC, extname LIMIT 40;

-- ## Preloaded libraries [server]
SELECT COALESCE(NULLIF(s.setting, ''), CASE WHEN r.allowed THEN 'none' ELSE 'no privilege' END) AS libraries,
       CASE WHEN NOT r.allowed THEN 1 END AS _blind
FROM (SELECT pg_has_role('pg_read_all_settings', 'USAGE') AS allowed) r
LEFT JOIN pg_settings s ON s.name = 'shared_preload_libraries'
