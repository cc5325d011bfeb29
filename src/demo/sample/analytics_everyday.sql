SELECT kind, count(*) FROM "Analytics".events WHERE payload ->> 'userId' = md5($1)::uuid::text GROUP BY kind
