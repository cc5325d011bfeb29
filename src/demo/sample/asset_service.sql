CREATE TABLE assets (
    id text PRIMARY KEY,
    "ownerId" text NOT NULL REFERENCES "User" (id),
    "fileName" text NOT NULL,
    "contentType" text NOT NULL,
    "sizeBytes" bigint NOT NULL,
    checksum text NOT NULL,
    description text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL
);
INSERT INTO assets
SELECT md5('asset' || n)::uuid::text, id, replace(sentence, ' ', '-') || '.jpg', 'image/jpeg',
       1000 + abs(hashint4(n)), md5('content' || n), other_sentence, moment, moment
FROM sample_row;
CREATE INDEX "assets_ownerId_idx" ON assets ("ownerId");
-- The same again under another name, and one that no query uses.
CREATE INDEX idx_assets_owner ON assets ("ownerId");
CREATE INDEX "assets_checksum_idx" ON assets (checksum);

-- A foreign key without an index.
CREATE TABLE asset_versions (
    id bigserial PRIMARY KEY,
    "assetId" text NOT NULL REFERENCES assets (id),
    version integer NOT NULL,
    comment text NOT NULL
);
INSERT INTO asset_versions ("assetId", version, comment)
SELECT md5('asset' || n)::uuid::text, 1 + n % 4, sentence FROM sample_row;

-- Dead rows for VACUUM to find.
DELETE FROM audit_logs WHERE id % 5 = 0;
