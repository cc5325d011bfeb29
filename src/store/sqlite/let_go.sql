-- What an interrupted run held: it takes that again if it goes on. Made beside the schema: the first files of version 1 lack it.
CREATE TABLE IF NOT EXISTS let_go (
    run         INTEGER NOT NULL REFERENCES runs (id),
    environment TEXT NOT NULL,
    resource    TEXT NOT NULL,
    PRIMARY KEY (run, environment, resource)
) STRICT, WITHOUT ROWID;
