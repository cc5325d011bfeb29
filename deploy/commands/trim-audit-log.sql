/*
summary = "Delete a service's oldest audit-log rows"
group = "actions"
risk = "danger"
scope = "database"
login = "operator"
args = [
  { name = "service", type = "service", positional = true, required = true, help = "the service" },
  { name = "older-than", type = "duration", default = "90d", help = "minimum age of the rows to delete" },
  { name = "most", type = "int", default = "10000", help = "maximum number of rows per run; run it again for more" },
]
preview_columns = ["id", "created_at"]
timeout = "60s"
example = "trim-audit-log asset-service --older-than 90d --env staging"
details = "Deletes the oldest rows first, a limited number in one short transaction. It frees space inside the table, not on the disk, and writes WAL: don't use it when the disk is full. The operator needs SELECT and DELETE on audit_logs in that database."

[on_error]
42P01 = "has no table public.audit_logs"
*/
-- ## Rows to delete [preview]
-- `created_at` has no time zone and Prisma writes UTC. `asked_at` is the time of the request: the cutoff stays the same while the request is pending.
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
