SELECT handle FROM "Creator" WHERE "userId" = md5($1)::uuid::text
