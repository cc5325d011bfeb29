-- Resource locks of interrupted runs: a run takes them again when it resumes.
CREATE TABLE IF NOT EXISTS suspended_locks (
    run         INTEGER NOT NULL REFERENCES runs (id),
    environment TEXT NOT NULL,
    resource    TEXT NOT NULL,
    PRIMARY KEY (run, environment, resource)
) STRICT, WITHOUT ROWID;
