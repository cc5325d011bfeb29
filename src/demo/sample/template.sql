-- The database that every service's database is a copy of: what is dear to make and the same everywhere.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO azure_pg_admin WITH GRANT OPTION;
SELECT setseed(0.42);

-- Sentences to build rows from: far more of them than a compressor's window holds, out of ordinary words, so that dumps
-- compress like a business's own.
CREATE TABLE sample_sentence AS
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
ALTER TABLE sample_sentence ADD PRIMARY KEY (id);
GRANT SELECT ON sample_sentence TO PUBLIC;
ANALYZE sample_sentence;
