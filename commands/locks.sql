/*
summary = "The locks that one session holds or waits for, and which sessions block it"
group = "sessions"
risk = "read"
scope = "server"
needs = ["sessions"]
args = [{ name = "pid", type = "pid", positional = true, required = true, help = "the pid, as `blocked`, `long` or `idle` shows it" }]
example = "locks 4711"
details = "Tables are named if its database belongs to a configured service; otherwise its locks are only counted. Locks on catalogs, on indexes and on its own transaction are counted in one line. Row locks are stored in the rows themselves: a session that waits for a row waits for the transaction that changed it."
verdict_empty = "No session has this pid: it may have ended. `blocked` and `long` show the current sessions."
verdict = "{_who} is {state} and {_holding}; no session waits for it."
next = "To end it and roll back its open transaction: `kill {pid}`"
row_action = "kill {pid}"
row_action_if = "_killable"
next_by = { _run = "It works for run #{_run} of Countersign: `stop {_run}` ends it." }

[thresholds]
waits_s = { warning = 0, critical = 60, message = "{_who} has waited {_at_most}{value} for {_blockers}{_deadlock}. `blocked` shows the whole queue." }
blocks = { warning = 1, message = "" }
_behind_s = { warning = 0, critical = 60, message = "{_who} is {state} and {_holding}; {_behind}, the longest for {value}.", next = "`blocked` shows the whole queue." }
*/
-- Looked at: the session and its waits
WITH graph AS (
  SELECT * FROM json_to_recordset(:'wait_graph'::json -> 'waiters') AS g(
    pid int, behind int, behind_s float8, deadlocked bool, waits_for text, waiting_s float8, at_most bool, holders text)
  WHERE g.pid = :'pid'::int
)
SELECT a.pid, COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type)::text AS app,
       COALESCE(a.state, a.backend_type)::text AS state,
       b.names AS blocked_by, g.waiting_s AS waits_s,
       NULLIF(g.behind, 0) AS blocks, a.datname::text AS database, a.query,
       'pid ' || a.pid || ' (' || COALESCE(NULLIF(a.application_name, ''), a.usename, a.backend_type, '-') || ')'
         || COALESCE(' of ' || a.datname, '') AS _who,
       CASE WHEN g.waits_for LIKE 'a %' THEN g.waits_for || COALESCE(', which ' || b.names || ' delays', '')
            ELSE COALESCE(b.names, 'a lock') END AS _blockers,
       CASE WHEN g.deadlocked THEN ', which waits for it in turn (a deadlock)' ELSE '' END AS _deadlock,
       CASE WHEN g.at_most THEN 'at most ' ELSE '' END AS _at_most,
       CASE h.held WHEN 0 THEN 'holds no lock' WHEN 1 THEN 'holds 1 lock' ELSE 'holds ' || h.held || ' locks' END AS _holding,
       CASE g.behind WHEN 1 THEN '1 session waits for it' ELSE g.behind || ' sessions wait for it' END AS _behind,
       CASE WHEN g.behind > 0 AND g.waits_for IS NULL THEN g.behind_s END AS _behind_s,
       -- A session that waits for a lock is a victim: `blocked` shows which one to end.
       COALESCE(a.backend_type = 'client backend' AND NOT r.rolsuper AND g.waits_for IS NULL AND NOT o.own, false) AS _killable,
       CASE WHEN o.own THEN substring(a.application_name FROM '^countersign #(\d{1,18}) ')::int8 END AS _run,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS _backend_start
FROM pg_stat_activity a
LEFT JOIN graph g ON g.pid = a.pid
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.granted AND l.locktype <> 'virtualxid') AS held FROM pg_locks l WHERE l.pid = a.pid) h
LEFT JOIN pg_roles r ON r.oid = a.usesysid
CROSS JOIN LATERAL (SELECT COALESCE(a.usename::text = ANY (:'own_roles'::text[]), false) AS own) o
LEFT JOIN LATERAL (
  SELECT string_agg(w.name, ', ' ORDER BY w.place) FILTER (WHERE w.place <= 5)
           || CASE WHEN count(*) > 5 THEN ' and ' || count(*) - 5 || ' more' ELSE '' END AS names
  FROM (SELECT n.name, row_number() OVER (ORDER BY n.pid) AS place
        FROM (SELECT g.holders AS name, 0 AS pid WHERE g.holders IS NOT NULL
              UNION ALL
              SELECT DISTINCT 'pid ' || x.pid || COALESCE(' (' || COALESCE(NULLIF(c.application_name, ''), c.usename) || ')', ''), x.pid
              FROM unnest(pg_blocking_pids(a.pid) || pg_safe_snapshot_blocking_pids(a.pid)) AS x(pid)
              LEFT JOIN pg_stat_activity c ON c.pid = x.pid WHERE x.pid <> 0) n) w
) b ON g.waits_for IS NOT NULL
WHERE a.pid = :'pid'::int;

-- ## Locks [database]
-- Looked at: its locked tables
WITH locks AS (
  SELECT COALESCE(CASE WHEN n.nspname = 'public' THEN quote_ident(c.relname)
                       WHEN n.nspname IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END,
                  CASE l.locktype
                    WHEN 'advisory' THEN 'advisory lock ' || CASE WHEN l.objsubid = 1 THEN (l.classid::bigint << 32 | l.objid::bigint)::text
                                                                  ELSE l.classid || ', ' || l.objid END
                    WHEN 'transactionid' THEN 'a row (until its transaction ends)'
                    WHEN 'virtualxid' THEN 'the end of a transaction'
                    ELSE l.locktype END) AS "on",
         CASE WHEN l.locktype = 'tuple' THEN 'a row, ' ELSE '' END || replace(l.mode, 'Lock', '') AS lock, l.granted,
         NOT l.granted OR l.locktype IN ('advisory', 'tuple')
           OR COALESCE(c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_', false) AS listed,
         CASE WHEN l.locktype = 'transactionid' THEN 'xid' WHEN l.locktype <> 'relation' THEN l.locktype
              WHEN c.relkind IN ('i', 'I') THEN 'indexes' WHEN c.relkind = 't' THEN 'TOAST'
              WHEN n.nspname = 'information_schema' OR n.nspname ~ '^pg_' THEN 'catalogs' ELSE 'tables' END AS kind
  FROM pg_locks l
  JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database()
  LEFT JOIN pg_class c ON c.oid = l.relation AND l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
  -- Those that the verdict counts, and what it waits for.
  WHERE l.pid = :'pid'::int AND (NOT l.granted OR l.locktype <> 'virtualxid')
), numbered AS (
  SELECT *, row_number() OVER (ORDER BY listed DESC, granted, "on", lock) AS nth FROM locks
), shown AS (
  SELECT "on", lock, CASE WHEN granted THEN 'holds' ELSE 'waits' END AS state, nth FROM numbered WHERE listed AND nth <= 50
  UNION ALL
  SELECT count(*) || CASE count(*) WHEN 1 THEN ' other (' ELSE ' others (' END || string_agg(DISTINCT kind, ', ' ORDER BY kind) || ')',
         NULL, 'holds', 51
  FROM numbered WHERE granted AND NOT (listed AND nth <= 50) HAVING count(*) > 0
)
SELECT "on", lock, state FROM shown ORDER BY nth
