-- Optional: the bot's role doesn't own the audit log's tables, so that no statement of it can change or remove an event. Start the
-- program once as the owner, and again after each upgrade that needs it; then run this in the audit log's database as the owner, with
-- the bot's role as `bot`:
--
--     psql --dbname=countersign --set=bot=countersign_bot --file=deploy/audit-log-grants.sql

GRANT CONNECT ON DATABASE :"DBNAME" TO :"bot";
GRANT USAGE ON SCHEMA countersign TO :"bot";
GRANT SELECT ON ALL TABLES IN SCHEMA countersign TO :"bot";
GRANT INSERT ON countersign.events, countersign.event_texts, countersign.runs, countersign.cards, countersign.tokens,
    countersign.resource_locks, countersign.suspended_locks, countersign.settings, countersign.bindings,
    countersign.rate_limits, countersign.watch_states, countersign.figures, countersign.instances TO :"bot";
-- The head moves with each event; a run's row follows its events, which the hashes check.
GRANT UPDATE ON countersign.head, countersign.cards, countersign.bindings, countersign.rate_limits, countersign.watch_states,
    countersign.instances TO :"bot";
GRANT UPDATE (version, state, changed_at, deadline, owner) ON countersign.runs TO :"bot";
-- The texts of an event may be erased; its hash stays.
GRANT DELETE ON countersign.event_texts, countersign.cards, countersign.tokens, countersign.resource_locks, countersign.suspended_locks,
    countersign.settings, countersign.rate_limits, countersign.figures, countersign.instances TO :"bot";
