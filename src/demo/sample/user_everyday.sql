SELECT biography FROM "Profile" WHERE "userId" = md5($1)::uuid::text
