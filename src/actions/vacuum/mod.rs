//! `vacuum`, and the parts that `analyze` shares with it: a table or all of a database. PostgreSQL calls a VACUUM done that skipped
//! the table, so here it is done when nothing was warned of and PostgreSQL's own times of it have moved. Tables are done one by one,
//! so that each has an outcome of its own and a stop loses no table that was done.

use super::{Action, Call, Execution, Outcome};
use crate::error::Result;
use crate::model::Plan;
use crate::postgres::PooledClient;
use crate::sql::duration;
use async_trait::async_trait;
use tokio_postgres::Row;

mod execute;
mod plan;
mod recover;
mod text;

pub(super) use execute::execute;
pub(super) use plan::{may_not, plan};
pub(super) use recover::recover;

/// The command `vacuum`.
pub struct Vacuum;

/// Returns whether a table was vacuumed and analyzed since a moment, and its dead rows.
const EVIDENCE: &str = include_str!("evidence.sql");

/// The work on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Vacuum,
    Analyze,
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Operation::Vacuum => "vacuum",
            Operation::Analyze => "analyze",
        }
    }

    fn participle(self) -> &'static str {
        match self {
            Operation::Vacuum => "vacuumed and analyzed",
            Operation::Analyze => "analyzed",
        }
    }

    fn statement(self, relation: &str) -> String {
        match self {
            Operation::Vacuum => format!("VACUUM (ANALYZE, SKIP_LOCKED) {relation}"),
            Operation::Analyze => format!("ANALYZE (SKIP_LOCKED) {relation}"),
        }
    }

    /// Reads a row of [`EVIDENCE`]. VACUUM analyzes the table, too.
    fn is_done(self, evidence: &Row) -> bool {
        let moved = |name: &str| evidence.get::<_, Option<bool>>(name).unwrap_or(false);
        moved("analyzed") && (self == Operation::Analyze || moved("vacuumed"))
    }
}

#[async_trait]
impl Action for Vacuum {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan(call, Operation::Vacuum).await
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute(execution, Operation::Vacuum).await
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        recover(execution, Operation::Vacuum).await
    }
}

/// Finds the oldest holder of the xmin horizon that `counts`, which keeps dead rows from being removed.
async fn horizon_holder(client: &PooledClient, counts: impl Fn(&Row) -> bool) -> Option<String> {
    let rows = client.ask(include_str!("horizon.sql"), &[]).await.ok()?;
    let row = rows.iter().find(|row| counts(row))?;
    let holder: String = row.get("what");
    match row.get::<_, Option<f64>>("held_s") {
        Some(seconds) => Some(format!("{holder}, open for {}", duration(seconds))),
        None => Some(holder),
    }
}
