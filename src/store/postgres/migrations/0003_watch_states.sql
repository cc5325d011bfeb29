-- Version 3. What the looks of a watching window left, outside of the chain: only a change becomes a run.
CREATE TABLE countersign.watch_states (
    environment   text NOT NULL,
    name          text NOT NULL,
    newest_look   timestamptz NOT NULL,
    previous_look timestamptz,
    content_look  timestamptz,
    stored_at     timestamptz,
    content       text NOT NULL DEFAULT '',
    PRIMARY KEY (environment, name)
);
