SELECT sum("amountCents")::int8 FROM "Payout" WHERE "creatorId" = md5($1)::uuid::text
