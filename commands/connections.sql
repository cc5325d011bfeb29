/*
summary = "Connections in use, by application, and how many are left under each limit"
group = "sessions"
risk = "read"
scope = "server"
needs = ["sessions"]
args = [{ name = "service", type = "service", positional = true, help = "one service; all databases if omitted" }]
example = "connections"
details = "Only client sessions are counted: background workers take no connection slot. The server's limit leaves out the slots reserved for administrators. A role or a database can have a smaller limit of its own, and the smallest of the three counts for a login; a limit of 0 shuts it on purpose. For a service these are the limits of its database and of the roles that have sessions or privileges there."
sort = "sessions"
verdict_empty = "No client is connected."
verdict = "{target}: {_taken} of {_usable} connections are in use; {_left} are left{_tightest}{_shut}."

[next_by]
_idle_of_server = "{_idle_of_server} idle for 10 min or longer. To end them: `kill-idle --server {server}`"
_idle_of_service = "{_idle_of_service} idle for 10 min or longer. To end them: `kill-idle {_service}`"
_raise = "To raise the limit, an administrator can run: `{_raise}`"

[thresholds]
_taken_pct = { warning = 75, critical = 90, message = "{target}: {_taken} of {_usable} connections are in use ({value}); {_left} are left{_tightest}{_shut}.", next = "`long` shows what runs, `idle` who is idle in a transaction." }
_limit_pct = { warning = 75, critical = 100, message = "{target}: {limit of} has {in use} of {limit} connections; {_free}.", next = "`long` shows what runs, `idle` who is idle in a transaction." }
longest_s = { warning = 300, critical = 900, message = "{database}: {app} has been idle in a transaction for {value}. `idle` shows the session." }
*/
-- Looked at: connections in use
WITH limits AS (
  SELECT *, kind = 'role' AND name = ANY (:'own_roles'::text[]) AS own
  FROM json_to_recordset(:'connection_limits'::json) AS l(kind text, name text, in_use int, allowed int, free int, shut boolean, pct float8, databases text[])
  WHERE kind = 'server' OR NULLIF(:'database', '') IS NULL OR :'database' = ANY (databases)
)
SELECT s.pct AS in_use_share_pct, s.in_use AS _taken, s.allowed AS _usable, s.free AS _left, s.pct AS _taken_pct,
       COALESCE((SELECT ', but ' || CASE free WHEN 0 THEN 'none' ELSE 'only ' || free END
                        || CASE kind WHEN 'role' THEN ' for role ' ELSE ' in database ' END || name
                 FROM limits l WHERE l.free < s.free AND NOT l.shut AND (l.free = 0 OR NOT l.own) ORDER BY l.free, l.kind, l.name LIMIT 1), '') AS _tightest,
       COALESCE((SELECT '; ' || array_to_string((array_agg(l.kind || ' ' || l.name ORDER BY l.kind, l.name))[1:3], ', ')
                        || CASE WHEN count(*) > 3 THEN ' and ' || count(*) - 3 || ' more take' WHEN count(*) > 1 THEN ' take' ELSE ' takes' END
                        || ' no connections (limit 0)'
                 FROM limits l WHERE l.shut HAVING count(*) > 0), '') AS _shut
FROM limits s WHERE s.kind = 'server';

-- ## Connected applications
-- Looked at: applications
-- The app and its count come first, because a phone shows only these. Our own sessions make one row for all databases.
SELECT app, count(*) AS sessions,
       count(*) FILTER (WHERE state = 'active') AS active,
       count(*) FILTER (WHERE state = 'idle') AS idle,
       count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS "idle in txn",
       extract(epoch FROM clock_timestamp() - min(state_change) FILTER (WHERE state LIKE 'idle in transaction%'))::float8
         AS longest_s,
       database
FROM (
  SELECT CASE WHEN usename::text = ANY (:'own_roles'::text[]) THEN 'Countersign' ELSE COALESCE(NULLIF(application_name, ''), usename, '-') END::text AS app,
         CASE WHEN usename::text <> ALL (:'own_roles'::text[]) THEN datname END::text AS database, state, state_change
  FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND (NULLIF(:'database', '') IS NULL OR datname = :'database')
) s
GROUP BY app, database
ORDER BY sessions DESC, app, database
LIMIT 30;

-- ## Limits
-- Looked at: connection limits
WITH limits AS (
  SELECT *, kind = 'role' AND name = ANY (:'own_roles'::text[]) AS own
  FROM json_to_recordset(:'connection_limits'::json) AS l(kind text, name text, in_use int, allowed int, free int, shut boolean, pct float8, databases text[])
  WHERE kind = 'server' OR NULLIF(:'database', '') IS NULL OR :'database' = ANY (databases)
), ranked AS (
  -- Countersign keeps its connections open: its own roles may come near their limits.
  SELECT *, row_number() OVER (ORDER BY near DESC, free, kind, name) AS place
  FROM (SELECT *, NOT shut AND pct >= 75 AS near FROM limits) l WHERE free = 0 OR NOT own
), idle AS (
  SELECT CASE count(*) WHEN 0 THEN NULL WHEN 1 THEN '1 session has been' ELSE count(*) || ' sessions have been' END AS sessions
  FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid JOIN ranked n ON n.place = 1
  WHERE a.backend_type = 'client backend' AND a.state = 'idle' AND NOT r.rolsuper AND r.rolname::text <> ALL (:'own_roles'::text[])
    AND clock_timestamp() - a.state_change >= interval '10 min' AND (NULLIF(:'database', '') IS NULL OR a.datname = :'database')
    AND CASE n.kind WHEN 'role' THEN a.usename = n.name WHEN 'database' THEN a.datname = n.name ELSE true END
)
SELECT concat_ws(' ', n.kind, n.name) AS "limit of", n.in_use AS "in use", n.allowed AS "limit", n.free AS "left",
       CASE WHEN n.kind <> 'server' THEN n.pct END AS _limit_pct,
       CASE WHEN n.free = 1 THEN '1 is left' WHEN n.free > 1 THEN n.free || ' are left'
            ELSE 'no ' || CASE WHEN n.in_use > 0 THEN 'further ' ELSE '' END || 'login '
                 || CASE n.kind WHEN 'role' THEN 'of' ELSE 'to' END || ' it is possible' END AS _free,
       CASE WHEN n.near AND n.place = 1 AND NULLIF(:'database', '') IS NULL THEN i.sessions END AS _idle_of_server,
       CASE WHEN n.near AND n.place = 1 AND NULLIF(:'database', '') IS NOT NULL THEN i.sessions END AS _idle_of_service,
       :'service' AS _service,
       CASE WHEN n.near AND n.place = 1 AND n.kind <> 'server'
            THEN format('ALTER %s %I CONNECTION LIMIT %s', upper(n.kind), n.name, 2 * n.allowed) END AS _raise
FROM ranked n CROSS JOIN idle i
ORDER BY n.place
LIMIT 30
