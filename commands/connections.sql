/*
summary = "Connections in use, by application, and how many are left"
group = "sessions"
risk = "read"
scope = "server"
args = [{ name = "service", type = "service", positional = true, help = "one service; all databases if omitted" }]
example = "connections"
details = "Only client sessions are counted: background workers take no connection slot. The connections that are left are those an ordinary role can still get, without the slots reserved for administrators."
needs_pg_read_all_stats = true
sort = "sessions"
verdict_empty = "No client is connected."
verdict = "{target}: {_taken} of {_usable} connections are in use; {_left} are left."

[thresholds]
_taken_pct = { warning = 75, critical = 90, message = "{target}: {_taken} of {_usable} connections are in use ({value}); {_left} are left." }
longest_s = { warning = 300, critical = 900, message = "{database}: {app} has been idle in a transaction for {value}. `idle` shows the session." }
*/
SELECT (100.0 * s.taken / NULLIF(c.usable, 0))::float8 AS in_use_share_pct, s.taken AS _taken, c.usable AS _usable, greatest(c.usable - s.taken, 0) AS _left,
       (100.0 * s.taken / NULLIF(c.usable, 0))::float8 AS _taken_pct
FROM (SELECT count(*) AS taken FROM pg_stat_activity WHERE backend_type = 'client backend') s
CROSS JOIN (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                   - COALESCE(NULLIF(current_setting('reserved_connections', true), '')::int, 0) AS usable) c;

-- ## Connected applications
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
LIMIT 30
