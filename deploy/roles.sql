-- Countersign's logins. For PostgreSQL 13 and up; on Azure Database for PostgreSQL run it as the server's admin, who
-- is no superuser.
--
--   countersign_read  answers questions: may look at everything about the server, at no customer's row, change nothing
--   countersign_act   acts: ends sessions after a second person's approval, dumps, resets statistics, and from 17 on vacuums
--
-- Or finer, so that who ends sessions can read no row, and who dumps can end nothing:
--
--   countersign_signal    ends sessions, and reads no row
--   countersign_dump      dumps: reads every row, changes none and ends nothing
--   countersign_maintain  resets statistics, and from 17 on vacuums, analyzes and reindexes; before, you make it a member of the
--                         tables' owners. To drop what a broken reindex left takes the owner in every version
--   countersign_act       has what is left: to connect, and what you grant it for commands of your own
--
-- For these run `SET countersign.logins = 'finer';` before it, in the same session, and name them in the configuration as
-- the logins `signal`, `dump` and `maintain`. What the new three have is taken from countersign_act. It needs to be said
-- once: afterwards they are there, and each of them keeps its rights whenever this is run.
--
-- Run it in the database `postgres` and in each that Countersign serves, one after another (roles are the server's, the
-- last part is the database's). It can be run again at any time. What the admin may not grant is reported as a warning,
-- and all else is still done: read the warnings.
--
-- The configuration knows one more login, `owner`. Nothing is granted for it here, since what it may do is yours to say:
-- `purge` needs SELECT and DELETE on the tables that it may purge and on no others, and tells what it lacks; `migrate` needs the
-- tables' owner or a member of it, and so may a command of your own; `enable-stats` makes pg_stat_statements, which takes a
-- superuser, on Azure a member of azure_pg_admin: a DBA can do that once, by hand.
--
-- Passwords are not set here, and never in a file or a statement, where the server's statistics would keep them:
-- use psql's \password countersign_read, or log in through Microsoft Entra.

-- The logins. The limits count sessions of the whole server: the reader keeps one for each database and each running
-- copy of Countersign. A limit that you have changed stays.
DO $$
DECLARE
    asked text := coalesce(current_setting('countersign.logins', true), '');
    login record;
BEGIN
    IF asked NOT IN ('', 'finer') THEN
        RAISE EXCEPTION 'countersign.logins is "%": it can be "finer", or not set', asked;
    END IF;
    FOR login IN
        SELECT * FROM (VALUES
            ('countersign_read', 24, true, false),
            ('countersign_act', 8, false, false),
            ('countersign_signal', 8, false, true),
            ('countersign_dump', 8, true, true),
            ('countersign_maintain', 8, false, true)
        ) AS logins (name, most, only_reads, finer)
        WHERE NOT finer OR asked = 'finer' OR EXISTS (SELECT FROM pg_roles WHERE rolname = name)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login.name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT %s',
                           login.name, login.most);
        END IF;
        -- A forgotten question must not become the incident: no statement for long, no waiting behind somebody's lock, no
        -- idle transaction that holds back VACUUM. Commands that need longer say so themselves. Role settings hold through
        -- PgBouncer too. Times are UTC, because a session's time zone changes what "older than 90 days" deletes.
        EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', login.name, '15s');
        EXECUTE format('ALTER ROLE %I SET lock_timeout = %L', login.name, '2s');
        EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', login.name, '30s');
        EXECUTE format('ALTER ROLE %I SET TimeZone = %L', login.name, 'UTC');
        -- A second net only: a session can switch it off. What such a login must not do, it has no privilege for.
        IF login.only_reads THEN
            EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login.name);
        END IF;
    END LOOP;
END
$$;

-- PostgreSQL's own roles, each from the version that has it, and each for a command that there is. A purpose without a
-- login of its own is countersign_act's, as in the configuration.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        WITH grants AS (
            SELECT granted, consequence, coalesce(own.rolname, 'countersign_act') AS member
            FROM (VALUES
                -- other roles' sessions, statements and settings; without it PostgreSQL shows them as empty, not as hidden
                ('pg_monitor', 'read', 130000, 'without it nothing of other roles'' sessions can be seen'),
                ('pg_monitor', 'signal', 130000, 'without it a session cannot be checked before it is ended'),
                -- cancel and terminate sessions of every role that is no superuser; the reader must never have it
                ('pg_signal_backend', 'signal', 130000, 'without it cancel and kill cannot work'),
                -- SELECT on all tables, for pg_dump
                ('pg_read_all_data', 'dump', 140000, 'without it backup cannot work'),
                -- VACUUM, ANALYZE and REINDEX; below 17 only a table's owner can
                ('pg_maintain', 'maintain', 170000, 'without it vacuum, analyze and reindex need the tables'' owner'),
                -- still let in when ordinary roles have used up all connections; the server needs reserved_connections > 0
                ('pg_use_reserved_connections', 'read', 160000,
                 'without it no new login is possible when all connections are in use')
            ) AS needs (granted, purpose, since, consequence)
            LEFT JOIN pg_roles AS own ON own.rolname = 'countersign_' || purpose
            WHERE current_setting('server_version_num')::int >= since
        )
        SELECT format('GRANT %I TO %I', granted, member) AS change, consequence
        FROM grants
        WHERE NOT pg_has_role(member, granted, 'MEMBER')
        UNION ALL
        -- what a finer login has, countersign_act needs no longer
        SELECT DISTINCT format('REVOKE %I FROM countersign_act', granted), 'it has more than it needs'
        FROM grants
        JOIN pg_auth_members ON roleid = granted::regrole AND pg_auth_members.member = 'countersign_act'::regrole
        WHERE grants.member <> 'countersign_read'
          AND NOT EXISTS (SELECT FROM grants AS its
                          WHERE its.granted = grants.granted AND its.member = 'countersign_act')
    LOOP
        BEGIN
            EXECUTE wanted.change;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING '% may not: %: %', current_user, wanted.change, wanted.consequence;
        END;
    END LOOP;
