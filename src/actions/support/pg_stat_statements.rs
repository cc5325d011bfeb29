//! What `enable-stats` and `reset-stats` share: the state of pg_stat_statements in one database, and a session that changes it.

use super::database::DatabaseTarget;
use crate::actions::{Execution, Outcome};
use crate::postgres::DedicatedSession;

/// One row about the extension in this database and the login's rights.
pub const STATE: &str = include_str!("pg_stat_statements.sql");

/// Names what no other run may do meanwhile.
pub fn resource(target: &DatabaseTarget) -> String {
    format!("statistics of {}", target.database)
}

/// Opens the session that works, with the lock on the database's statistics.
///
/// # Errors
/// An outcome that says that nothing was done.
pub async fn begin(
    execution: &Execution<'_>,
    target: &DatabaseTarget,
) -> Result<DedicatedSession, Box<Outcome>> {
    let worker = target.dedicated_session(execution).await.map_err(|err| Box::new(target.failed(err)))?;
    match worker.hold(&resource(target)).await {
        Ok(true) => Ok(worker),
        Ok(false) => {
            let reason = format!(
                "Another Countersign instance holds the lock on the statistics of {}.",
                target.database
            );
            Err(Box::new(Outcome::failed(reason)))
        }
        Err(err) => Err(Box::new(target.failed(err))),
    }
}
