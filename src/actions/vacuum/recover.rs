//! The outcome of an interrupted `vacuum` or `analyze`, as PostgreSQL shows it afterwards. It only looks.

use super::{EVIDENCE, Operation};
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::maintenance::{Nouns, recovered};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::model::EventKind;

/// Counts the tables whose times have moved since the run started; `None` while they can't be read.
pub async fn recover(execution: &Execution<'_>, operation: Operation) -> Option<Outcome> {
    let watcher = DatabaseTarget::from_plan(execution).observer(execution).await?;
    let since = execution.run.event(EventKind::Started)?.at.to_string();
    let targets = PlannedRelation::all(execution);
    let mut done = 0;
    for target in &targets {
        let rows = watcher.ask(EVIDENCE, &[&target.oid, &since]).await.ok()?;
        done += usize::from(rows.first().is_some_and(|row| operation.is_done(row)));
    }
    let past = format!("{} since it began", operation.participle());
    Some(recovered(done, targets.len(), &Nouns { one: "table", many: "tables", done: &past }))
}
