/*
summary = "Prisma migrations: applied, failed, rolled back, pending; and who holds Prisma's lock"
group = "databases"
risk = "read"
scope = "database"
needs = ["migration-history"]
args = [{ name = "service", type = "service", positional = true, help = "its migrations one by one; one line per service if omitted" }]
example = "migrations asset-service"
details = "By Prisma's own rule a migration that has neither finished nor been rolled back blocks every later deploy (P3009). The database doesn't know which migrations are pending: if the configuration names a service's migrations directory, its names and checksums are compared with Prisma's migration table. Prisma's log is not shown, because it can contain customer data; its SQLSTATE is."
rows_severity = "ok"
verdict_empty = "No configured service runs in this environment."
verdict = "{_says}"
row_action = "kill {pid}"
row_action_if = "_stuck"
next = "Pid {pid} holds Prisma's lock and has been {state} for {for_s}. If no deploy is running, release it: `kill {pid}`"

[thresholds]
_open = { warning = 1, critical = 1, message = "{target}: {_open_names}. Deploys are blocked (P3009) until you mark it as applied or rolled back: `migrate-resolve {service}`" }
_running = { warning = 1, message = "{target}: {_running_name} is running (pid {_holder}).", next = "`blocked` shows whether it waits for a lock." }
_unreadable = { warning = 1, in_part = true, message = "{target} {_shortfall}: `{_fix}`." }
_altered = { warning = 1, in_part = true, message = "{target}: {_ledger} isn't read: it has a type, an index with an expression, a check, row security or the like that Prisma doesn't create, and reading it could run code of whoever did. Have its owner drop that.", next = "In psql, `\\d+ {_ledger}` shows what was added." }
_changed = { warning = 1, message = "{target}: {_changed_names} was edited after it was applied: its checksum differs from the recorded one. Restore the file, and make the change in a new migration.", next = "In the service's repository, `git log -p -- '*{_changed_pattern}/migration.sql'` shows the edit." }
_gone = { warning = 1, message = "{target}: {_gone_names} is applied but missing from the migrations directory: the directory is older than the database, or from another branch.", next = "In the service's repository, `git log --all --source -- '*{_gone_pattern}/migration.sql'` shows the branches that have it." }
_no_files = { warning = 1, in_part = true, message = "{target}: the migrations directory {_no_files_says}: pending migrations are unknown.", next = "`countersign check`, typed on Countersign's machine, says what to correct." }
_missing = { warning = 1, message = "{database} has no Prisma migration table (_prisma_migrations).", next = "To create it: `migrate {service}`. To adopt a database that has the tables already: `migrate-resolve {service}`" }
_stuck_s = { warning = 60, critical = 600, message = "{target}: pid {pid} ({app}) holds Prisma's lock but has been idle for {value}: no migration can start.", next = "`blocked` shows whether it waits for a lock." }

[on_error]
42703 = "has a table _prisma_migrations that is not Prisma's"
42883 = "has a table _prisma_migrations that is not Prisma's"
*/
-- ## Migration status
SELECT CASE WHEN ledger IS NULL THEN 'no migration table' WHEN NOT permitted THEN 'no privilege' WHEN altered THEN 'altered, not read'
            WHEN open > 0 THEN open || ' failed' WHEN running IS NOT NULL THEN 'running'
            WHEN NOT has_entries THEN 'none applied yet' ELSE 'none failed' END
         || CASE WHEN ledger <> 'public._prisma_migrations' THEN ' (' || ledger || ')' ELSE '' END AS state,
       CASE WHEN readable THEN applied END AS applied, CASE WHEN readable THEN rolled_back END AS rolled_back,
       CASE WHEN known THEN COALESCE(cardinality(pending), 0) END AS pending,
       latest AS latest_migration, latest_at AS deployed_at,
       NULLIF(open, 0) AS _open, open_names AS _open_names, CASE WHEN running IS NOT NULL THEN 1 END AS _running,
       running AS _running_name, holder AS _holder, CASE WHEN NOT permitted THEN 1 END AS _unreadable, ledger AS _ledger,
       CASE WHEN permitted AND altered THEN 1 END AS _altered,
       cardinality(changed) AS _changed, array_to_string(changed[1:5], ', ') AS _changed_names,
       cardinality(gone) AS _gone, array_to_string(gone[1:5], ', ') AS _gone_names,
       -- A name may have anything in it; a shell takes these as they are.
       regexp_replace(changed[1], '[^A-Za-z0-9_.-]', '?', 'g') AS _changed_pattern,
       regexp_replace(gone[1], '[^A-Za-z0-9_.-]', '?', 'g') AS _gone_pattern,
       CASE WHEN unlisted IS NOT NULL THEN 1 END AS _no_files, unlisted AS _no_files_says,
       -- Reported for a service that was asked for by name; for all services, the table shows it.
       CASE WHEN ledger IS NULL AND NULLIF(NULLIF(:'service', ''), 'all') IS NOT NULL THEN 1 END AS _missing,
       CASE WHEN NULLIF(NULLIF(:'service', ''), 'all') IS NULL THEN 'No failed migration in any database that has a Prisma migration table.'
            ELSE applied || CASE applied WHEN 1 THEN ' migration is' ELSE ' migrations are' END
                 || ' applied in ' || current_database() || ', none failed'
                 || COALESCE('; the latest is ' || latest, '')
                 || CASE WHEN known AND cardinality(pending) > 0
                         THEN '; pending: ' || array_to_string(pending[1:5], ', ')
                              || CASE WHEN cardinality(pending) > 5 THEN ' and ' || cardinality(pending) - 5 || ' more' ELSE '' END
                         WHEN known THEN '; none is pending' ELSE '' END || '.' END AS _says
