//! The schema `countersign` of the store's database, and its numbered versions. Each migration leaves what the program before it
//! reads and writes as it was: it adds first, and a later one removes. So replicas of two versions work side by side.

use super::session::{CallError, CallResult, Connector, LONGEST_MIGRATION, MIGRATION_LIMITS, StoreSession};
use std::time::{Duration, Instant};

/// A step from one version to the next, in one transaction. The replicas of the version before run meanwhile: a step that fails leaves
/// everything as it was.
#[derive(Debug, Clone, Copy)]
pub struct SchemaMigration {
    pub sql: &'static str,
    /// Programs that know this version of the schema, or a later one, can use the result.
    pub usable_from: i32,
}

/// The versions of the schema that a program knows.
#[derive(Debug, Clone, Copy)]
pub struct KnownSchema {
    /// The first makes version 1.
    pub migrations: &'static [SchemaMigration],
}

impl KnownSchema {
    /// The versions that this program knows.
    pub const CURRENT: KnownSchema = KnownSchema {
        migrations: &[
            SchemaMigration { sql: include_str!("migrations/0001_init.sql"), usable_from: 1 },
            SchemaMigration { sql: include_str!("migrations/0002_conditional_settings.sql"), usable_from: 1 },
            SchemaMigration { sql: include_str!("migrations/0003_watch_states.sql"), usable_from: 1 },
            SchemaMigration { sql: include_str!("migrations/0004_figures.sql"), usable_from: 1 },
        ],
    };

    /// The newest version.
    pub(super) fn version(self) -> i32 {
        i32::try_from(self.migrations.len()).unwrap_or(i32::MAX)
    }
}

/// A migration waits for so long while other sessions hold the locks that it needs.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// The oldest server that the store works on.
const OLDEST_MAJOR: u32 = 13;

/// The key of the advisory lock under which the schema changes: "CSGN" in ASCII, and 0.
pub(super) const LOCK: &str = "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(1129531214, 0)";

/// The state of a database's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SchemaState {
    /// Nothing is there, or an empty schema (`true`).
    Absent { has_schema: bool },
    /// Of this version; programs that know `usable_from` can use it.
    Version { version: i32, usable_from: i32 },
}

/// Reads the state of the schema.
pub(super) async fn state(session: &StoreSession) -> CallResult<SchemaState> {
    if session.major < OLDEST_MAJOR {
        let words =
            format!("its server is PostgreSQL {}, and {OLDEST_MAJOR} or newer is needed", session.major);
        return Err(CallError::Message(words));
    }
    let sql = "SELECT to_regnamespace('countersign') IS NOT NULL, to_regclass('countersign.schema_versions') IS NOT NULL,
                      EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('countersign'))";
    let rows = session.query(sql, &[]).await.map_err(unreadable)?;
    let row = rows.first().ok_or(CallError::Lost)?;
    let (has_schema, has_versions, has_relations) = (row.get(0)?, row.get(1)?, row.get::<bool>(2)?);
    match (has_versions, has_relations) {
        (true, _) => {}
        (false, false) => return Ok(SchemaState::Absent { has_schema }),
        (false, true) => return Err(foreign()),
    }
    let sql = "SELECT version, usable_from FROM countersign.schema_versions ORDER BY version DESC LIMIT 1";
    let rows = session.query(sql, &[]).await.map_err(unreadable)?;
    let Some(row) = rows.first() else { return Ok(SchemaState::Version { version: 0, usable_from: 0 }) };
    match (row.get(0), row.get(1)) {
        (Ok(version), Ok(usable_from)) => Ok(SchemaState::Version { version, usable_from }),
        _ => Err(foreign()),
    }
}

fn foreign() -> CallError {
    CallError::Message("its schema countersign is another program's".to_owned())
}

/// The error of reading the schema's state, in words where those say what to do.
fn unreadable(error: CallError) -> CallError {
    match &error {
        CallError::Refused(code) if code == "42703" => foreign(),
        CallError::Refused(code) if code == "42501" => CallError::Message(
            "the store's user may not read its schema countersign: deploy/audit-log-grants.sql grants what it needs".to_owned(),
        ),
        _ => error,
    }
}

/// The refusal of a schema that a program which knows `known` can't use.
pub(super) fn refusal(version: i32, known: i32) -> CallError {
    CallError::Message(format!(
        "its schema has version {version}, and this program knows {known}: use a newer program"
    ))
}

/// True if the schema is as this program knows it, or newer and usable; false if migrations are missing.
///
/// # Errors
/// This program can't use it.
pub(super) fn is_current(state: SchemaState, known: i32) -> CallResult<bool> {
    match state {
        SchemaState::Version { version, usable_from } if usable_from > known => Err(refusal(version, known)),
        SchemaState::Version { version, .. } => Ok(version >= known),
        SchemaState::Absent { .. } => Ok(false),
    }
}

/// As [`migrate`], over a connection of its own; without one where `session` sees that the schema is current.
pub(super) async fn migrate_if_needed(
    connector: &Connector,
    session: &StoreSession,
    known: KnownSchema,
) -> CallResult<()> {
    if is_current(state(session).await?, known.version())? {
        return Ok(());
    }
    migrate(&connector.open_with(MIGRATION_LIMITS).await?, known).await
}

