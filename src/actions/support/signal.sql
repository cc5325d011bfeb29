-- The acting statement: identity and guards are tested here and nowhere else. A session without a row was not signalled.
-- Of each session: $1 pid, $2 backend_start as shown (microseconds), $4 query_start as shown (cancel only), $6 role, $7 database,
-- $8 state_change as shown (idle only). Of all: $3 cancel|terminate|idle, $5 the bot's own roles. Never by application_name: any client
-- can set it.
WITH t AS MATERIALIZED (
  SELECT a.pid
  FROM unnest($1::int4[], $2::text[], $4::text[], $6::text[], $7::text[], $8::text[])
         AS s(pid, backend_start, query_start, role, database, state_change)
  JOIN pg_stat_activity a ON a.pid = s.pid
  JOIN pg_roles r ON r.oid = a.usesysid
  WHERE a.backend_start = s.backend_start::timestamptz
    AND ($3::text <> 'cancel' OR (a.query_start = s.query_start::timestamptz AND a.state = 'active'))
    AND ($3::text <> 'idle' OR (a.state_change = s.state_change::timestamptz AND a.state = 'idle'))
    AND a.pid <> pg_backend_pid()
    AND a.backend_type = 'client backend'
    AND NOT r.rolsuper
    AND a.usesysid NOT IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($5::text[]))
    AND a.usename::text = s.role AND COALESCE(a.datname, '-')::text = s.database
)
SELECT t.pid, CASE $3::text WHEN 'cancel' THEN pg_cancel_backend(t.pid) ELSE pg_terminate_backend(t.pid) END AS signalled
FROM t
