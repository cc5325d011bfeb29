-- The search in commands, arguments and texts: one row an event, in lower case as Rust has it, by trigrams. The rowid is
-- run * 2^20 + the event's position in its run, so that the newest runs are found first. The text itself isn't kept here; what is
-- erased leaves the index at once.
CREATE VIRTUAL TABLE search USING fts5 (text, content = '', detail = none, tokenize = "trigram case_sensitive 1");
INSERT INTO search (search, rank) VALUES ('secure-delete', 1);
