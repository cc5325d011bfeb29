CREATE TABLE "Campaign" (
    id text PRIMARY KEY,
    title text NOT NULL,
    brief text NOT NULL,
    "ownerId" text NOT NULL REFERENCES "User" (id),
    "startsAt" timestamp(3) NOT NULL
);
INSERT INTO "Campaign" SELECT md5('campaign' || n)::uuid::text, initcap(sentence), other_sentence, id, moment FROM sample_row;
CREATE INDEX "Campaign_ownerId_idx" ON "Campaign" ("ownerId");

CREATE TABLE "CampaignMember" (
    id serial PRIMARY KEY,
    "campaignId" text NOT NULL REFERENCES "Campaign" (id),
    "userId" text NOT NULL REFERENCES "User" (id),
    role text NOT NULL
);
INSERT INTO "CampaignMember" ("campaignId", "userId", role)
SELECT md5('campaign' || n)::uuid::text, id, (ARRAY['owner', 'editor', 'viewer'])[1 + n % 3] FROM sample_row;
-- 95 % of an integer's range is used up.
SELECT setval('"CampaignMember_id_seq"', 2040109465);

-- A migration that failed and that nobody has resolved: Prisma deploys nothing after it.
INSERT INTO "_prisma_migrations" (id, checksum, migration_name, logs, started_at)
VALUES (md5('failed')::uuid::text, md5('failed') || md5('deliaf'), '20260301100000_member_role_enum',
        'ERROR: invalid input value for enum "MemberRole": "owner"', '2026-03-01 10:04:00+00');
