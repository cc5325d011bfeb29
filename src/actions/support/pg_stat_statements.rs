//! The parts that `enable-stats` and `reset-stats` share: the state of pg_stat_statements in one database, and a session that changes it.

use super::database::DatabaseTarget;
use crate::actions::{Execution, Outcome};
use crate::error::{Error, Result};
use crate::postgres::{DedicatedSession, PgRow};

/// One row about the extension in this database and the login's rights.
pub const STATE: &str = include_str!("pg_stat_statements.sql");

/// Names what no other run may do meanwhile.
pub fn resource(database: &str) -> String {
    format!("statistics of {database}")
}

/// Refuses a login that may not read the extension's statistics, with the grants that it needs.
///
/// # Errors
/// [`Error::User`].
pub fn ensure_readable(database: &str, state: &PgRow) -> Result<()> {
    let (version, role): (Option<String>, String) = (state.get("version")?, state.get("role")?);
    let (Some(version), Some(grants)) = (version, state.get::<Option<String>>("grants")?) else {
        return Ok(());
    };
    Err(Error::instead(
        format!("{database} has pg_stat_statements {version}, but {role} may not read it."),
        format!("The owner of the extension there runs `{grants}`."),
    ))
}

/// Opens the session that works, with the lock on the database's statistics.
pub async fn begin(execution: &Execution<'_>, target: &DatabaseTarget) -> Result<DedicatedSession, Outcome> {
    let session = target.dedicated_session(execution).await.map_err(|err| target.failed(err))?;
    let resource = resource(&target.database);
    if session.try_advisory_lock(&resource).await.map_err(|err| target.failed(err))? {
        return Ok(session);
    }
    Err(Outcome::failed(format!("Another Countersign instance holds the lock on the {resource}.")))
}
