-- Version 1. Times are microseconds since 1970-01-01 UTC; places, requests and purposes are JSON.

CREATE TABLE runs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    version     INTEGER NOT NULL,
    state       TEXT NOT NULL,
    opened_at   INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    deadline    INTEGER,
    -- The instance through which it became approved or running.
    owner       TEXT,
    delivery_id TEXT NOT NULL UNIQUE,
    -- What lists filter by, before the request so that they needn't read it.
    command     TEXT NOT NULL GENERATED ALWAYS AS (request ->> '$.command') STORED,
    environment TEXT GENERATED ALWAYS AS (request ->> '$.environment') STORED,
    requester   TEXT NOT NULL GENERATED ALWAYS AS (request ->> '$.requester.id') STORED,
    risk        TEXT NOT NULL GENERATED ALWAYS AS (request ->> '$.risk') STORED,
    break_glass INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(request ->> '$.break_glass', 0)) STORED,
    request     TEXT NOT NULL
) STRICT;
CREATE INDEX runs_open ON runs (state) WHERE state IN ('pending', 'approved', 'running');

-- An event is its bytes and nothing beside them: what is shown is what was hashed.
CREATE TABLE events (
    seq   INTEGER PRIMARY KEY,
    run   INTEGER NOT NULL REFERENCES runs (id),
    bytes TEXT NOT NULL,
    hash  BLOB NOT NULL
) STRICT;
CREATE INDEX events_of_run ON events (run);

CREATE TABLE event_texts (
    seq  INTEGER NOT NULL REFERENCES events (seq),
    name TEXT NOT NULL,
    key  BLOB NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (seq, name)
) STRICT;

-- Resources of open runs; no environment is ''.
CREATE TABLE resource_locks (
    environment TEXT NOT NULL,
    resource    TEXT NOT NULL,
    run         INTEGER NOT NULL REFERENCES runs (id),
    PRIMARY KEY (environment, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX resource_locks_of_run ON resource_locks (run);

CREATE TABLE tokens (
    token   TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    place   TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cards (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    run     INTEGER NOT NULL REFERENCES runs (id),
    place   TEXT NOT NULL,
    message TEXT,
    shown_version INTEGER NOT NULL DEFAULT 0,
    abandoned INTEGER NOT NULL DEFAULT 0,
    kind    TEXT NOT NULL,
    -- microseconds since 1970: who sends it has it until then
    claimed_until INTEGER NOT NULL DEFAULT 0,
    -- the instance that claimed it: a dead one's claim is void
    claimed_by TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX cards_of_run ON cards (run);

CREATE TABLE bindings (
    platform     TEXT NOT NULL,
    workspace    TEXT NOT NULL,
    conversation TEXT NOT NULL,
    environment  TEXT NOT NULL,
    PRIMARY KEY (platform, workspace, conversation)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A fence against mistakes of ours; the hash chain is what shows somebody else's.
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_appended BEFORE INSERT ON events
WHEN new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
BEGIN SELECT raise(ABORT, 'events are append-only'); END;
CREATE TRIGGER event_texts_are_not_changed BEFORE UPDATE ON event_texts
BEGIN SELECT raise(ABORT, 'texts are written once and erased'); END;
CREATE TRIGGER runs_are_not_removed BEFORE DELETE ON runs
BEGIN SELECT raise(ABORT, 'runs are not removed'); END;
CREATE TRIGGER requests_are_not_changed BEFORE UPDATE OF id, request, delivery_id, opened_at ON runs
BEGIN SELECT raise(ABORT, 'requests are not changed'); END;
