//! The rights that the needs of commands rest on, each with the statement that takes it away.

use crate::needs::DATABASE;
use countersign::catalog::Need;

/// A right that is taken away by a statement in a database.
pub struct TakenAway {
    /// The versions of PostgreSQL that have it, the last one excluded.
    pub majors: (u32, u32),
    pub database: &'static str,
    pub statement: &'static str,
    /// All that `check` names then: several needs can rest on one right.
    pub needs: &'static [Need],
    /// A command that rests on it.
    pub command: &'static str,
    /// The words in which both tell, where they aren't the first need's.
    pub words: &'static str,
}

const fn taken(
    place: (&'static str, &'static str),
    needs: &'static [Need],
    command: &'static str,
) -> TakenAway {
    let (database, statement) = place;
    TakenAway { majors: (13, 99), database, statement, needs, command, words: "" }
}

const fn of_majors(majors: (u32, u32), taken: TakenAway) -> TakenAway {
    TakenAway { majors, ..taken }
}

const fn told_as(words: &'static str, taken: TakenAway) -> TakenAway {
    TakenAway { words, ..taken }
}

/// The database of the service that `enable-stats` is asked for.
const OTHER_DATABASE: &str = "auth_service_db";
const SERVER: &str = "postgres";
const OWN_SCHEMA: (&str, &str) = (
    DATABASE,
    "CREATE SCHEMA own AUTHORIZATION asset_svc; CREATE TABLE own._prisma_migrations (LIKE public._prisma_migrations INCLUDING ALL);
     ALTER TABLE own._prisma_migrations OWNER TO asset_svc",
);
const OF_MONITOR: &[Need] = &[Need::Sessions, Need::Settings, Need::DiskUse];

