//! What became of an interrupted `vacuum`, `analyze`, `vacuum-full` or `reindex`, as PostgreSQL shows it afterwards. It only looks.

use super::names::Relation;
use super::{EVIDENCE, Operation};
use crate::actions::support::blocks::count;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::{Execution, Outcome};
use crate::model::EventKind;
use crate::postgres::PooledClient;

const INTERRUPTED: &str = "Countersign was interrupted and can't tell whether that is its work.";

/// `None` while it can't be seen.
pub(super) async fn upkeep(doing: &Execution<'_>, kind: Operation) -> Option<Outcome> {
    let watcher = DatabaseTarget::planned(doing).watcher(doing).await?;
    let since = doing.run.event(EventKind::Started)?.at.to_string();
    let targets = Relation::all(doing);
    let mut done = 0;
    for target in &targets {
        let rows = watcher.ask(EVIDENCE, &[&target.oid, &since]).await.ok()?;
        let seen =
            |name: &str| rows.first().and_then(|row| row.get::<_, Option<bool>>(name)).unwrap_or(false);
        done += usize::from(seen("analyzed") && (kind == Operation::Analyze || seen("vacuumed")));
    }
    let past = match kind {
        Operation::Vacuum => "vacuumed and analyzed since it began",
        Operation::Analyze => "analyzed since it began",
    };
    Some(told((done, targets.len()), ("table is", "tables are"), past))
}

/// `None` while it can't be seen.
pub(super) async fn reindex(doing: &Execution<'_>, rebuilt: &str) -> Option<Outcome> {
    let watcher = DatabaseTarget::planned(doing).watcher(doing).await?;
    let targets = Relation::all(doing);
    let mut done = 0;
    for target in &targets {
        done += usize::from(is_rebuilt(&watcher, target, rebuilt).await?);
    }
    let mut outcome = told((done, targets.len()), ("index is", "indexes are"), "built anew");
    let next = "`indexes` tells whether it left an invalid one; the next `reindex` of the table drops that.";
    outcome.blocks.push(crate::model::Block::Note(crate::sql::fill(next, &|_| None)));
    Some(outcome)
}

/// `None` while it can't be seen. Only the table's file is asked for, which waits for no lock: the old one stands there until the new one
/// is committed.
pub(super) async fn full(doing: &Execution<'_>) -> Option<Outcome> {
    let target = Relation::all(doing).into_iter().next()?;
    let planned = target.file?;
    let watcher = DatabaseTarget::planned(doing).watcher(doing).await?;
    let rows = watcher.ask("SELECT pg_relation_filenode($1::int8::oid)::int8", &[&target.oid]).await.ok()?;
    let relation = &target.relation;
    let stopped = doing.run.event(EventKind::StopRequested).is_some();
    Some(match rows.first()?.get::<_, Option<i64>>(0) {
        None => Outcome::new(EventKind::Failed, format!("{relation} is gone. {INTERRUPTED}")),
        Some(now) if now != planned => {
            Outcome::new(EventKind::Succeeded, format!("{relation} is written anew. {INTERRUPTED}"))
        }
        Some(_) => {
            let happening = if stopped { EventKind::Stopped } else { EventKind::Failed };
            let words = "Countersign was interrupted, and nothing was changed";
            Outcome::new(happening, format!("{relation} is not written anew: {words}."))
        }
    })
}

async fn is_rebuilt(watcher: &PooledClient, target: &Relation, rebuilt: &str) -> Option<bool> {
    let rows = watcher.ask(rebuilt, &[&target.relation, &target.oid]).await.ok()?;
    Some(rows.first().is_some_and(|row| row.get("rebuilt")))
}

fn told((done, all): (usize, usize), (one, more): (&str, &str), past: &str) -> Outcome {
    let happening = match done {
        some if some == all => EventKind::Succeeded,
        0 => EventKind::Failed,
        _ => EventKind::Partial,
    };
    let of = if done == all { String::new() } else { format!(", of {all}") };
    let done = if done == 0 { format!("No {one}") } else { count(done, one, more) };
    let text = format!("{done} {past}{of}. {INTERRUPTED}");
    Outcome::new(happening, text)
}