FROM json_to_recordset(:'migration_status'::json)
  AS s(ledger text, permitted boolean, altered boolean, readable boolean, known boolean, has_entries boolean, applied bigint, open bigint,
       rolled_back bigint, open_names text, running text, latest text, latest_at timestamptz, holder text, pending text[], changed text[], gone text[],
       unlisted text)
ORDER BY ledger;

-- ## Migrations [database if service]
WITH ledger AS (
  SELECT *, permitted AND NOT altered AS readable
  FROM json_to_recordset(:'migration_history'::json) AS l(name text, permitted boolean, altered boolean, entries json)
), entry AS (
  SELECT e.*, e.finished_at IS NULL AND e.rolled_back_at IS NULL AS open FROM ledger l
  CROSS JOIN LATERAL json_to_recordset(l.entries)
    AS e(migration_name text, checksum text, started_at timestamptz, finished_at timestamptz, rolled_back_at timestamptz, steps int, logged boolean, code text)
), migration AS (
  SELECT migration_name, count(*) AS attempts, max(started_at) AS started_at, bool_or(open) AS open, max(started_at) FILTER (WHERE open) AS open_at,
         bool_or(open AND logged) AS failed,
         bool_or(finished_at IS NOT NULL AND rolled_back_at IS NULL) AS applied,
         bool_or(finished_at IS NOT NULL AND rolled_back_at IS NULL AND steps > 0) AS ran,
         (array_agg(code ORDER BY started_at DESC) FILTER (WHERE open))[1] AS code,
         (array_agg(checksum ORDER BY finished_at DESC) FILTER (WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL))[1] AS checksum,
         max(CASE WHEN rolled_back_at IS NULL THEN extract(epoch FROM finished_at - started_at) END)::float8 AS took_s
  FROM entry GROUP BY 1
), directory AS (
  SELECT NULLIF(:'migrations_directory', '')::json AS listed
), file AS (
  SELECT f.* FROM directory d
  CROSS JOIN LATERAL json_to_recordset(CASE WHEN json_typeof(d.listed) = 'array' THEN d.listed ELSE '[]' END) AS f(name text, checksums text[])
  WHERE (SELECT COALESCE(bool_and(readable), true) FROM ledger)
), known AS (
  SELECT m.*, f.name, f.checksums, json_typeof(d.listed) = 'array' AS listed
  FROM directory d CROSS JOIN (migration m FULL JOIN file f ON f.name = m.migration_name)
)
SELECT COALESCE(m.migration_name, m.name, '-') AS migration,
       CASE WHEN m.name IS NOT NULL AND m.migration_name IS NULL THEN 'pending'
            WHEN m.migration_name IS NULL
            THEN (SELECT CASE WHEN count(*) = 0 THEN 'no migration table' WHEN bool_and(readable) THEN 'none applied yet'
                              WHEN bool_and(permitted) THEN 'altered, not read' ELSE 'no privilege' END FROM ledger)
            WHEN m.failed THEN 'failed' WHEN m.open AND m.open_at >= l.since THEN 'running' WHEN m.open THEN 'started, not finished'
            WHEN m.applied AND m.checksum <> ALL (m.checksums) THEN 'applied, edited since'
            WHEN m.applied AND m.listed AND m.name IS NULL THEN 'applied, not in the directory'
            WHEN m.ran THEN 'applied' WHEN m.applied THEN 'marked as applied'
            WHEN m.name IS NOT NULL THEN 'rolled back, pending' ELSE 'rolled back' END AS state,
       m.started_at, m.took_s, m.attempts, m.code AS "SQLSTATE"
FROM (SELECT CASE WHEN count(*) > 0 THEN COALESCE(min(a.backend_start) - interval '1 min', '-infinity') END AS since
      FROM pg_locks k LEFT JOIN pg_stat_activity a ON a.pid = k.pid
      WHERE k.locktype = 'advisory' AND k.granted AND k.classid = 0 AND k.objid = 72707369 AND k.objsubid = 1
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())) l
LEFT JOIN known m ON true
ORDER BY COALESCE(m.open, false) DESC, m.started_at DESC, 1 DESC
LIMIT 20;

-- ## Prisma's advisory lock
-- Looked at: Prisma's advisory lock
SELECT k.pid, CASE WHEN k.granted THEN 'holds' ELSE 'waits' END AS lock,
       COALESCE(NULLIF(a.application_name, ''), a.usename, '-')::text AS app, COALESCE(a.state, 'no privilege') AS state,
       extract(epoch FROM clock_timestamp() - CASE WHEN k.granted THEN a.state_change ELSE a.query_start END)::float8 AS for_s,
       -- The session that holds the lock runs the migration too, so it is idle for moments only.
       CASE WHEN s.stuck THEN extract(epoch FROM clock_timestamp() - a.state_change) END::float8 AS _stuck_s,
       COALESCE(s.stuck AND a.backend_type = 'client backend' AND NOT r.rolsuper, false) AS _stuck,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start
FROM pg_locks k
LEFT JOIN pg_stat_activity a ON a.pid = k.pid
LEFT JOIN pg_roles r ON r.oid = a.usesysid
CROSS JOIN LATERAL (SELECT k.granted AND a.state LIKE 'idle%' AS stuck) s
WHERE k.locktype = 'advisory' AND k.classid = 0 AND k.objid = 72707369 AND k.objsubid = 1
  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY k.granted DESC, k.pid
LIMIT 20
