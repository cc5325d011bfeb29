-- The sessions that have been idle in a transaction for as long as was asked, without Countersign's own.
SELECT pid, backend_start, state_change
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state LIKE 'idle in transaction%'
  AND usename::text <> ALL (:'own_roles'::text[])
  AND clock_timestamp() - state_change >= :'over'::interval
