-- What every service's database has. The setting sample.rows says how many rows; everything but the times is the same
-- on every run.
SELECT setseed(0.42);

-- Sentences to build rows from: far more of them than a compressor's window holds, out of ordinary words, so that dumps
-- compress like a business's own.
CREATE TEMPORARY TABLE sample_sentence AS
WITH vocabulary AS (
    SELECT regexp_split_to_array(
        'about above account after again agency album almost along amount answer appear approved archive artist asset '
        'audience autumn banner batch before behind between bonus border brand bridge brief budget camera campaign '
        'cancel caption carry channel chapter charge chart choose clear client clip close coast color comment common '
        'contract copy corner cost cover create creator credit crowd daily date decide deliver describe design detail '
        'digital direct discount draft early edit effect either email engage enough episode evening event every exact '
        'example expect export extra family feature fee field figure filter final first follow format forward frame '
        'free friday fresh gallery garden gather given global goal grand grant graphic group growth guide half handle '
        'harbor hashtag health hidden holiday host hour image impact important include income increase index influence '
        'inside invite invoice issue item january journey june keep kitchen label language large later launch lead '
        'learn length letter level license light limit link list little local location logo lower main manage margin '
        'market master match material measure media member message minute mobile model moment monday month morning '
        'motion music native network never night notice number october offer office often online open option orange '
        'order original other outdoor owner package page paint paper partner payment payout pending people percent '
        'period permission person phone photo picture pilot place plan platform player point portrait post premium '
        'present price print privacy product profile program project promo proof public publish purchase quality '
        'quarter question quick quote random rate reach ready reason record reel region release remind render rent '
        'replace report request reserve result retail review reward right river sample saturday scene schedule screen '
        'script search season second section segment select series session shadow share short shot signal simple '
        'single small social song sound source space special spring square stage standard station status still store '
        'story stream street studio style subject summer sunday supply support surface sunset table target teaser team '
        'template tender test theme thousand thumbnail thursday ticket title today topic total tour track trade trailer '
        'travel trend tuesday type under unique unit update upload urban usage user valid value vendor version video '
        'view visit visual voice volume waiting warm watch water weather website week weight white window winter within '
        'wonder word work world writer yearly yellow young zone', ' ') AS words
)
SELECT s AS id,
       (SELECT string_agg(word, ' ')
        FROM (SELECT words[1 + floor(random() * array_length(words, 1))::int] AS word
              FROM generate_series(1, 11 + s % 5)) AS pick) AS sentence
FROM vocabulary, generate_series(0, greatest(63, least(4095, current_setting('sample.rows')::int))) AS s;

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

-- Prisma's ledger: three applied, one of them at its second attempt.
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
SELECT md5(name || started)::uuid::text, md5(name) || md5(reverse(name)), finished, name, logs, rolled_back,
       started::timestamptz, steps
FROM (VALUES
    ('20250110090000_init', '2025-01-10 09:12:00+00', '2025-01-10 09:12:02+00'::timestamptz, NULL, NULL::timestamptz, 1),
    ('20250402110000_audit_logs', '2025-04-02 11:05:00+00', '2025-04-02 11:05:01+00', NULL, NULL, 1),
    ('20250915140000_email_unique', '2025-09-15 14:30:00+00', NULL,
     'ERROR: could not create unique index "User_email_key"', '2025-09-15 14:52:00+00', 0),
    ('20250915140000_email_unique', '2025-09-15 14:55:00+00', '2025-09-15 14:55:03+00', NULL, NULL, 1)
) AS ledger (name, started, finished, logs, rolled_back, steps);
