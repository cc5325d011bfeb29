//! Every command that changes something on a target or in the storage: how its effect is prepared, asked for and counted.

use countersign::model::RunState;

/// A command that acts, in a service's database that no other's effect reaches.
pub struct ActingCommand {
    pub command: &'static str,
    pub service: &'static str,
    /// Prepares the database, as the superuser.
    pub setup: &'static str,
    /// `{pid}` is the session that it is about.
    pub line: &'static str,
    /// One text, which is another after each effect.
    pub effect: &'static str,
    /// Happens after the effect: another effect would show in it.
    pub afterwards: &'static str,
    /// Words of the statement that acts, or of the one that commits it. The session has its lock by then.
    pub statement: &'static str,
    /// Ends of two runs, the second one requested while the first one's session has its lock and waits to act.
    pub beside_the_lock: RunEnds,
}

/// The ends of two runs of one command.
pub struct RunEnds {
    pub first: RunState,
    /// `None` if no second one is requested.
    pub second: Option<RunState>,
}

const USUAL: ActingCommand = ActingCommand {
    command: "",
    service: "",
    setup: "",
    line: "",
    effect: "",
    afterwards: "",
    statement: "",
    beside_the_lock: RunEnds { first: RunState::Succeeded, second: Some(RunState::Failed) },
};

/// A table with dead rows, which its service owns.
const TABLE: &str = "CREATE TABLE NAME (id int PRIMARY KEY, at timestamptz) WITH (autovacuum_enabled = off);
    INSERT INTO NAME SELECT n, now() - interval '1 year' FROM generate_series(1, 200) n;
    DELETE FROM NAME WHERE id % 2 = 0; ALTER TABLE NAME OWNER TO OWNER_ROLE;";

impl ActingCommand {
    pub fn database(&self) -> String {
        format!("{}_db", self.service.replace('-', "_"))
    }

    /// The statements that prepare its database.
    pub fn setup_sql(&self) -> String {
        let owner = self.service.replace("-service", "_svc");
        let name = format!("paused_{}", self.command.replace('-', "_"));
        self.setup.replace("TABLE;", TABLE).replace("NAME", &name).replace("OWNER_ROLE", &owner)
    }
}

/// A command about a session of the asset service. Its lock is its run's own: the statement itself finds the session gone.
const SIGNAL: ActingCommand = ActingCommand {
    service: "asset-service",
    statement: "pg_terminate_backend(t.pid)",
    beside_the_lock: RunEnds { first: RunState::Invalidated, second: Some(RunState::Succeeded) },
    ..USUAL
};

/// Prisma's own first statement.
const PRISMA_STATEMENT: &str = "CREATE TABLE IF NOT EXISTS _prisma_migrations";

/// A message of the extended protocol: of a longer statement it would only be a part.
const COMMIT: &str = "\0COMMIT\0";

