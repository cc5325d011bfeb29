-- Version 4. Figures of the servers, outside of the chain, each kept for some time.
CREATE TABLE countersign.figures (
    environment text NOT NULL,
    server      text NOT NULL,
    name        text NOT NULL,
    at          timestamptz NOT NULL,
    value       float8 NOT NULL,
    PRIMARY KEY (environment, server, name, at)
);
CREATE INDEX figures_by_age ON countersign.figures (at);
