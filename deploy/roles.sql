-- Countersign's logins, for PostgreSQL 13 and later. On Azure Database for PostgreSQL run it as the server's admin, who is not a
-- superuser.
--
--   countersign_read  reads: sees everything about the server, no customer's row, and can't make changes
--   countersign_act   makes changes: ends sessions after approval, dumps, resets statistics and, from 17 on, vacuums
--
-- Or finer, so that the login that ends sessions can't read rows, and the login that dumps can't end sessions:
--
--   countersign_signal    ends sessions, and can't read rows
--   countersign_dump      dumps: reads every row, and can't make changes or end sessions
--   countersign_maintain  resets statistics and, from 17 on, vacuums, analyzes and reindexes; before 17, make it a member of the
--                         tables' owners. Dropping the leftovers of an interrupted reindex needs the owner in every version
--   countersign_act       keeps the rest: to connect, and what you grant it for custom commands
--
-- For these, run `SET countersign.logins = 'finer';` first, in the same session, and name them in the configuration as the logins
-- `signal`, `dump` and `maintain`. The privileges of these three are revoked from countersign_act. Setting it once is enough: later
-- runs find the three logins and keep their privileges.
--
-- Run it in the database `postgres` and in each database that Countersign serves, one after another (roles belong to the server; the
-- last part belongs to the database). It can be run again at any time. A privilege that the admin may not grant is reported as a
-- warning, and the rest is still done: read the warnings.
--
-- The configuration has one more login, `owner`. It gets no privileges here, because you decide what it may do: `purge` needs SELECT
-- and DELETE on exactly the tables that it may purge, and reports missing privileges; `migrate` needs the tables' owner or a member of
-- it, and so may a custom command; `enable-stats` creates pg_stat_statements, which needs a superuser (on Azure a member of
-- azure_pg_admin): a DBA can do that once, by hand.
--
-- Passwords are not set here. Never put one into a file or a statement, which the server's statistics would keep: use psql's
-- \password countersign_read, or log in through Microsoft Entra.

-- Names below are PostgreSQL's own: on the default search_path a function that a role of the application created in `public` can be
-- called in their place, as the admin.
SET search_path = pg_catalog, pg_temp;

-- The logins. The connection limits apply to the whole server: the reader keeps one connection for each database and each running
-- instance of Countersign. A limit that you have changed is kept.
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
        -- A forgotten query must not become the incident: no long statement, no long wait for a lock, no idle transaction that
        -- holds VACUUM back. Commands that need longer set it themselves. Role settings work through PgBouncer too. Times are UTC,
        -- because a session's time zone changes which rows are "older than 90 days".
        EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', login.name, '15s');
        EXECUTE format('ALTER ROLE %I SET lock_timeout = %L', login.name, '2s');
        EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', login.name, '30s');
        EXECUTE format('ALTER ROLE %I SET TimeZone = %L', login.name, 'UTC');
        -- Only a second line of defence, because a session can switch it off: the login has no privilege to make changes.
        IF login.only_reads THEN
            EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login.name);
        END IF;
    END LOOP;
END
$$;

