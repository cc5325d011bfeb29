//! The checks of `countersign check`, in the words of a start's refusals. They change nothing.

use super::schema::{self, KnownSchema, SchemaState};
use super::session::{CallError, CallResult, Connector, StoreSession};
use crate::config::PostgresStoreSettings;
use crate::pg_connect::Unreachable;
use crate::store::StoreError;

/// Privileges that the program needs, and the tables that it needs them on: what deploy/audit-log-grants.sql grants.
const PRIVILEGES: [(&str, &[&str]); 4] = [
    ("SELECT", &TABLES),
    (
        "INSERT",
        &[
            "events",
            "event_texts",
            "runs",
            "cards",
            "tokens",
            "resource_locks",
            "suspended_locks",
            "settings",
            "bindings",
            "rate_limits",
            "watch_states",
            "figures",
            "instances",
        ],
    ),
    ("UPDATE", &["head", "cards", "bindings", "rate_limits", "watch_states", "instances"]),
    (
        "DELETE",
        &[
            "event_texts",
            "cards",
            "tokens",
            "resource_locks",
            "suspended_locks",
            "settings",
            "rate_limits",
            "figures",
            "instances",
        ],
    ),
];

const TABLES: [&str; 15] = [
    "schema_versions",
    "head",
    "instances",
    "runs",
    "events",
    "event_texts",
    "resource_locks",
    "suspended_locks",
    "tokens",
    "cards",
    "bindings",
    "settings",
    "rate_limits",
    "watch_states",
    "figures",
];

/// Columns of runs that follow a run's events.
const CHANGED_COLUMNS: [&str; 5] = ["version", "state", "changed_at", "deadline", "owner"];

/// A store that a start could use.
#[derive(Debug, Default)]
pub struct PostgresCheck {
    /// The system identifier of its server.
    pub system_identifier: String,
    /// "15.14".
    pub server_version: String,
    /// The schema is there; otherwise the first start makes it.
    pub has_schema: bool,
    /// Missing privileges, as the statements that grant them.
    pub missing_grants: Vec<String>,
    /// Settings under which recorded events can be lost.
    pub warnings: Vec<StoreWarning>,
}

/// A setting under which recorded events can be lost.
#[derive(Debug, PartialEq, Eq)]
pub struct StoreWarning {
    pub problem: &'static str,
    pub fix: &'static str,
}

/// The reason that a start would fail.
#[derive(Debug)]
pub enum PostgresCheckError {
    Unreachable(Unreachable),
    Unusable(StoreError),
}

impl From<CallError> for PostgresCheckError {
    fn from(error: CallError) -> PostgresCheckError {
        match error {
            CallError::Unreachable(reason) => PostgresCheckError::Unreachable(reason),
            error => PostgresCheckError::Unusable(error.into()),
        }
    }
}

/// Checks the database as a start would use it.
///
/// # Errors
/// The reason that a start would fail.
pub async fn check(settings: PostgresStoreSettings) -> Result<PostgresCheck, PostgresCheckError> {
    let user = settings.login.user.clone();
    let connector = Connector::new(settings);
    let connector = connector.map_err(|error| CallError::Message(format!("{error:#}")))?;
    let session = connector.open().await?;
    let state = schema::state(&session).await?;
    let is_current = schema::is_current(state, KnownSchema::CURRENT.version())?;
    if !is_current {
        schema::check_migration(&session, state).await?;
    }
    let has_schema = is_current || !matches!(state, SchemaState::Absent { .. });
    let row = session.query("SELECT current_setting('server_version')", &[]).await?;
    let server_version = row.first().ok_or(CallError::Lost)?.get(0).map_err(CallError::from)?;
    Ok(PostgresCheck {
        system_identifier: session.system_identifier().await?,
        server_version,
        has_schema,
        missing_grants: if has_schema { missing_grants(&session, &user).await? } else { Vec::new() },
        warnings: warnings(&session).await?,
    })
}

/// The statements that grant what is missing, one for each privilege.
async fn missing_grants(session: &StoreSession, user: &str) -> CallResult<Vec<String>> {
    let (mut privileges, mut tables) = (Vec::new(), Vec::new());
    for (privilege, on) in PRIVILEGES {
        for table in on {
            privileges.push(privilege);
            tables.push(*table);
        }
    }
    let sql = "SELECT format('GRANT %s ON countersign.%s TO %I;', n.privilege, n.name, $3::text)
          FROM unnest($1::text[], $2::text[]) WITH ORDINALITY n(privilege, name, ordinal)
         WHERE NOT has_table_privilege(to_regclass('countersign.' || n.name), n.privilege) ORDER BY n.ordinal";
    let of_tables = session.query(sql, &[&privileges, &tables, &user]).await?;
    let sql =
        "SELECT format('GRANT UPDATE (%s) ON countersign.runs TO %I;', string_agg(c.name, ', '), $2::text)
          FROM unnest($1::text[]) c(name)
         WHERE NOT has_column_privilege('countersign.runs', c.name, 'UPDATE') HAVING count(*) > 0";
    let of_columns = session.query(sql, &[&CHANGED_COLUMNS.as_slice(), &user]).await?;
    let sql = "SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I;', p.oid::regprocedure, $1::text)
          FROM pg_proc p WHERE p.pronamespace = 'countersign'::regnamespace AND NOT has_function_privilege(p.oid, 'EXECUTE')";
    let of_functions = session.query(sql, &[&user]).await?;
    let rows = of_tables.iter().chain(&of_columns).chain(&of_functions);
    rows.map(|row| Ok(row.get(0)?)).collect()
}

async fn warnings(session: &StoreSession) -> CallResult<Vec<StoreWarning>> {
    let sql = "SELECT current_setting('synchronous_standby_names') = '',
                      current_setting('fsync') = 'off', current_setting('full_page_writes') = 'off'";
    let rows = session.query(sql, &[]).await?;
    let row = rows.first().ok_or(CallError::Lost)?;
    let all = [
        StoreWarning {
            problem: "there is one copy (synchronous_standby_names is empty): if this server is lost, so is what was recorded since its \
                      last backup",
            fix: "Add a synchronous standby to the audit log's server, or accept the loss.",
        },
        StoreWarning {
            problem: "fsync is off: a crash of the server's machine can destroy the audit log",
            fix: "Set fsync to on in the configuration of the audit log's server.",
        },
        StoreWarning {
            problem: "full_page_writes is off: a crash of the server's machine can destroy the audit log",
            fix: "Set full_page_writes to on in the configuration of the audit log's server.",
        },
    ];
    let mut found = Vec::new();
    for (index, warning) in all.into_iter().enumerate() {
        if row.get(index)? {
            found.push(warning);
        }
    }
    Ok(found)
}
