CREATE TABLE "Creator" (
    id text PRIMARY KEY,
    "userId" text NOT NULL REFERENCES "User" (id),
    handle text NOT NULL,
    introduction text NOT NULL,
    followers integer NOT NULL
);
INSERT INTO "Creator"
SELECT md5('creator' || n)::uuid::text, id, replace(sentence, ' ', '_'), other_sentence, abs(hashint4(n) % 900000)
FROM sample_row;
CREATE UNIQUE INDEX "Creator_userId_key" ON "Creator" ("userId");