-- PostgreSQL's predefined roles, each from the version that introduced it, and each needed by a command. For a purpose without its
-- own login, countersign_act is used, as in the configuration.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        WITH grants AS (
            SELECT granted, consequence, coalesce(own.rolname, 'countersign_act') AS member
            FROM (VALUES
                -- other roles' sessions, statements and settings; without it PostgreSQL shows them as empty, not as hidden
                ('pg_monitor', 'read', 130000, 'without it other roles'' sessions can''t be seen'),
                ('pg_monitor', 'signal', 130000, 'without it a session can''t be checked before it is ended'),
                -- cancel and terminate sessions of every role except superusers; the reader must never have it
                ('pg_signal_backend', 'signal', 130000, 'without it cancel and kill can''t work'),
                -- SELECT on all tables, for pg_dump
                ('pg_read_all_data', 'dump', 140000, 'without it backup can''t work'),
                -- VACUUM, ANALYZE and REINDEX; below 17 only a table's owner can
                ('pg_maintain', 'maintain', 170000, 'without it vacuum, analyze and reindex need the tables'' owner'),
                -- can connect when ordinary roles have used up all connections; the server needs reserved_connections > 0
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
        -- countersign_act no longer needs the privileges of a finer login
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

-- This database. Each grant needs the table's owner or a member of the owner's role; a grant that fails is reported.
DO $$
DECLARE
    wanted record;
    below_14 boolean := current_setting('server_version_num')::int < 140000;
    from_17 boolean := current_setting('server_version_num')::int >= 170000;
    dumps text := coalesce((SELECT rolname FROM pg_roles WHERE rolname = 'countersign_dump'), 'countersign_act');
    maintains text := coalesce((SELECT rolname FROM pg_roles WHERE rolname = 'countersign_maintain'), 'countersign_act');
BEGIN
    FOR wanted IN
        -- Sessions of all databases are ended from the maintenance database. If yours isn't `postgres`, grant this there.
        SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), rolname) AS change
        FROM pg_roles
        WHERE (rolname IN ('countersign_read', 'countersign_act', 'countersign_dump', 'countersign_maintain')
               OR rolname = 'countersign_signal' AND current_database() = 'postgres')
          AND NOT has_database_privilege(oid, current_database(), 'CONNECT')
        UNION ALL
        -- Custom SQL is analysed with a temporary table before it runs. PUBLIC has this by default.
        SELECT format('GRANT TEMPORARY ON DATABASE %I TO countersign_read', current_database())
        WHERE NOT has_database_privilege('countersign_read', current_database(), 'TEMPORARY')
        UNION ALL
        SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, login)
        FROM pg_namespace, (VALUES ('read', 'countersign_read'), ('dump', dumps), ('maintain', maintains)) AS logins (purpose, login)
        WHERE EXISTS (SELECT FROM pg_class
                      WHERE relnamespace = pg_namespace.oid
                        AND CASE purpose WHEN 'read' THEN relname = '_prisma_migrations'
                                         WHEN 'dump' THEN below_14
                                         ELSE from_17 AND relkind IN ('r', 'p', 'm') END
                      UNION ALL
                      SELECT FROM pg_extension
                      WHERE extnamespace = pg_namespace.oid AND extname = 'pg_stat_statements' AND purpose IN ('read', 'maintain'))
          AND nspname !~ '^(pg_|information_schema)' AND NOT has_schema_privilege(login, pg_namespace.oid, 'USAGE')
        UNION ALL
        -- Prisma's migration table, which contains names of migrations and no customer data
        SELECT format('GRANT SELECT ON %s TO countersign_read', oid::regclass)
        FROM pg_class
        WHERE relname = '_prisma_migrations' AND relkind IN ('r', 'p')
          AND NOT has_table_privilege('countersign_read', oid, 'SELECT')
        UNION ALL
        -- how far each sequence is; without it, its use is unknown
        SELECT format('GRANT SELECT ON SEQUENCE %s TO countersign_read', oid::regclass)
        FROM pg_class
        WHERE relkind = 'S' AND relpersistence <> 't' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
          AND NOT has_table_privilege('countersign_read', oid, 'SELECT')
        UNION ALL
        -- to read pg_stat_statements, where PUBLIC may not, and to reset one database's statistics. Only the extension's owner, or a role
        -- with grant option, may grant it: on Azure that isn't always the admin
        SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', pg_proc.oid::regprocedure, login)
        FROM pg_proc
        JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND refclassid = 'pg_extension'::regclass AND deptype = 'e'
        JOIN (VALUES ('pg_stat_statements', 1, 'countersign_read'), ('pg_stat_statements_reset', 3, maintains)) AS needed (function, arguments, login)
          ON proname = function AND pronargs >= arguments
        WHERE NOT has_function_privilege(login, pg_proc.oid, 'EXECUTE')
        UNION ALL
        -- countersign_act no longer needs the privileges of a finer login
        SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM countersign_act', pg_proc.oid::regprocedure)
        FROM pg_proc, LATERAL aclexplode(proacl) AS acl
        WHERE proname = 'pg_stat_statements_reset' AND maintains <> 'countersign_act' AND acl.grantee = 'countersign_act'::regrole
        UNION ALL
        -- 13 has no pg_read_all_data, so each table is granted: run this again after a migration has added one
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

    -- On 13, tables granted here can't be distinguished from tables that you have granted: revoke them yourself.
    IF below_14 AND dumps <> 'countersign_act'
       AND EXISTS (SELECT FROM pg_class, LATERAL aclexplode(relacl) AS acl
                   WHERE acl.grantee = 'countersign_act'::regrole AND acl.privilege_type = 'SELECT') THEN
        RAISE WARNING 'in %, countersign_act may still read tables, although it no longer dumps', current_database();
    END IF;

    -- Before 15 every role may create tables in schema public, including the reader. Revoking that can break an application that
    -- relies on it, so decide yourself: REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    IF has_schema_privilege('countersign_read', 'public', 'CREATE') THEN
        RAISE WARNING 'in %, every role may create tables in schema public, including countersign_read', current_database();
    END IF;
END
$$;

RESET search_path;

-- Optional, and not run here: what `bloat` needs. PostgreSQL shows how wide a table's rows are only to a role with SELECT on it, which
-- can read the rows too, customers' data included; Countersign itself never does. Without it `bloat` names the tables that it can't
-- estimate. Row security has to let the role pass as well (BYPASSRLS). Grant it for some tables, for a schema (tables that are
-- created later need it again, or ALTER DEFAULT PRIVILEGES), or from 14 on for all tables of all databases:
--
--   GRANT USAGE ON SCHEMA public TO countersign_read;
--   GRANT SELECT ON ALL TABLES IN SCHEMA public TO countersign_read;
--
--   GRANT pg_read_all_data TO countersign_read;
