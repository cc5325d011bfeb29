//! The parts that `enable-stats` and `reset-stats` share: the state of pg_stat_statements in one database, and a session that changes it.

use super::database::DatabaseTarget;
use crate::actions::{Execution, Outcome, TargetLockError};
use crate::postgres::DedicatedSession;

/// One row about the extension in this database and the login's rights.
pub const STATE: &str = include_str!("pg_stat_statements.sql");

/// Names what no other run may do meanwhile.
pub fn resource(database: &str) -> String {
    format!("statistics of {database}")
}

/// Opens the session that works, with the lock on the database's statistics.
pub async fn begin(execution: &Execution<'_>, target: &DatabaseTarget) -> Result<DedicatedSession, Outcome> {
    let session = target.dedicated_session(execution).await.map_err(|err| target.failed(err))?;
    let resource = resource(&target.database);
    match execution.lock_target(&session, &resource).await {
        Ok(()) => Ok(session),
        Err(TargetLockError::Busy) => {
            Err(Outcome::failed(format!("Another Countersign instance holds the lock on the {resource}.")))
        }
        Err(TargetLockError::RunLost(lost)) => Err(lost.into()),
        Err(TargetLockError::Query(err)) => Err(target.failed(err)),
    }
}
