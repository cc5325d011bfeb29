-- The sessions behind pids now, in a transaction of its own: pg_stat_activity is frozen within one.
-- Of each session: $1 pid, $2 backend_start as shown, $3 query_start as shown (NULL when it doesn't matter), $5 role, $6 database,
-- $7 state_change as shown (NULL when it doesn't matter). Of all: $4 the bot's own roles.
SELECT a.pid, a.backend_start = s.backend_start::timestamptz AS same_session,
       a.backend_start = s.backend_start::timestamptz AND a.state = 'active'
         AND (s.query_start IS NULL OR a.query_start = s.query_start::timestamptz) AS same_statement,
       COALESCE(a.state, '-') AS state, a.state_change IS DISTINCT FROM s.state_change::timestamptz AS was_active_since_shown,
       CASE WHEN r.rolsuper THEN 'a superuser''s'
            WHEN a.usename::text = ANY ($4::text[]) THEN 'Countersign''s own'
            WHEN a.usename::text IS DISTINCT FROM s.role OR COALESCE(a.datname, '-')::text <> s.database
              THEN 'another role''s, or in another database' END AS protected_owner
FROM unnest($1::int4[], $2::text[], $3::text[], $5::text[], $6::text[], $7::text[])
       AS s(pid, backend_start, query_start, role, database, state_change)
JOIN pg_stat_activity a ON a.pid = s.pid
LEFT JOIN pg_roles r ON r.oid = a.usesysid
