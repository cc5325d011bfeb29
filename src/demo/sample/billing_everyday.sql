SELECT sum("amountCents") FROM "Invoice" WHERE "userId" = md5($1)::uuid::text
