-- A table that takes long, so that work on it can be watched: the setting sample.attempts says how many rows. Over the past
-- two years, one in eight of them younger than 90 days, one in ten deleted and still to be vacuumed.
CREATE TABLE login_attempts (
    id bigserial,
    address inet NOT NULL,
    agent text NOT NULL,
    succeeded boolean NOT NULL,
    attempted_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITH (autovacuum_enabled = off); -- Or it would be at it before anybody asks.

-- An index build that was broken off, as by a time limit: the rows to come are not in it. It is slow to build, since each row is hashed
-- from a long text, by PostgreSQL's own functions: `purge` counts no rows where an index calls others.
CREATE INDEX login_attempts_device_idx ON login_attempts (md5(repeat(host(address) || agent, 500)));
RESET ROLE;
UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'login_attempts_device_idx'::regclass;

INSERT INTO login_attempts (address, agent, succeeded, attempted_at)
SELECT '10.0.0.0'::inet + n::bigint * 7919 % 65536, 'Firefox/' || 90 + n % 50 || ' (Linux)', n % 3 > 0,
       (now() AT TIME ZONE 'UTC') - interval '720 days' * (1 - n::float8 / current_setting('sample.attempts')::int)
FROM generate_series(1, current_setting('sample.attempts')::int) AS n;
ALTER TABLE login_attempts ADD PRIMARY KEY (id);
DELETE FROM login_attempts WHERE id % 10 = 0;

-- Refers to it, so that each row that goes is looked for here: it makes a purge dearer, and its card names it.
CREATE TABLE lockouts (
    attempt_id bigint PRIMARY KEY REFERENCES login_attempts (id) ON DELETE CASCADE,
    until timestamp(3) NOT NULL
);
INSERT INTO lockouts SELECT id, attempted_at + interval '1 hour' FROM login_attempts WHERE id % 1009 = 0;
ALTER TABLE lockouts OWNER TO auth_svc;