/// Brings the schema to the newest version that is known. Several replicas may do so at once: one waits for the other.
pub(super) async fn migrate(session: &StoreSession, known: KnownSchema) -> CallResult<()> {
    let mut turn = LockWait {
        patience: LONGEST_MIGRATION,
        message: "waiting for another replica, which migrates the audit log's schema",
        refusal: "another replica has been migrating its schema for an hour: look at that session in pg_stat_activity",
        since: None,
    };
    let mut locks = LockWait {
        patience: LOCK_PATIENCE,
        message: "waiting for a lock on the audit log's tables, to migrate its schema",
        refusal: "its schema can't be migrated: other sessions have held locks on its tables for 30 s; end them, and start again",
        since: None,
    };
    while !is_current(state(session).await?, known.version())? {
        let (result, wait) = match session.batch(LOCK).await {
            Ok(()) => (step(session, known).await, &mut locks),
            refused => (refused, &mut turn),
        };
        if let Err(error) = result {
            wait.check(error)?;
            session.batch("ROLLBACK").await?;
        }
    }
    Ok(())
}

/// A wait for a lock that others hold, over several attempts.
struct LockWait {
    patience: Duration,
    /// For the log.
    message: &'static str,
    /// In words, once the patience is over.
    refusal: &'static str,
    /// The end of the first attempt.
    since: Option<Instant>,
}

impl LockWait {
    /// Allows one more attempt after one that didn't get its lock. Logs the first.
    ///
    /// # Errors
    /// Any other error, or the patience is over.
    fn check(&mut self, error: CallError) -> CallResult<()> {
        match error {
            CallError::Refused(code) if is_lock_conflict(&code) => {}
            error => return Err(error),
        }
        match self.since {
            Some(since) if since.elapsed() > self.patience => {
                return Err(CallError::Message(self.refusal.to_owned()));
            }
            Some(_) => {}
            None => {
                tracing::warn!("{}", self.message);
                self.since = Some(Instant::now());
            }
        }
        Ok(())
    }
}

/// One step within a transaction that has the lock, if another replica wasn't faster.
async fn step(session: &StoreSession, known: KnownSchema) -> CallResult<()> {
    let start = Instant::now();
    let was_current = apply_next(session, known).await?;
    session.batch("COMMIT").await?;
    if !was_current {
        tracing::info!(took = ?start.elapsed(), "migrated the audit log's schema by one version");
    }
    Ok(())
}

/// Makes the next step within a transaction that has the lock; true if there is none, since the schema is current.
pub(super) async fn apply_next(session: &StoreSession, known: KnownSchema) -> CallResult<bool> {
    let state = state(session).await?;
    let is_current = is_current(state, known.version())?;
    if let Some(sql) = next_step(state, known).filter(|_| !is_current) {
        tracing::info!(from = ?state, "migrating the audit log's schema by one version");
        session.batch(&sql).await.map_err(|error| in_words(state, known.version(), error))?;
    }
    Ok(is_current)
}

/// True if the step waited too long for a lock, or lost a deadlock against a running replica.
fn is_lock_conflict(code: &str) -> bool {
    matches!(code, "55P03" | "40P01")
}

/// The statements that lead from a state to the next version, if there is one.
fn next_step(state: SchemaState, known: KnownSchema) -> Option<String> {
    let (version, prefix) = match state {
        SchemaState::Version { version, .. } => (version, String::new()),
        SchemaState::Absent { has_schema: true } => (0, VERSIONS.to_owned()),
        SchemaState::Absent { has_schema: false } => (0, format!("{SCHEMA}{VERSIONS}")),
    };
    let SchemaMigration { sql, usable_from } = known.migrations.get(usize::try_from(version).ok()?)?;
    let next = version + 1;
    Some(format!(
        "{prefix}{sql};\nINSERT INTO countersign.schema_versions (version, usable_from) VALUES ({next}, {usable_from})"
    ))
}

const SCHEMA: &str = "CREATE SCHEMA countersign;\n";

const VERSIONS: &str = "CREATE TABLE countersign.schema_versions (
    version     integer PRIMARY KEY,
    usable_from integer NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);\n";

/// Checks that this session may make the next step from a state.
///
/// # Errors
/// It may not: the words of the step itself.
pub(super) async fn check_migration(session: &StoreSession, state: SchemaState) -> CallResult<()> {
    let sql = match state {
        SchemaState::Absent { has_schema: false } => {
            "SELECT has_database_privilege(current_database(), 'CREATE')"
        }
        SchemaState::Absent { has_schema: true } => "SELECT has_schema_privilege('countersign', 'CREATE')",
        SchemaState::Version { .. } => {
            "SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = to_regclass('countersign.schema_versions')"
        }
    };
    let rows = session.query(sql, &[]).await?;
    let may = rows.first().ok_or(CallError::Lost)?.get(0)?;
    if may {
        Ok(())
    } else {
        Err(in_words(state, KnownSchema::CURRENT.version(), CallError::Refused("42501".to_owned())))
    }
}

/// A missing privilege in words that say what to grant.
fn in_words(state: SchemaState, known: i32, error: CallError) -> CallError {
    match (&error, state) {
        (CallError::Refused(code), SchemaState::Absent { has_schema: false }) if code == "42501" => {
            let words = "it has no schema countersign, and the store's user may not make one: grant CREATE on the database";
            CallError::Message(words.to_owned())
        }
        (CallError::Refused(code), SchemaState::Absent { has_schema: true }) if code == "42501" => {
            let words = "its schema countersign is empty, and the store's user may not make tables in it: grant CREATE on the schema";
            CallError::Message(words.to_owned())
        }
        (CallError::Refused(code), SchemaState::Version { version, .. }) if code == "42501" => {
            CallError::Message(format!(
                "its schema has version {version}, this program needs {known}, and the store's user doesn't own it: start this program once as its owner"
            ))
        }
        _ => error,
    }
}
