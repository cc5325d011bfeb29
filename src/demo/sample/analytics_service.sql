CREATE SCHEMA "Analytics";
CREATE TABLE "Analytics".events (
    id bigserial,
    "occurredAt" timestamp(3) NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (id, "occurredAt")
) PARTITION BY RANGE ("occurredAt");
CREATE TABLE "Analytics".events_recent PARTITION OF "Analytics".events FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE TABLE "Analytics".events_before PARTITION OF "Analytics".events FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
INSERT INTO "Analytics".events ("occurredAt", kind, payload)
SELECT moment, (ARRAY['view', 'click', 'share', 'purchase'])[1 + n % 4],
       jsonb_build_object('userId', id, 'page', sentence, 'referrer', other_sentence)
FROM sample_row;

-- A name that breaks tools which paste names into SQL.
CREATE TABLE "weird.name" (id serial PRIMARY KEY, note text);
