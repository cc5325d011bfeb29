-- What every service's database has. The setting sample.rows says how many rows; everything but the times is the same
-- on every run.
SELECT setseed(0.42);

-- A row number, a moment in the past 400 days and two sentences for each row to come.
CREATE TEMPORARY VIEW sample_row AS
SELECT n, md5(n::text)::uuid::text AS id,
       (now() AT TIME ZONE 'UTC') - random() * interval '400 days' AS moment,
       a.sentence AS sentence, b.sentence AS other_sentence
FROM generate_series(1, current_setting('sample.rows')::int) AS n
JOIN sample_sentence a ON a.id = abs(hashint4(n) % (SELECT count(*) FROM sample_sentence))
JOIN sample_sentence b ON b.id = abs(hashint4(-n) % (SELECT count(*) FROM sample_sentence));

CREATE TABLE "User" (
    id text PRIMARY KEY,
    email text NOT NULL,
    "displayName" text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL
);
INSERT INTO "User"
SELECT id, split_part(sentence, ' ', 1) || '.' || split_part(sentence, ' ', 2) || n || '@example.com',
       initcap(split_part(sentence, ' ', 1) || ' ' || split_part(sentence, ' ', 2)), moment, moment
FROM sample_row;
INSERT INTO "User" VALUES (md5('jane')::uuid::text, 'jane.doe@example.com', 'Jane Doe', now(), now());
CREATE UNIQUE INDEX "User_email_key" ON "User" (email);

CREATE TABLE audit_logs (
    id bigserial PRIMARY KEY,
    actor_id text REFERENCES "User" (id),
    action text NOT NULL,
    details jsonb NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO audit_logs (actor_id, action, details, created_at)
SELECT id, (ARRAY['login', 'create', 'update', 'publish', 'export', 'delete'])[1 + abs(hashint4(n) % 6)],
       jsonb_build_object('ip', '10.' || n % 250 || '.' || n / 250 % 250 || '.7', 'note', other_sentence), moment
FROM sample_row ORDER BY moment;

-- Prisma's ledger: three applied, one of them at its second attempt. The script of each says its own name, in a comment.
CREATE TABLE "_prisma_migrations" (
    id varchar(36) PRIMARY KEY,
    checksum varchar(64) NOT NULL,
    finished_at timestamptz,
    migration_name varchar(255) NOT NULL,
    logs text,
    rolled_back_at timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(),
    applied_steps_count integer NOT NULL DEFAULT 0
);
INSERT INTO "_prisma_migrations"
SELECT md5(name || started)::uuid::text, encode(sha256(convert_to('-- ' || name || E'\n', 'UTF8')), 'hex'), finished, name, logs, rolled_back,
       started::timestamptz, steps
FROM (VALUES
    ('20250110090000_init', '2025-01-10 09:12:00+00', '2025-01-10 09:12:02+00'::timestamptz, NULL, NULL::timestamptz, 1),
    ('20250402110000_audit_logs', '2025-04-02 11:05:00+00', '2025-04-02 11:05:01+00', NULL, NULL, 1),
    ('20250915140000_email_unique', '2025-09-15 14:30:00+00', NULL,
     'ERROR: could not create unique index "User_email_key"', '2025-09-15 14:52:00+00', 0),
    ('20250915140000_email_unique', '2025-09-15 14:55:00+00', '2025-09-15 14:55:03+00', NULL, NULL, 1)
) AS ledger (name, started, finished, logs, rolled_back, steps);
