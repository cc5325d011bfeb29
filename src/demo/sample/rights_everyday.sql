SELECT terms FROM "License" WHERE "holderId" = md5($1)::uuid::text
