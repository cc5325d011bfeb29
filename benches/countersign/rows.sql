-- Rows as a business has them, bench.megabytes of them: keys, names, times, amounts, documents and sentences of ordinary
-- words. More different sentences than a compressor's window holds: the dump becomes about a third.
SELECT setseed(0.42);

CREATE TEMPORARY TABLE sentence AS
WITH vocabulary AS (
    SELECT regexp_split_to_array(
        'about above account after again agency album almost along amount answer appear approved archive artist '
        'asset audience autumn banner batch before behind between bonus border brand bridge brief budget camera '
        'campaign cancel caption carry channel chapter charge chart choose clear client close coast color comment '
        'common contract copy corner cost cover create creator credit crowd daily date decide deliver describe '
        'design detail digital direct discount draft early edit effect email engage enough episode evening event '
        'every exact example expect export extra family feature field figure filter final first follow format '
        'forward frame free friday fresh gallery garden gather global goal grand grant group growth guide half '
        'handle harbor health hidden holiday host hour image impact important include income increase influence '
        'inside invite invoice issue item january journey keep kitchen label language large launch lead learn length '
        'letter level license light limit link list little local location logo lower manage margin market master '
        'match material measure media member message minute mobile model moment monday month morning motion music '
        'native network never night notice number october offer office often online open option orange order '
        'original other outdoor owner package page paint paper partner payment pending people percent period '
        'permission person phone photo picture pilot place plan platform player point portrait post premium present '
        'price print privacy product profile program project promise proof public publish purchase quality quarter '
        'question quick quote rate reach ready reason record region release remind rent replace report request '
        'reserve result retail review reward river sample saturday scene schedule screen script search season second '
        'section segment select series session shadow share short signal simple single small social song sound '
        'source space special spring square stage standard station status store story stream street studio style '
        'subject summer sunday supply support surface sunset table target team template tender test theme thousand '
        'thursday ticket title today topic total tour track trade trailer travel trend tuesday under unique unit '
        'update upload urban usage user value vendor version video view visit visual voice volume waiting warm watch '
        'water weather website week weight white window winter wonder word work world writer yearly yellow young '
        'zone', ' ') AS words
)
SELECT s AS id,
       (SELECT string_agg(word, ' ')
        FROM (SELECT words[1 + floor(random() * array_length(words, 1))::int] AS word
              FROM generate_series(1, 9 + s % 7)) AS pick) AS words
FROM vocabulary, generate_series(0, 8191) AS s;
ALTER TABLE sentence ADD PRIMARY KEY (id);
ANALYZE sentence;

CREATE UNLOGGED TABLE ledger (
    id uuid NOT NULL,
    account text NOT NULL,
    email text NOT NULL,
    amount_cents bigint NOT NULL,
    currency text NOT NULL,
    status text NOT NULL,
    title text NOT NULL,
    note text NOT NULL,
    details jsonb NOT NULL,
    created_at timestamptz NOT NULL
);

INSERT INTO ledger
SELECT md5(n::text)::uuid, 'creator-' || (hashint4(n) & 65535), split_part(a.words, ' ', 1) || n || '@example.com',
       (random() * 1e6)::bigint, (ARRAY['EUR', 'USD', 'GBP'])[1 + n % 3],
       (ARRAY['open', 'paid', 'refunded', 'failed'])[1 + (hashint4(n) & 3)], a.words, b.words,
       jsonb_build_object('ip', '10.' || n % 250 || '.' || (hashint4(n) & 255) || '.7', 'retries', n % 5,
                          'reference', md5(n::text || 'reference')),
       timestamptz '2025-01-01 00:00+00' + n * interval '13 seconds' + random() * interval '9 seconds'
FROM generate_series(1, current_setting('bench.megabytes')::int * 2450) AS n
JOIN sentence a ON a.id = hashint4(n) & 8191
JOIN sentence b ON b.id = hashint4(-n) & 8191;

ALTER TABLE ledger ADD PRIMARY KEY (id);
