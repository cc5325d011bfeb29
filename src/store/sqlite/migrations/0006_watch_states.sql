-- What the looks of a watching window left, outside of the chain: only a change becomes a run. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE watch_states (
    environment   TEXT NOT NULL,
    name          TEXT NOT NULL,
    newest_look   INTEGER NOT NULL,
    previous_look INTEGER,
    content_look  INTEGER,
    stored_at     INTEGER,
    content       TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (environment, name)
) STRICT, WITHOUT ROWID;
