CREATE TABLE "License" (
    id text PRIMARY KEY,
    "holderId" text NOT NULL REFERENCES "User" (id),
    terms text NOT NULL,
    "validUntil" timestamp(3) NOT NULL
);
INSERT INTO "License" SELECT md5('license' || n)::uuid::text, id, sentence || '. ' || other_sentence, moment + interval '1 year'
FROM sample_row;
CREATE INDEX "License_holderId_idx" ON "License" ("holderId");
CREATE INDEX "License_validUntil_idx" ON "License" ("validUntil");
