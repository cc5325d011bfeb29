//! The schema `countersign` of the store's database, and its numbered versions. Each migration leaves what the program before it
//! reads and writes as it was: it adds first, and a later one removes. So replicas of two versions work side by side.

use super::session::{CallError, CallResult, StoreSession};

/// A step from one version to the next, in one transaction.
struct Migration {
    sql: &'static str,
    /// Programs that know this version of the schema, or a later one, can use the result.
    usable_from: i32,
}

/// The first makes version 1.
const MIGRATIONS: [Migration; 1] =
    [Migration { sql: include_str!("migrations/0001_init.sql"), usable_from: 1 }];

/// The version that this program knows.
const KNOWN: i32 = MIGRATIONS.len() as i32;

/// The oldest server that the store works on.
const OLDEST_MAJOR: u32 = 13;

/// The key of the advisory lock under which the schema changes: "CSGN" in ASCII, and 0.
const LOCK: &str = "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(1129531214, 0)";

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

/// The refusal of a schema that this program can't use.
fn refusal(version: i32) -> CallError {
    CallError::Message(format!(
        "its schema has version {version}, and this program knows {KNOWN}: use a newer program"
    ))
}

/// True if the schema is as this program knows it, or newer and usable; false if migrations are missing.
///
/// # Errors
/// This program can't use it.
pub(super) fn is_current(state: SchemaState) -> CallResult<bool> {
    match state {
        SchemaState::Version { version, usable_from } if usable_from > KNOWN => Err(refusal(version)),
        SchemaState::Version { version, .. } => Ok(version >= KNOWN),
        SchemaState::Absent { .. } => Ok(false),
    }
}

/// Brings the schema to this program's version. Several replicas may do so at once: one waits for the other.
pub(super) async fn migrate(session: &StoreSession) -> CallResult<()> {
    while !is_current(state(session).await?)? {
        session.batch(LOCK).await?;
        // Another replica may have been faster.
        let state = state(session).await?;
        if let Some(sql) = next_step(state) {
            session.batch(&sql).await.map_err(|error| in_words(state, error))?;
        }
        session.batch("COMMIT").await?;
    }
    Ok(())
}

/// The statements that lead from a state to the next version, if there is one.
fn next_step(state: SchemaState) -> Option<String> {
    let (version, prefix) = match state {
        SchemaState::Version { version, .. } => (version, String::new()),
        SchemaState::Absent { has_schema: true } => (0, VERSIONS.to_owned()),
        SchemaState::Absent { has_schema: false } => (0, format!("{SCHEMA}{VERSIONS}")),
    };
    let Migration { sql, usable_from } = MIGRATIONS.get(usize::try_from(version).ok()?)?;
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

/// A missing privilege in words that say what to grant.
fn in_words(state: SchemaState, error: CallError) -> CallError {
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
                "its schema has version {version}, this program needs {KNOWN}, and the store's user doesn't own it: start this program once as its owner"
            ))
        }
        _ => error,
    }
}
