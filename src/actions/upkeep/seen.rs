//! What became of an interrupted `vacuum`, `analyze`, `vacuum-full` or `reindex`, as PostgreSQL shows it afterwards. It only looks.

use super::names::Target;
use super::{EVIDENCE, Kind};
use crate::actions::answers::count;
use crate::actions::site::Site;
use crate::actions::{Doing, Outcome};
use crate::audit::Happening;
use crate::postgres::Lease;

const INTERRUPTED: &str = "Countersign was interrupted and can't tell whether that is its work.";

/// `None` while it can't be seen.
pub(super) async fn upkeep(doing: &Doing<'_>, kind: Kind) -> Option<Outcome> {
    let watcher = Site::planned(doing).watcher(doing).await?;
    let since = doing.run.event(Happening::Started.word())?.at.to_string();
    let targets = Target::all(doing);
    let mut done = 0;
    for target in &targets {
        let rows = watcher.ask(EVIDENCE, &[&target.oid, &since]).await.ok()?;
        let seen =
            |name: &str| rows.first().and_then(|row| row.get::<_, Option<bool>>(name)).unwrap_or(false);
        done += usize::from(seen("analyzed") && (kind == Kind::Analyze || seen("vacuumed")));
    }
    let past = match kind {
        Kind::Vacuum => "vacuumed and analyzed since it began",
        Kind::Analyze => "analyzed since it began",
    };
    Some(told((done, targets.len()), ("table is", "tables are"), past))
}

/// `None` while it can't be seen.
pub(super) async fn reindex(doing: &Doing<'_>, rebuilt: &str) -> Option<Outcome> {
    let watcher = Site::planned(doing).watcher(doing).await?;
    let targets = Target::all(doing);
    let mut done = 0;
    for target in &targets {
        done += usize::from(is_rebuilt(&watcher, target, rebuilt).await?);
    }
    let mut outcome = told((done, targets.len()), ("index is", "indexes are"), "built anew");
    let next = "`indexes` tells whether it left an invalid one; the next `reindex` of the table drops that.";
    outcome.blocks.push(crate::message::Block::Note(crate::sql::fill(next, &|_| None)));
    Some(outcome)
}

/// `None` while it can't be seen. Only the table's file is asked for, which waits for no lock: the old one stands there until the new one
/// is committed.
pub(super) async fn full(doing: &Doing<'_>) -> Option<Outcome> {
    let target = Target::all(doing).into_iter().next()?;
    let planned = target.file?;
    let watcher = Site::planned(doing).watcher(doing).await?;
    let rows = watcher.ask("SELECT pg_relation_filenode($1::int8::oid)::int8", &[&target.oid]).await.ok()?;
    let relation = &target.relation;
    let stopped = doing.run.event(Happening::Stopping.word()).is_some();
    Some(match rows.first()?.get::<_, Option<i64>>(0) {
        None => Outcome::new(Happening::Failed, format!("{relation} is gone. {INTERRUPTED}")),
        Some(now) if now != planned => {
            Outcome::new(Happening::Succeeded, format!("{relation} is written anew. {INTERRUPTED}"))
        }
        Some(_) => {
            let happening = if stopped { Happening::Stopped } else { Happening::Failed };
            let words = "Countersign was interrupted, and nothing was changed";
            Outcome::new(happening, format!("{relation} is not written anew: {words}."))
        }
    })
}

async fn is_rebuilt(watcher: &Lease, target: &Target, rebuilt: &str) -> Option<bool> {
    let rows = watcher.ask(rebuilt, &[&target.relation, &target.oid]).await.ok()?;
    Some(rows.first().is_some_and(|row| row.get("rebuilt")))
}

fn told((done, all): (usize, usize), (one, more): (&str, &str), past: &str) -> Outcome {
    let happening = match done {
        some if some == all => Happening::Succeeded,
        0 => Happening::Failed,
        _ => Happening::Partial,
    };
    let of = if done == all { String::new() } else { format!(", of {all}") };
    let done = if done == 0 { format!("No {one}") } else { count(done, one, more) };
    let text = format!("{done} {past}{of}. {INTERRUPTED}");
    Outcome::new(happening, text)
}
