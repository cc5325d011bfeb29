//! The outcome of an interrupted `reindex`, as PostgreSQL shows it afterwards. It only looks.

use super::REBUILT;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::maintenance::{Nouns, recovered};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::model::Block;
use crate::sql::fill;

/// Counts the indexes that are new ones now; `None` while they can't be read.
pub(super) async fn recover(execution: &Execution<'_>) -> Option<Outcome> {
    let watcher = DatabaseTarget::from_plan(execution).observer(execution).await?;
    let targets = PlannedRelation::all(execution);
    let mut done = 0;
    for target in &targets {
        let rows = watcher.ask(REBUILT, &[&target.relation, &target.oid]).await.ok()?;
        done += usize::from(rows.first().is_some_and(|row| row.get("rebuilt")));
    }
    let nouns = Nouns { one: "index", many: "indexes", done: "rebuilt" };
    let mut outcome = recovered(done, targets.len(), &nouns);
    let next =
        "`indexes` shows whether it left an invalid index; the next `reindex` of the table drops that.";
    outcome.blocks.push(Block::Note(fill(next, &|_| None)));
    Some(outcome)
}
