-- The language of what this login is told: the setting that its sessions begin with.
SELECT (SELECT reset_val FROM pg_settings WHERE name = 'lc_messages') AS lc_messages
