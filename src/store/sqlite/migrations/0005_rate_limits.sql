-- The times before which a platform's method must not be called, in a table of their own: they were among the settings.
CREATE TABLE rate_limits (
    name    TEXT PRIMARY KEY,
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO rate_limits (name, ends_at)
SELECT substr(name, length('rate_limit ') + 1), CAST(value AS INTEGER) FROM settings WHERE name LIKE 'rate_limit %';
DELETE FROM settings WHERE name LIKE 'rate_limit %';
