-- The session behind a pid now, in a transaction of its own: pg_stat_activity is frozen within one.
-- $1 pid, $2 backend_start as shown, $3 query_start as shown (NULL when it doesn't matter), $4 the bot's own roles, $5 role,
-- $6 database, $7 state_change as shown (NULL when it doesn't matter).
SELECT a.backend_start = $2::text::timestamptz AS same_session,
       a.backend_start = $2::text::timestamptz AND a.state = 'active'
         AND ($3::text IS NULL OR a.query_start = $3::text::timestamptz) AS same_statement,
       COALESCE(a.state, '-') AS state, a.state_change IS DISTINCT FROM $7::text::timestamptz AS was_active_since_shown,
       CASE WHEN r.rolsuper THEN 'a superuser''s'
            WHEN a.usename::text = ANY ($4::text[]) THEN 'Countersign''s own'
            WHEN a.usename::text IS DISTINCT FROM $5::text OR COALESCE(a.datname, '-')::text <> $6::text
              THEN 'another role''s, or in another database' END AS protected_owner
FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.pid = $1