/// The commands of the catalogue, and the team's own `count`.
pub const ACTING_COMMANDS: [ActingCommand; 15] = [
    ActingCommand {
        command: "cancel",
        line: "cancel {pid}",
        effect: "SELECT query_start::text FROM pg_stat_activity WHERE pid = {pid} AND query LIKE '%pg_sleep%' AND state = 'active'",
        ..SIGNAL
    },
    ActingCommand {
        command: "kill",
        line: "kill {pid}",
        effect: "SELECT count(*)::text FROM pg_stat_activity WHERE pid = {pid}",
        ..SIGNAL
    },
    ActingCommand {
        command: "kill-idle",
        service: "billing-service",
        line: "kill-idle billing-service --older-than 1s",
        effect: "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'paused-kill-idle'",
        ..SIGNAL
    },
    ActingCommand {
        command: "vacuum",
        service: "campaign-service",
        setup: "TABLE;",
        line: "vacuum campaign-service paused_vacuum",
        effect: "SELECT vacuum_count::text FROM pg_stat_user_tables WHERE relname = 'paused_vacuum'",
        statement: "VACUUM (ANALYZE",
        ..USUAL
    },
    ActingCommand {
        command: "analyze",
        service: "campaign-service",
        setup: "TABLE;",
        line: "analyze campaign-service paused_analyze",
        effect: "SELECT analyze_count::text FROM pg_stat_user_tables WHERE relname = 'paused_analyze'",
        statement: "ANALYZE (SKIP_LOCKED) ",
        ..USUAL
    },
    ActingCommand {
        command: "vacuum-full",
        service: "creator-service",
        setup: "TABLE;",
        line: "vacuum-full creator-service paused_vacuum_full",
        effect: "SELECT pg_relation_filenode('paused_vacuum_full')::text",
        statement: "VACUUM (FULL",
        ..USUAL
    },
    ActingCommand {
        command: "reindex",
        service: "rights-service",
        setup: "TABLE;",
        line: "reindex rights-service paused_reindex",
        effect: "SELECT 'paused_reindex_pkey'::regclass::oid::text",
        statement: "REINDEX INDEX CONCURRENTLY",
        ..USUAL
    },
    ActingCommand {
        command: "purge",
        service: "content-service",
        setup: "TABLE;",
        line: "purge content-service paused_purge --column at --older-than 90d",
        effect: "SELECT count(*)::text FROM paused_purge",
        statement: "DELETE FROM ONLY",
        // Whoever takes the run over resumes it, and leaves nothing to delete.
        beside_the_lock: RunEnds { first: RunState::Succeeded, second: None },
        ..USUAL
    },
    ActingCommand {
        command: "backup",
        service: "auth-service",
        line: "backup auth-service",
        // Its effect is in the storage.
        effect: "",
        // pg_dump's first.
        statement: "set_config('search_path', '', false)",
        ..USUAL
    },
    ActingCommand {
        command: "migrate",
        service: "user-service",
        line: "migrate user-service",
        effect: "SELECT count(*)::text FROM \"_prisma_migrations\" WHERE finished_at IS NOT NULL",
        statement: PRISMA_STATEMENT,
        beside_the_lock: RunEnds { first: RunState::Succeeded, second: Some(RunState::Invalidated) },
        ..USUAL
    },
    ActingCommand {
        command: "migrate-resolve",
        service: "payout-service",
        setup: "INSERT INTO \"_prisma_migrations\" (id, checksum, migration_name) VALUES ('x', 'x', '20260101000000_broken')",
        line: "migrate-resolve payout-service 20260101000000_broken --as rolled-back",
        effect: "SELECT count(rolled_back_at)::text FROM \"_prisma_migrations\"",
        statement: PRISMA_STATEMENT,
        beside_the_lock: RunEnds { first: RunState::Succeeded, second: Some(RunState::Invalidated) },
        ..USUAL
    },
    ActingCommand {
        command: "run-sql",
        service: "auth-service",
        setup: "CREATE TABLE paused_rows (); ALTER TABLE paused_rows OWNER TO OWNER_ROLE;",
        line: "run-sql add-row auth-service",
        effect: "SELECT count(*)::text FROM paused_rows",
        statement: COMMIT,
        ..USUAL
    },
    ActingCommand {
        command: "enable-stats",
        service: "payout-service",
        setup: "DROP EXTENSION pg_stat_statements",
        line: "enable-stats payout-service",
        effect: "SELECT coalesce(max(oid::text), 'none') FROM pg_extension WHERE extname = 'pg_stat_statements'",
        // To its end: a check of privileges names it, too.
        statement: "CREATE EXTENSION pg_stat_statements WITH SCHEMA public\0",
        ..USUAL
    },
    ActingCommand {
        command: "reset-stats",
        service: "analytics-service",
        setup: "SELECT 1 AS paused_marker",
        line: "reset-stats analytics-service",
        effect: "SELECT coalesce(sum(calls), 0)::text FROM pg_stat_statements WHERE query LIKE '%AS paused_marker'",
        afterwards: "SELECT 1 AS paused_marker",
        statement: "pg_stat_statements_reset(0::oid",
        ..USUAL
    },
    ActingCommand {
        command: "count",
        service: "auth-service",
        setup: "CREATE TABLE counted (); GRANT INSERT ON counted TO countersign_act;",
        line: "count auth-service",
        effect: "SELECT count(*)::text FROM counted",
        statement: COMMIT,
        ..USUAL
    },
];
