SELECT title FROM "Campaign" WHERE "ownerId" = md5($1)::uuid::text
