CREATE TABLE "Post" (
    id text PRIMARY KEY,
    "authorId" text NOT NULL REFERENCES "User" (id),
    title text NOT NULL,
    body text NOT NULL,
    "publishedAt" timestamp(3)
);
INSERT INTO "Post" SELECT md5('post' || n)::uuid::text, id, initcap(sentence), sentence || '. ' || other_sentence, moment
FROM sample_row;
CREATE INDEX "Post_authorId_idx" ON "Post" ("authorId");
CREATE INDEX "Post_publishedAt_idx" ON "Post" ("publishedAt");
CREATE INDEX "Post_title_idx_ccnew" ON "Post" (title);