END
$$;

-- This database. Each grant needs the table's owner, or a member of the owner's role; what is not granted is reported.
DO $$
DECLARE
    wanted record;
    below_14 boolean := current_setting('server_version_num')::int < 140000;
    from_17 boolean := current_setting('server_version_num')::int >= 170000;
    dumps text := coalesce((SELECT rolname FROM pg_roles WHERE rolname = 'countersign_dump'), 'countersign_act');
    maintains text := coalesce((SELECT rolname FROM pg_roles WHERE rolname = 'countersign_maintain'), 'countersign_act');
BEGIN
    FOR wanted IN
        -- Sessions of every database are ended from the maintenance database. If yours isn't `postgres`, grant that there.
        SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), rolname) AS change
        FROM pg_roles
        WHERE (rolname IN ('countersign_read', 'countersign_act', 'countersign_dump', 'countersign_maintain')
               OR rolname = 'countersign_signal' AND current_database() = 'postgres')
          AND NOT has_database_privilege(oid, current_database(), 'CONNECT')
        UNION ALL
        SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, login)
        FROM pg_namespace, (VALUES ('read', 'countersign_read'), ('dump', dumps), ('maintain', maintains)) AS logins (purpose, login)
        WHERE EXISTS (SELECT FROM pg_class
                      WHERE relnamespace = pg_namespace.oid
                        AND CASE purpose WHEN 'read' THEN relname = '_prisma_migrations'
                                         WHEN 'dump' THEN below_14
                                         ELSE from_17 AND relkind IN ('r', 'p', 'm')
                                              OR relkind = 'v' AND relname = 'pg_stat_statements' END)
          AND nspname !~ '^(pg_|information_schema)' AND NOT has_schema_privilege(login, pg_namespace.oid, 'USAGE')
        UNION ALL
        -- Prisma's ledger, which holds names of migrations and no customer's data
        SELECT format('GRANT SELECT ON %s TO countersign_read', oid::regclass)
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
        -- to reset one database's statistics. Only the owner of the extension may grant it, or whom that let: on Azure that need
        -- not be the admin
        SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', pg_proc.oid::regprocedure, maintains)
        FROM pg_proc
        JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND refclassid = 'pg_extension'::regclass AND deptype = 'e'
        WHERE proname = 'pg_stat_statements_reset' AND pronargs >= 3 AND NOT has_function_privilege(maintains, pg_proc.oid, 'EXECUTE')
        UNION ALL
        -- what a finer login has, countersign_act needs no longer
        SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM countersign_act', pg_proc.oid::regprocedure)
        FROM pg_proc, LATERAL aclexplode(proacl) AS acl
        WHERE proname = 'pg_stat_statements_reset' AND maintains <> 'countersign_act' AND acl.grantee = 'countersign_act'::regrole
        UNION ALL
        -- 13 has no pg_read_all_data: table by table, so run this again when a migration has added one
        SELECT format('GRANT SELECT ON %s TO %I', oid::regclass, dumps)
        FROM pg_class
        WHERE below_14 AND relkind IN ('r', 'p', 'v', 'm', 'S') AND relpersistence <> 't'
          AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
          AND NOT has_table_privilege(dumps, oid, 'SELECT')
    LOOP
        BEGIN
            EXECUTE wanted.change;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'in %, % may not: %', current_database(), current_user, wanted.change;
        END;
    END LOOP;

    -- Tables that 13 once had to grant it one by one can't be told from those that you have: they are yours to revoke.
    IF below_14 AND dumps <> 'countersign_act'
       AND EXISTS (SELECT FROM pg_class, LATERAL aclexplode(relacl) AS acl
                   WHERE acl.grantee = 'countersign_act'::regrole AND acl.privilege_type = 'SELECT') THEN
        RAISE WARNING 'in %, countersign_act may still read tables, and dumps no longer', current_database();
    END IF;

    -- Before 15 everybody may create tables in public, the reader too. Revoking that can break an application that
    -- relies on it, so it is yours to do: REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    IF has_schema_privilege('countersign_read', 'public', 'CREATE') THEN
        RAISE WARNING 'in %, every role may create tables in schema public, countersign_read too', current_database();
    END IF;
END
$$;
