CREATE TABLE "Payout" (
    id bigserial PRIMARY KEY,
    "creatorId" text NOT NULL REFERENCES "User" (id),
    "amountCents" bigint NOT NULL,
    reference text NOT NULL,
    "paidAt" timestamp(3)
);
INSERT INTO "Payout" ("creatorId", "amountCents", reference, "paidAt")
SELECT id, 100 + abs(hashint4(n) % 500000), sentence, moment FROM sample_row;
CREATE INDEX "Payout_creatorId_idx" ON "Payout" ("creatorId");
