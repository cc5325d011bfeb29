/*
summary = "The locks that one session holds or waits for, and which sessions block it"
group = "sessions"
risk = "read"
scope = "server"
args = [{ name = "pid", type = "pid", positional = true, required = true, help = "the pid, as `blocked`, `long` or `idle` shows it" }]
example = "locks 4711"
details = "Tables are named if its database belongs to a configured service; otherwise its locks are only counted. Locks on catalogs and indexes are left out unless the session waits for one. Row locks are stored in the rows themselves: a session that waits for a row waits for the transaction that changed it."
needs_pg_read_all_stats = true
verdict_empty = "No session has this pid."
verdict = "{_who} is {state} and {_holding}; no session waits for it."
next = "To end it and roll back its open transaction: `kill {pid}`"
row_action = "kill {pid}"
row_action_if = "_killable"

[thresholds]
waits_s = { warning = 0, critical = 60, message = "{_who} has waited {value} for {_blockers}. `blocked` shows the whole queue." }
blocks = { warning = 1, message = "" }
_behind_s = { warning = 0, critical = 60, message = "{_who} is {state} and {_holding}; {_behind}, the longest for {value}." }
*/
WITH RECURSIVE edges AS (
  SELECT DISTINCT a.pid, b.blocker
  FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(blocker)
  WHERE a.wait_event_type = 'Lock'
), reach AS (
  SELECT e.pid FROM edges e WHERE e.blocker = :'pid'::int
  UNION -- removes repeats: enumerating the paths of a queue would be exponential
  SELECT e.pid FROM reach r JOIN edges e ON e.blocker = r.pid
), wanted AS (
  -- waitstart exists from PostgreSQL 14 on
  SELECT l.pid, COALESCE((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start) AS since
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE NOT l.granted
), waiters AS (
  SELECT count(DISTINCT r.pid) AS behind, extract(epoch FROM clock_timestamp() - min(w.since))::float8 AS behind_s
  FROM reach r LEFT JOIN wanted w ON w.pid = r.pid WHERE r.pid <> :'pid'::int
)
SELECT a.pid, COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type)::text AS app,
       COALESCE(a.state, a.backend_type)::text AS state,
       b.names AS blocked_by,
       extract(epoch FROM clock_timestamp() - w.since)::float8 AS waits_s,
       NULLIF(s.behind, 0) AS blocks, a.datname::text AS database, a.query,
       'pid ' || a.pid || ' (' || COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type, '-') || ')'
         || COALESCE(' of ' || a.datname, '') AS _who,
       COALESCE(b.names, 'a lock') AS _blockers,
       CASE h.held WHEN 0 THEN 'holds no lock' WHEN 1 THEN 'holds 1 lock' ELSE 'holds ' || h.held || ' locks' END AS _holding,
       CASE s.behind WHEN 1 THEN '1 session waits for it' ELSE s.behind || ' sessions wait for it' END AS _behind,
       CASE WHEN s.behind > 0 AND w.pid IS NULL THEN s.behind_s END AS _behind_s,
       -- A session that waits for a lock is a victim: `blocked` shows which one to end.
       COALESCE(a.backend_type = 'client backend' AND NOT r.rolsuper AND w.pid IS NULL
                AND a.usename <> current_user, false) AS _killable,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start
FROM pg_stat_activity a
CROSS JOIN waiters s
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.granted AND l.locktype <> 'virtualxid') AS held FROM pg_locks l WHERE l.pid = a.pid) h
LEFT JOIN pg_roles r ON r.oid = a.usesysid
LEFT JOIN LATERAL (SELECT pid, since FROM wanted x WHERE x.pid = a.pid LIMIT 1) w ON true
LEFT JOIN LATERAL (
  SELECT string_agg(DISTINCT CASE WHEN x.pid = 0 THEN 'a prepared transaction'
                                  ELSE 'pid ' || x.pid || COALESCE(' (' || COALESCE(NULLIF(o.application_name, ''), o.usename) || ')', '') END, ', ') AS names
  FROM unnest(pg_blocking_pids(a.pid)) AS x(pid) LEFT JOIN pg_stat_activity o ON o.pid = x.pid
) b ON w.pid IS NOT NULL
WHERE a.pid = :'pid'::int;

-- ## Locks [database]
SELECT COALESCE(CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname)
                     WHEN n.nspname IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END,
                CASE l.locktype
                  WHEN 'advisory' THEN 'advisory lock ' || CASE WHEN l.objsubid = 1 THEN (l.classid::bigint << 32 | l.objid::bigint)::text
                                                                ELSE l.classid || ', ' || l.objid END
                  WHEN 'transactionid' THEN 'a row (until its transaction ends)'
                  WHEN 'virtualxid' THEN 'the end of a transaction'
                  ELSE l.locktype END) AS "on",
       CASE WHEN l.locktype = 'tuple' THEN 'a row, ' ELSE '' END || replace(l.mode, 'Lock', '') AS lock,
       CASE WHEN l.granted THEN 'holds' ELSE 'waits' END AS state
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database()
LEFT JOIN pg_class c ON c.oid = l.relation AND l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = :'pid'::int
  AND (NOT l.granted OR l.locktype IN ('advisory', 'tuple')
       OR c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_')
ORDER BY l.granted, 1, 2
LIMIT 50
