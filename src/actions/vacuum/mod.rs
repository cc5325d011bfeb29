//! `vacuum` and `analyze`: a table or all of a database. PostgreSQL calls a VACUUM done that skipped the table, so here it is done when
//! nothing was warned of and PostgreSQL's own times of it have moved. Tables are done one by one, so that each has an outcome of its
//! own and a stop loses no table that was done.

use super::support::database::DatabaseTarget;
use super::support::maintenance::{Nouns, recovered};
use super::support::relations::PlannedRelation;
use super::{Action, Call, Execution, Outcome};
use crate::error::Result;
use crate::model::{EventKind, Plan};
use crate::postgres::PooledClient;
use crate::sql::duration;
use async_trait::async_trait;
use tokio_postgres::Row;

mod execute;
mod plan;

pub(super) use plan::may_not;

/// Returns whether a table was vacuumed and analyzed since a moment, and its dead rows.
const EVIDENCE: &str = include_str!("evidence.sql");

/// The work on a table, one command each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Vacuum,
    Analyze,
}

impl Operation {
    fn verb(self) -> &'static str {
        if self == Operation::Vacuum { "vacuum" } else { "analyze" }
    }

    fn participle(self) -> &'static str {
        if self == Operation::Vacuum { "vacuumed and analyzed" } else { "analyzed" }
    }

    fn statement(self, relation: &str) -> String {
        match self {
            Operation::Vacuum => format!("VACUUM (ANALYZE, SKIP_LOCKED) {relation}"),
            Operation::Analyze => format!("ANALYZE (SKIP_LOCKED) {relation}"),
        }
    }

    /// Reads a row of [`EVIDENCE`]. VACUUM analyzes the table, too.
    fn is_done(self, evidence: &Row) -> bool {
        let has_moved = |name: &str| evidence.get::<_, Option<bool>>(name).unwrap_or(false);
        has_moved("analyzed") && (self == Operation::Analyze || has_moved("vacuumed"))
    }
}

#[async_trait]
impl Action for Operation {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan::plan(call, *self).await
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute::execute(execution, *self).await.unwrap_or_else(|outcome| outcome)
    }

    /// Counts the tables whose times have moved since the run started.
    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let observer = DatabaseTarget::from_plan(execution).observer(execution).await?;
        let since = execution.run.event(EventKind::Started)?.at.to_string();
        let targets = PlannedRelation::all(execution.plan);
        let mut done = 0;
        for target in &targets {
            let rows = observer.query(EVIDENCE, &[&target.oid, &since]).await.ok()?;
            done += usize::from(rows.first().is_some_and(|row| self.is_done(row)));
        }
        let past = format!("{} since it began", self.participle());
        Some(recovered(done, targets.len(), &Nouns { one: "table", many: "tables", done: &past }))
    }
}

/// Finds the oldest holder of the xmin horizon that `counts`, which keeps dead rows from being removed.
async fn horizon_holder(client: &PooledClient, counts: impl Fn(&Row) -> bool) -> Option<String> {
    let rows = client.query(include_str!("horizon.sql"), &[]).await.ok()?;
    let row = rows.iter().find(|row| counts(row))?;
    let holder: String = row.get("what");
    match row.get::<_, Option<f64>>("held_s") {
        Some(seconds) => Some(format!("{holder}, open for {}", duration(seconds))),
        None => Some(holder),
    }
}
