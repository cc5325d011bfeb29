SELECT id FROM "Session" WHERE "userId" = md5($1)::uuid::text
