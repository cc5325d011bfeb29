-- Figures of the servers, outside of the chain, each kept for some time. `at` is microseconds since 1970-01-01 UTC.
CREATE TABLE figures (
    environment TEXT NOT NULL,
    server      TEXT NOT NULL,
    name        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    value       REAL NOT NULL,
    PRIMARY KEY (environment, server, name, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX figures_by_age ON figures (at);
