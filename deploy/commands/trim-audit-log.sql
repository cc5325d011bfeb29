/*
summary = "Delete a service's oldest audit-log rows"
group   = "act"
risk    = "danger"
scope   = "database"
login   = "operator"
args    = [
  { name = "service", type = "service", positional = true, required = true, help = "whose audit log" },
  { name = "older-than", type = "duration", default = "90d", help = "rows of the last so many days stay" },
  { name = "most", type = "int", default = "10000", help = "so many rows at once; ask again for more" },
]
preview_columns = ["id", "created_at"]
timeout = "60s"
example = "trim-audit-log asset-service --older-than 90d --env staging"
details = "Deletes the oldest rows first, a bounded number in one short transaction. It frees room inside the table, none on the disk, and writes WAL: on a full disk it makes matters worse. The operator needs SELECT and DELETE on audit_logs in that database."

[on_error]
42P01 = "has no table public.audit_logs"
*/
-- ## What goes [preview]
-- `created_at` has no time zone and Prisma writes UTC. `asked_at` is the plan's own time: the line doesn't move while it waits.
WITH old AS (
  SELECT id, created_at FROM public.audit_logs
  WHERE created_at < (:'asked_at'::timestamptz - :'older-than'::interval) AT TIME ZONE 'UTC'
  ORDER BY created_at, id LIMIT :'most'::int
)
SELECT count(*) OVER () AS count, id, to_char(created_at, 'YYYY-MM-DD HH24:MI') AS created_at
FROM old ORDER BY old.created_at, id LIMIT 5;

-- ## Delete
WITH old AS (
  SELECT id FROM public.audit_logs
  WHERE created_at < (:'asked_at'::timestamptz - :'older-than'::interval) AT TIME ZONE 'UTC'
  ORDER BY created_at, id LIMIT :'most'::int
)
DELETE FROM public.audit_logs WHERE id IN (SELECT id FROM old)
