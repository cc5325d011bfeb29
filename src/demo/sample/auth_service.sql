CREATE TABLE "Session" (
    id text PRIMARY KEY,
    "userId" text NOT NULL REFERENCES "User" (id) ON DELETE CASCADE,
    "userAgent" text NOT NULL,
    "expiresAt" timestamp(3) NOT NULL
);
INSERT INTO "Session" SELECT md5('session' || n)::uuid::text, id, sentence, moment + interval '30 days' FROM sample_row;
CREATE INDEX "Session_userId_idx" ON "Session" ("userId");
