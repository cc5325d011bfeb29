//! The outcome of an interrupted `vacuum-full`, as the table's file shows it afterwards. It only looks.

use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::recovery::INTERRUPTED;
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::model::EventKind;

/// Compares the table's file with the plan's; `None` while it can't be read. Only the file is read, which waits for no lock: until
/// the rewrite is committed, it is the old one.
pub(super) async fn recover(execution: &Execution<'_>) -> Option<Outcome> {
    let target = PlannedRelation::all(execution).into_iter().next()?;
    let planned = target.file?;
    let watcher = DatabaseTarget::from_plan(execution).observer(execution).await?;
    let rows = watcher.ask("SELECT pg_relation_filenode($1::int8::oid)::int8", &[&target.oid]).await.ok()?;
    let relation = &target.relation;
    Some(match rows.first()?.get::<_, Option<i64>>(0) {
        None => Outcome::new(EventKind::Failed, format!("{relation} is gone. {INTERRUPTED}")),
        Some(now) if now != planned => Outcome::done(format!("{relation} was rewritten. {INTERRUPTED}")),
        Some(_) => {
            let stopped = execution.run.event(EventKind::StopRequested).is_some();
            let kind = if stopped { EventKind::Stopped } else { EventKind::Failed };
            let text = "Countersign was interrupted, and nothing was changed";
            Outcome::new(kind, format!("{relation} was not rewritten: {text}."))
        }
    })
}
