-- Indexes of the reads that run every second, and of the filters of lists. A query uses a partial index if it has the same condition.

DROP INDEX runs_open;
CREATE INDEX runs_active ON runs (state, id) WHERE state IN ('pending', 'approved', 'running', 'interrupted');
CREATE INDEX runs_failed ON runs (id) WHERE state IN ('failed', 'partial', 'stopped', 'interrupted', 'invalidated');
CREATE INDEX runs_break_glass ON runs (id) WHERE break_glass <> 0;
CREATE INDEX runs_break_glass_opened ON runs (opened_at) WHERE break_glass <> 0;
CREATE INDEX runs_changes ON runs (id) WHERE risk <> 'read';
CREATE INDEX runs_of_environment ON runs (environment, id);
CREATE INDEX runs_changes_of_environment ON runs (environment, id) WHERE risk <> 'read';
CREATE INDEX runs_of_requester ON runs (requester, id);
CREATE INDEX runs_of_command ON runs (command, id);
CREATE INDEX runs_opened ON runs (opened_at);

-- Set while the card shows less than its run.
ALTER TABLE cards ADD COLUMN is_outdated INTEGER NOT NULL DEFAULT 1;
UPDATE cards SET is_outdated = abandoned = 0 AND shown_version < (SELECT version FROM runs WHERE runs.id = run);
CREATE INDEX cards_outdated ON cards (id) WHERE is_outdated <> 0;

CREATE TRIGGER cards_lag_behind_their_run AFTER UPDATE OF version ON runs
BEGIN UPDATE cards SET is_outdated = 1 WHERE run = new.id AND abandoned = 0; END;
CREATE TRIGGER cards_are_shown AFTER UPDATE OF shown_version, abandoned ON cards
BEGIN UPDATE cards SET is_outdated = new.abandoned = 0 AND new.shown_version < (SELECT version FROM runs WHERE runs.id = new.run)
       WHERE id = new.id; END;

-- Old tokens are removed.
CREATE INDEX tokens_created ON tokens (created_at);
