//! `reindex`: a table's indexes or one of them, rebuilt beside reads and writes (REINDEX INDEX CONCURRENTLY), one after another, so
//! that a stop loses no index that was done and the disk needs room for one at a time. An index is done when PostgreSQL shows another,
//! valid index of the same name. The leftovers of an interrupted rebuild are looked for before and after (`invalid_indexes`).

use super::support::relations::PlannedRelation;
use super::{Action, Call, Execution, Outcome};
use crate::error::Result;
use crate::model::Plan;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::time::Duration;

mod execute;
mod invalid_indexes;
mod plan;
mod recover;
mod text;

/// The command `reindex`.
pub struct Reindex;

/// Returns whether a name's index is a new, valid one.
const REBUILT: &str = include_str!("rebuilt.sql");

/// Multiple of the environment's lock_timeout that a rebuild waits: no reader or writer waits behind it meanwhile.
const LOCK_TIMEOUTS: u32 = 15;

#[async_trait]
impl Action for Reindex {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan::plan(call).await
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute::execute(execution).await
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        recover::recover(execution).await
    }
}

fn rebuild_timeout(lock_timeout: Duration) -> Duration {
    lock_timeout.saturating_mul(LOCK_TIMEOUTS)
}

/// Lists the tables of the indexes, by oid.
fn table_oids(targets: &[PlannedRelation]) -> Vec<i64> {
    targets.iter().map(|target| target.table_oid).collect::<BTreeSet<_>>().into_iter().collect()
}
