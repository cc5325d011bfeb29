-- The acting statement: identity and guards are tested here and nowhere else. No row: nothing was signalled.
-- $1 pid, $2 backend_start as shown (microseconds), $3 cancel|terminate|idle, $4 query_start as shown (cancel only),
-- $5 the bot's own roles, $6 role, $7 database, $8 state_change as shown (idle only). Never by application_name: any client
-- can set it.
WITH t AS (
  SELECT a.pid
  FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
  WHERE a.pid = $1::int4 AND a.backend_start = $2::text::timestamptz
    AND ($3::text <> 'cancel' OR (a.query_start = $4::text::timestamptz AND a.state = 'active'))
    AND ($3::text <> 'idle' OR (a.state_change = $8::text::timestamptz AND a.state = 'idle'))
    AND a.pid <> pg_backend_pid()
    AND a.backend_type = 'client backend'
    AND NOT r.rolsuper
    AND a.usesysid NOT IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($5::text[]))
    AND a.usename::text = $6::text AND COALESCE(a.datname, '-')::text = $7::text
)
SELECT CASE $3::text WHEN 'cancel' THEN pg_cancel_backend(t.pid) ELSE pg_terminate_backend(t.pid) END AS signalled
FROM t
