SELECT title FROM "Post" WHERE "authorId" = md5($1)::uuid::text
