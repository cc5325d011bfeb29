-- The state of each of Prisma's migration tables of a database, compared with the service's migrations directory where one is configured.
-- By Prisma's own rule a migration that has neither finished nor been rolled back blocks every later deploy. Without a table, one row.
WITH ledger AS (
  SELECT *, permitted AND NOT altered AS readable
  FROM json_to_recordset(:'migration_history'::json) AS l(name text, permitted boolean, altered boolean, entries json)
), entry AS (
  SELECT l.name AS ledger, e.* FROM ledger l
  CROSS JOIN LATERAL json_to_recordset(l.entries)
    AS e(migration_name text, checksum text, started_at timestamptz, finished_at timestamptz, rolled_back_at timestamptz, logged boolean)
), migration AS (
  SELECT ledger, migration_name, max(finished_at) AS finished_at, max(started_at) AS started_at,
         bool_or(finished_at IS NULL AND rolled_back_at IS NULL) AS open,
         max(started_at) FILTER (WHERE finished_at IS NULL AND rolled_back_at IS NULL) AS open_at,
         bool_or(finished_at IS NULL AND rolled_back_at IS NULL AND logged) AS failed,
         bool_or(finished_at IS NOT NULL AND rolled_back_at IS NULL) AS applied,
         (array_agg(checksum ORDER BY finished_at DESC) FILTER (WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL))[1] AS checksum
  FROM entry GROUP BY 1, 2
), directory AS (
  SELECT NULLIF(:'migrations_directory', '')::json AS listed
), file AS (
  SELECT f.* FROM directory d
  CROSS JOIN LATERAL json_to_recordset(CASE WHEN json_typeof(d.listed) = 'array' THEN d.listed ELSE '[]' END) AS f(name text, checksums text[])
), holder AS (
  -- A session that began later did not start it. started_at has the clock of the machine that deploys.
  SELECT min(l.pid) AS pid, COALESCE(min(a.backend_start) - interval '1 min', '-infinity') AS since
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = 72707369 AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
), compared AS (
  -- With each migration table, and with none: by Prisma's rule an unapplied migration is pending, even if it was rolled back.
  SELECT l.name AS ledger, c.* FROM (SELECT 1) one LEFT JOIN ledger l ON true
  CROSS JOIN LATERAL (
    SELECT array_agg(f.name ORDER BY f.name) FILTER (WHERE m.applied IS NOT TRUE AND m.open IS NOT TRUE) AS pending,
           array_agg(f.name ORDER BY f.name) FILTER (WHERE m.applied AND m.checksum <> ALL (f.checksums)) AS changed,
           array_agg(m.migration_name ORDER BY m.migration_name) FILTER (WHERE m.applied AND f.name IS NULL) AS gone
    FROM file f FULL JOIN (SELECT * FROM migration WHERE ledger = l.name) m ON m.migration_name = f.name
  ) c
), summed AS (
  SELECT m.ledger, count(*) FILTER (WHERE m.applied AND NOT m.open) AS applied,
         count(*) FILTER (WHERE m.open AND NOT m.running) AS open,
         count(*) FILTER (WHERE NOT m.open AND NOT m.applied) AS rolled_back,
         string_agg(m.migration_name || CASE WHEN m.failed THEN ' failed' ELSE ' did not finish' END, ', ' ORDER BY m.started_at)
           FILTER (WHERE m.open AND NOT m.running) AS open_names,
         max(m.migration_name) FILTER (WHERE m.running) AS running,
         (array_agg(m.migration_name ORDER BY m.finished_at DESC, m.migration_name DESC) FILTER (WHERE m.applied AND NOT m.open))[1] AS latest,
         max(m.finished_at) FILTER (WHERE m.applied AND NOT m.open) AS latest_at
  FROM (SELECT m.*, m.open AND NOT m.failed AND h.pid IS NOT NULL AND m.open_at >= h.since AS running FROM migration m CROSS JOIN holder h) m
  GROUP BY 1
)
SELECT l.name AS ledger, l.permitted, l.altered, l.readable, x.known, s.ledger IS NOT NULL AS has_entries, COALESCE(s.applied, 0) AS applied,
       COALESCE(s.open, 0) AS open, COALESCE(s.rolled_back, 0) AS rolled_back, s.open_names, s.running, s.latest, s.latest_at, h.pid AS holder,
       CASE WHEN x.known THEN c.pending END AS pending, CASE WHEN x.known THEN c.changed END AS changed, CASE WHEN x.known THEN c.gone END AS gone,
       CASE WHEN json_typeof(d.listed) = 'string' THEN d.listed #>> '{}' END AS unlisted
FROM directory d
CROSS JOIN holder h
LEFT JOIN ledger l ON true
CROSS JOIN LATERAL (SELECT json_typeof(d.listed) = 'array' AND COALESCE(l.readable, true) AS known) x
LEFT JOIN compared c ON c.ledger IS NOT DISTINCT FROM l.name
LEFT JOIN summed s ON s.ledger = l.name
ORDER BY l.name