/// Each need of a login, by each kind of right that it rests on. One line's fixes are the next line's beginning.
pub const TAKEN_AWAY: &[TakenAway] = &[
    taken((SERVER, "REVOKE pg_monitor FROM need_reader"), OF_MONITOR, "blocked"),
    of_majors((13, 16), taken((SERVER, "ALTER ROLE need_reader NOINHERIT"), OF_MONITOR, "long")),
    of_majors(
        (16, 99),
        taken((SERVER, "GRANT pg_monitor TO need_reader WITH INHERIT FALSE"), OF_MONITOR, "long"),
    ),
    taken(
        (SERVER, "REVOKE EXECUTE ON FUNCTION pg_ls_waldir(), pg_ls_tmpdir(oid) FROM pg_monitor"),
        &[Need::DiskUse],
        "storage",
    ),
    taken(
        (SERVER, "REVOKE pg_monitor FROM need_reader; GRANT pg_read_all_stats TO need_reader"),
        &[Need::Settings],
        "settings",
    ),
    taken(
        (SERVER, "REVOKE pg_read_all_stats FROM pg_monitor, need_reader"),
        &[Need::Sessions, Need::DiskUse],
        "idle",
    ),
    taken(
        (DATABASE, "REVOKE SELECT ON SEQUENCE audit_logs_id_seq FROM need_reader"),
        &[Need::Sequences],
        "sequences",
    ),
    taken(
        (DATABASE, "REVOKE SELECT ON _prisma_migrations FROM need_reader"),
        &[Need::MigrationHistory],
        "migrations",
    ),
    taken(
        (DATABASE, "REVOKE EXECUTE ON FUNCTION pg_stat_statements(boolean) FROM need_reader"),
        &[Need::Statements],
        "slow",
    ),
    // A library that isn't loaded takes a restart: tests/workflow/missing_privileges.rs has one.
    told_as(
        "has no pg_stat_statements",
        taken((DATABASE, "DROP EXTENSION pg_stat_statements"), &[Need::StatementsCreation], "slow"),
    ),
    taken(
        (DATABASE, "REVOKE EXECUTE ON FUNCTION pg_stat_statements(boolean) FROM PUBLIC"),
        &[Need::Statements],
        "slow",
    ),
    // The right to create it is a superuser's, which no GRANT gives: the fix is what the command would have done.
    taken((OTHER_DATABASE, "DROP EXTENSION pg_stat_statements"), &[Need::StatementsCreation], "enable-stats"),
    taken(
        (DATABASE, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM need_maintain"),
        &[Need::StatementsReset],
        "reset-stats",
    ),
    taken((SERVER, "REVOKE pg_signal_backend FROM need_signal"), &[Need::Signal], "kill"),
    taken((SERVER, "REVOKE pg_monitor, pg_read_all_stats FROM need_signal"), &[Need::Sessions], "cancel"),
    taken(
        (SERVER, "REVOKE asset_svc, auth_svc FROM need_owner"),
        &[Need::MigrationRecord, Need::RowDeletion],
        "migrate",
    ),
    taken(
        (DATABASE, "REVOKE INSERT ON _prisma_migrations FROM asset_svc"),
        &[Need::MigrationRecord],
        "migrate",
    ),
    of_majors(
        (13, 14),
        taken((DATABASE, "REVOKE SELECT ON audit_logs FROM need_dump"), &[Need::AllTables], "backup"),
    ),
    of_majors(
        (14, 99),
        taken((SERVER, "REVOKE pg_read_all_data FROM need_dump"), &[Need::AllTables], "backup"),
    ),
    of_majors(
        (13, 17),
        taken((SERVER, "REVOKE asset_svc FROM need_maintain"), &[Need::Maintenance], "vacuum"),
    ),
    of_majors(
        (17, 99),
        taken((SERVER, "REVOKE pg_maintain FROM need_maintain"), &[Need::Maintenance], "vacuum"),
    ),
    // By default it is everybody's; after these fixes each login has its own.
    of_majors(
        (13, 14),
        taken(
            (DATABASE, "REVOKE USAGE ON SCHEMA public FROM PUBLIC"),
            &[
                Need::MigrationHistory,
                Need::Statements,
                Need::AllTables,
                Need::Maintenance,
                Need::StatementsReset,
                Need::MigrationRecord,
                Need::RowDeletion,
            ],
            "migrations",
        ),
    ),
    of_majors(
        (14, 99),
        taken(
            (DATABASE, "REVOKE USAGE ON SCHEMA public FROM PUBLIC"),
            &[
                Need::MigrationHistory,
                Need::Statements,
                Need::Maintenance,
                Need::StatementsReset,
                Need::MigrationRecord,
                Need::RowDeletion,
            ],
            "migrations",
        ),
    ),
    taken(
        (DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_reader"),
        &[Need::MigrationHistory, Need::Statements],
        "migrations",
    ),
    of_majors(
        (13, 14),
        taken((DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_dump"), &[Need::AllTables], "backup"),
    ),
    taken(
        (DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_maintain"),
        &[Need::Maintenance, Need::StatementsReset],
        "vacuum",
    ),
    told_as(
        "let need_owner delete rows of",
        taken(
            (DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_owner"),
            &[Need::MigrationRecord, Need::RowDeletion],
            "purge",
        ),
    ),
    // A schema of the service's own.
    of_majors((13, 14), taken(OWN_SCHEMA, &[Need::MigrationHistory, Need::AllTables], "migrations")),
    of_majors((14, 17), taken(OWN_SCHEMA, &[Need::MigrationHistory], "migrations")),
    of_majors((17, 99), taken(OWN_SCHEMA, &[Need::MigrationHistory, Need::Maintenance], "migrations")),
    told_as(
        "no CONNECT privilege",
        taken((DATABASE, "REVOKE CONNECT ON DATABASE asset_service_db FROM PUBLIC"), &[], "sizes"),
    ),
    told_as(
        "no CONNECT privilege",
        taken((SERVER, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC"), &[], "kill-idle"),
    ),
];
