CREATE TABLE "Profile" (
    "userId" text PRIMARY KEY REFERENCES "User" (id) ON DELETE CASCADE,
    biography text NOT NULL,
    preferences jsonb NOT NULL,
    "updatedAt" timestamp(3) NOT NULL
);
INSERT INTO "Profile" SELECT id, sentence || '. ' || other_sentence || '.', jsonb_build_object('topic', sentence), moment
FROM sample_row;
