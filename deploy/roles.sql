-- Countersign's two logins. For PostgreSQL 13 and up; on Azure Database for PostgreSQL run it as the server's admin, who
-- is no superuser.
--
--   countersign_read  answers questions: may look at everything about the server, at no customer's row, change nothing
--   countersign_act   acts after a second person's approval: ends sessions, dumps, and on 17 and up vacuums
--
-- Run it in each database that Countersign serves, one after another (roles are the server's, the last part is the
-- database's). It can be run again at any time. What the admin may not grant is reported as a warning, and all else
-- is still done: read the warnings.
--
-- Passwords are not set here, and never in a file or a statement, where the server's statistics would keep them:
-- use psql's \password countersign_read, or log in through Microsoft Entra.

-- The logins. The limits count sessions of the whole server: the reader keeps one for each database and each running
-- copy of Countersign. A limit that you have changed stays.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'countersign_read') THEN
        CREATE ROLE countersign_read LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 24;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'countersign_act') THEN
        CREATE ROLE countersign_act LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 8;
    END IF;
END
$$;

-- A forgotten question must not become the incident: no statement for long, no waiting behind somebody's lock, no idle
-- transaction that holds back VACUUM. Commands that need longer say so themselves. Role settings hold through PgBouncer
-- too. Times are UTC, because a session's time zone changes what "older than 90 days" deletes.
ALTER ROLE countersign_read SET statement_timeout = '15s';
ALTER ROLE countersign_read SET lock_timeout = '2s';
ALTER ROLE countersign_read SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE countersign_read SET TimeZone = 'UTC';
ALTER ROLE countersign_act SET statement_timeout = '15s';
ALTER ROLE countersign_act SET lock_timeout = '2s';
ALTER ROLE countersign_act SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE countersign_act SET TimeZone = 'UTC';

-- A second net only: a session can switch it off. What the reader must not do, it has no privilege for.
ALTER ROLE countersign_read SET default_transaction_read_only = on;

-- PostgreSQL's own roles, each from the version that has it.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            -- other roles' sessions, statements and settings; without it PostgreSQL shows them as empty, not as hidden
            ('pg_monitor', 'countersign_read', 130000, 'without it nothing of other roles'' sessions can be seen'),
            ('pg_monitor', 'countersign_act', 130000, 'without it a session cannot be checked before it is ended'),
            -- cancel and terminate sessions of every role that is no superuser; the reader must never have it
            ('pg_signal_backend', 'countersign_act', 130000, 'without it cancel, kill and kill-idle cannot work'),
            -- SELECT on all tables, for pg_dump
            ('pg_read_all_data', 'countersign_act', 140000, 'without it backup cannot work'),
            -- still let in when ordinary roles have used up all connections; the server needs reserved_connections > 0
            ('pg_use_reserved_connections', 'countersign_read', 160000,
             'without it no new login is possible when all connections are in use'),
            -- VACUUM, ANALYZE, REINDEX; below 17 only a table's owner can
            ('pg_maintain', 'countersign_act', 170000, 'without it vacuum, analyze and reindex need the owner''s login')
        ) AS grants (granted, member, since, consequence)
        WHERE current_setting('server_version_num')::int >= since
    LOOP
        IF NOT pg_has_role(wanted.member, wanted.granted, 'MEMBER') THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I', wanted.granted, wanted.member);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE WARNING '% may not grant % to %: %',
                    current_user, wanted.granted, wanted.member, wanted.consequence;
            END;
        END IF;
    END LOOP;
END
$$;

-- This database. Each grant needs the table's owner, or a member of the owner's role; what is not granted is reported.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT format('GRANT CONNECT ON DATABASE %I TO countersign_read, countersign_act', current_database()) AS grants
        WHERE NOT has_database_privilege('countersign_read', current_database(), 'CONNECT')
           OR NOT has_database_privilege('countersign_act', current_database(), 'CONNECT')
        UNION ALL
        -- Prisma's ledger, which holds names of migrations and no customer's data
        SELECT format('GRANT USAGE ON SCHEMA %s TO countersign_read; GRANT SELECT ON %s TO countersign_read',
                      relnamespace::regnamespace, oid::regclass)
        FROM pg_class
        WHERE relname = '_prisma_migrations' AND relkind IN ('r', 'p')
          AND NOT has_table_privilege('countersign_read', oid, 'SELECT')
        UNION ALL
        -- how far each sequence is; otherwise exhaustion reads "unknown"
        SELECT format('GRANT SELECT ON SEQUENCE %s TO countersign_read', oid::regclass)
        FROM pg_class
        WHERE relkind = 'S' AND relpersistence <> 't' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
          AND NOT has_table_privilege('countersign_read', oid, 'SELECT')
        UNION ALL
        -- reset-stats, of one database only; the extension's version decides on the arguments
        SELECT format('GRANT EXECUTE ON FUNCTION %s TO countersign_act', oid::regprocedure)
        FROM pg_proc
        WHERE proname = 'pg_stat_statements_reset' AND NOT has_function_privilege('countersign_act', oid, 'EXECUTE')
        UNION ALL
        -- 13 has no pg_read_all_data: table by table, so run this again when a migration has added one
        SELECT format('GRANT USAGE ON SCHEMA %s TO countersign_act; GRANT SELECT ON %s TO countersign_act',
                      relnamespace::regnamespace, oid::regclass)
        FROM pg_class
        WHERE current_setting('server_version_num')::int < 140000
          AND relkind IN ('r', 'p', 'v', 'm', 'S') AND relpersistence <> 't'
          AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
          AND NOT has_table_privilege('countersign_act', oid, 'SELECT')
    LOOP
        BEGIN
            EXECUTE wanted.grants;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'in %, % may not: %', current_database(), current_user, wanted.grants;
        END;
    END LOOP;

    -- Before 15 everybody may create tables in public, the reader too. Revoking that can break an application that
    -- relies on it, so it is yours to do: REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    IF has_schema_privilege('countersign_read', 'public', 'CREATE') THEN
        RAISE WARNING 'in %, every role may create tables in schema public, countersign_read too', current_database();
    END IF;
END
$$;
