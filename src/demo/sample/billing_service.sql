CREATE TABLE "Invoice" (
    id serial PRIMARY KEY,
    "userId" text NOT NULL REFERENCES "User" (id),
    "amountCents" integer NOT NULL,
    description text NOT NULL,
    "issuedAt" timestamp(3) NOT NULL
);
INSERT INTO "Invoice" ("userId", "amountCents", description, "issuedAt")
SELECT id, 500 + abs(hashint4(n) % 90000), sentence, moment FROM sample_row;
CREATE INDEX "Invoice_userId_issuedAt_idx" ON "Invoice" ("userId", "issuedAt");

-- A constraint that nobody has validated.
ALTER TABLE "Invoice" ADD CONSTRAINT "Invoice_amountCents_check" CHECK ("amountCents" > 0) NOT VALID;
