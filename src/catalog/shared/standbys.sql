-- Synchronous standbys: those that commits need, those that are there, and the sessions whose commits wait for them.
WITH settings AS (
  SELECT btrim(current_setting('synchronous_standby_names')) AS names, current_setting('synchronous_commit') NOT IN ('off', 'local') AS waits
), own_settings AS (
  -- Roles and databases can set it otherwise for their sessions, in the spelling that was typed.
  SELECT lower(split_part(c.setting, '=', 2)) NOT IN ('off', 'local', 'false', 'no', '0') AS waits
  FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS c(setting) WHERE c.setting LIKE 'synchronous\_commit=%'
), waiting AS (
  -- Each commit waits for a moment; the statement's start is the earliest that its wait can have begun.
  SELECT count(*) AS sessions, extract(epoch FROM clock_timestamp() - min(query_start))::float8 AS at_most_s
  FROM pg_stat_activity WHERE wait_event = 'SyncRep'
), counts AS (
  SELECT CASE WHEN pg_is_in_recovery() OR s.names = '' THEN 0
              ELSE COALESCE((regexp_match(s.names, '^(?:first\s+|any\s+)?(\d+)\s*\(', 'i'))[1]::int, 1) END AS needed,
         (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))::int AS present
  FROM settings s
)
SELECT c.needed, c.present, greatest(c.needed - c.present, 0) AS missing, w.sessions AS waiting, w.at_most_s AS waiting_at_most_s,
       CASE WHEN s.waits AND NOT EXISTS (SELECT FROM own_settings o WHERE NOT o.waits) THEN 'every commit waits'
            WHEN s.waits THEN 'every commit waits except where synchronous_commit is off or local'
            WHEN w.sessions > 0 OR EXISTS (SELECT FROM own_settings o WHERE o.waits)
            THEN 'commits wait where a role, a database or a session has set synchronous_commit' END AS commits
FROM settings s CROSS JOIN waiting w CROSS JOIN counts c
