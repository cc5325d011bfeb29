-- Rows as a business has them, bench.megabytes of them: keys, names, times, amounts, documents and sentences of ordinary
-- words. More different sentences than a compressor's window holds: the dump becomes about a third.
SELECT setseed(0.42);

CREATE TEMPORARY TABLE sentence AS
WITH vocabulary AS (
    SELECT array_agg(a || b || c) AS words
    FROM unnest(ARRAY['ca', 'de', 'in', 'lo', 'ma', 'pre', 're', 'so', 'tra', 'un']) AS a,
         unnest(ARRAY['', 'mi', 'na', 'po', 'ri', 'sta', 'te', 'vo']) AS b,
         unnest(ARRAY['ble', 'ction', 'der', 'ing', 'ment', 'ner', 's', 'ted']) AS c
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
SELECT md5(n::text)::uuid, 'creator-' || hashint4(n) & 65535, split_part(a.words, ' ', 1) || n || '@example.com',
       (random() * 1e6)::bigint, (ARRAY['EUR', 'USD', 'GBP'])[1 + n % 3],
       (ARRAY['open', 'paid', 'refunded', 'failed'])[1 + (hashint4(n) & 3)], a.words, b.words,
       jsonb_build_object('ip', '10.' || n % 250 || '.' || (hashint4(n) & 255) || '.7', 'retries', n % 5,
                          'reference', md5(n::text || 'reference')),
       timestamptz '2025-01-01 00:00+00' + n * interval '13 seconds' + random() * interval '9 seconds'
FROM generate_series(1, current_setting('bench.megabytes')::int * 2200) AS n
JOIN sentence a ON a.id = hashint4(n) & 8191
JOIN sentence b ON b.id = hashint4(-n) & 8191;

ALTER TABLE ledger ADD PRIMARY KEY (id);
