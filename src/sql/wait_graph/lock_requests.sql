-- Each request for a lock that somebody waits for, and each holder of such a lock: one row for each, from one read of pg_locks.
-- pid is NULL where the holder is no session: `holder` names it then. Rows of one lock are in the order of its queue, as far as the
-- server tells: PostgreSQL 13 knows when a statement began, not when it began to wait.
WITH locks AS MATERIALIZED (
  SELECT l.pid, l.virtualtransaction, l.mode, l.granted, l.locktype, l.transactionid,
         ROW(l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid::text, l.classid, l.objid, l.objsubid)::text AS tag,
         CASE WHEN NOT l.granted THEN (to_jsonb(l) ->> 'waitstart')::timestamptz END AS waitstart
  FROM pg_locks l WHERE l.mode <> 'SIReadLock'
), activity AS MATERIALIZED (
  SELECT pid, COALESCE(leader_pid, pid) AS leader, query_start, wait_event_type, wait_event FROM pg_stat_activity
), prepared AS (
  -- A prepared transaction has no pid; the lock on its own transaction id tells which one it is.
  SELECT DISTINCT l.virtualtransaction, 'prepared transaction ' || x.gid AS holder
  FROM locks l JOIN pg_prepared_xacts x ON x.transaction = l.transactionid
  WHERE l.pid IS NULL AND l.granted AND l.locktype = 'transactionid'
), pins AS (
  -- Who has a page in use has a lock on its table; if only one has, it is that one.
  SELECT w.pid, CASE WHEN count(DISTINCT h.pid) = 1 THEN min(h.pid) END AS holder_pid
  FROM activity w
  LEFT JOIN locks t ON t.pid = w.pid AND t.granted AND t.locktype = 'relation'
                   AND t.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')
  LEFT JOIN locks h ON h.tag = t.tag AND h.granted AND h.pid <> w.pid
  WHERE w.wait_event_type = 'BufferPin'
  GROUP BY w.pid
), requests AS (
  SELECT tag, pid, virtualtransaction, mode, granted, waitstart, mode AS waits_for, NULL::text AS holder
  FROM locks WHERE tag IN (SELECT tag FROM locks WHERE NOT granted)
  UNION ALL
  SELECT 'pin ' || pid, pid, NULL, 'AccessExclusiveLock', false, NULL, 'a buffer pin', NULL FROM pins
  UNION ALL
  SELECT 'pin ' || pid, holder_pid, NULL, 'AccessExclusiveLock', true, NULL, NULL, 'a session that reads the table' FROM pins
  UNION ALL
  SELECT 'snapshot ' || pid, pid, NULL, 'AccessExclusiveLock', false, NULL, 'a safe snapshot', NULL
  FROM activity WHERE wait_event = 'SafeSnapshot'
  UNION ALL
  SELECT 'snapshot ' || a.pid, b.pid, NULL, 'AccessExclusiveLock', true, NULL, NULL, 'a serializable transaction'
  FROM activity a CROSS JOIN LATERAL unnest(pg_safe_snapshot_blocking_pids(a.pid)) AS b(pid) WHERE a.wait_event = 'SafeSnapshot'
  UNION ALL
  SELECT 'standby', pid, NULL, 'AccessShareLock', false, NULL, 'a synchronous standby', NULL
  -- Each commit waits for a moment.
  FROM activity WHERE wait_event = 'SyncRep' AND clock_timestamp() - query_start > interval '5 s'
  UNION ALL
  SELECT 'standby', NULL, NULL, 'AccessExclusiveLock', true, NULL, NULL, 'a synchronous standby'
)
SELECT r.tag, COALESCE(a.leader, r.pid) AS pid, r.mode, r.granted, COALESCE(p.holder, r.holder, 'an unknown prepared transaction') AS holder,
       r.waits_for,
       -- A wait that begins at this moment has no start yet.
       CASE WHEN r.granted THEN NULL WHEN s.exact THEN COALESCE(extract(epoch FROM clock_timestamp() - r.waitstart), 0)
            ELSE extract(epoch FROM clock_timestamp() - a.query_start) END::float8 AS waiting_s,
       NOT s.exact AS at_most
FROM requests r
LEFT JOIN activity a ON a.pid = r.pid
LEFT JOIN prepared p ON p.virtualtransaction = r.virtualtransaction AND r.pid IS NULL
CROSS JOIN LATERAL (SELECT r.virtualtransaction IS NOT NULL AND current_setting('server_version_num')::int >= 140000 AS exact) s
ORDER BY r.tag, r.granted DESC, COALESCE(r.waitstart, CASE WHEN NOT s.exact THEN a.query_start END) NULLS LAST, r.pid
