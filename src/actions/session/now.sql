-- What stands behind a pid now, in a transaction of its own: pg_stat_activity is frozen within one.
-- $1 pid, $2 backend_start as shown, $3 query_start as shown (NULL when it doesn't matter).
SELECT a.backend_start = $2::text::timestamptz AS same_session,
       a.backend_start = $2::text::timestamptz AND a.state = 'active'
         AND ($3::text IS NULL OR a.query_start = $3::text::timestamptz) AS same_statement,
       COALESCE(a.state, '-') AS state
FROM pg_stat_activity a WHERE a.pid = $1
