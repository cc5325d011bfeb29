//! The execution of `vacuum-full`: the check, the statement, and the proof that the table has another file.

use super::{MEASURE, TableSize};
use crate::actions::support::maintenance::{CurrentTarget, MaintenanceSession, is_lock_timeout};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::support::tolerance::max_change;
use crate::actions::{Execution, Outcome};
use crate::model::{Block, EventKind};
use crate::postgres::QueryError;
use crate::sql::{bytes, duration};
use serde_json::json;
use std::time::Instant;

/// Rewrites the plan's table.
pub(super) async fn execute(execution: &Execution<'_>) -> Outcome {
    let session = match MaintenanceSession::begin(execution).await {
        Ok(session) => session,
        Err(outcome) => return outcome,
    };
    let targets = PlannedRelation::all(execution);
    let Some(target) = targets.first() else { return session.database.failed("has no such table") };
    let began = Instant::now();
    let before = match check(&session, target).await {
        Ok(before) => before,
        Err(outcome) => return *outcome,
    };
    let position = CurrentTarget { targets: &targets, index: 0, noun: "table" };
    let statement = format!("VACUUM (FULL) {}", target.relation);
    let result = session.with_progress(position, session.execute(&statement)).await;
    let took = duration(began.elapsed().as_secs_f64());
    conclude(&session, target, &before, result, &took).await
}

/// Tests identity and guard, in the statement before the one that acts and on its connection. VACUUM takes no condition and runs in
/// no transaction, and it would wait for a lock that another connection held meanwhile: PostgreSQL allows no closer test. A table
/// that takes the name in between is found by the file of this one, which has not changed then.
async fn check(
    session: &MaintenanceSession<'_>,
    target: &PlannedRelation,
) -> Result<TableSize, Box<Outcome>> {
    let relation = &target.relation;
    let invalidated = |text: String| Box::new(Outcome::invalidated(text));
    let failed = |error: QueryError| Box::new(not_done(session, relation, &error));
    if !session.try_lock(relation).await.map_err(failed)? {
        let text = format!("Another Countersign instance holds the lock on {relation}.");
        return Err(Box::new(Outcome::failed(text)));
    }
    let rows = session.query(MEASURE, &[&target.oid, relation]).await.map_err(failed)?;
    let gone = || invalidated(format!("{relation} is gone, or another table has its name now."));
    let size = TableSize::from_rows(&rows).filter(|size| size.is_same).ok_or_else(gone)?;
    // An older plan says nothing of its file.
    if target.file.is_some() && target.file != size.filenode {
        return Err(invalidated(format!("{relation} was rewritten since the card was made.")));
    }
    let now = size.bytes.ok_or_else(gone)?;
    if now > max_change(target.bytes) {
        return Err(invalidated(format!(
            "{relation} is {} now; the card showed {}, and at most {} may be rewritten.",
            bytes(now as f64),
            bytes(target.bytes as f64),
            bytes(max_change(target.bytes) as f64)
        )));
    }
    Ok(size)
}

fn not_done(session: &MaintenanceSession<'_>, relation: &str, error: &QueryError) -> Outcome {
    let after = "Nothing was done, and no session waits for it any longer.";
    if is_lock_timeout(error) {
        let text =
            format!("{relation} was not rewritten: other sessions use it, and it gave up waiting. {after}");
        let mut outcome = Outcome::new(EventKind::Failed, text);
        let next = "`blocked` and `long` show the sessions that use it. Try again at a quieter time.";
        outcome.blocks.push(Block::Note(next.into()));
        return outcome;
    }
    if session.is_stopped(error) {
        let text = format!("Stopped: {relation} is unchanged. The copy written so far was discarded.");
        return Outcome::new(EventKind::Stopped, text);
    }
    let text = format!("{relation} was not rewritten: PostgreSQL refused: {error}. {after}");
    Outcome::new(EventKind::Failed, text)
}

/// Measures the table afterwards, over a new connection if the worker's is lost.
async fn measure(
    session: &MaintenanceSession<'_>,
    target: &PlannedRelation,
) -> Result<Option<TableSize>, QueryError> {
    let rows = match session.query(MEASURE, &[&target.oid, &target.relation]).await {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => {
            let worker =
                session.database.dedicated_session(session.execution).await.map_err(|_| QueryError::Lost)?;
            worker.ask(MEASURE, &[&target.oid, &target.relation]).await?
        }
        answer => answer?,
    };
    Ok(TableSize::from_rows(&rows))
}

async fn conclude(
    session: &MaintenanceSession<'_>,
    target: &PlannedRelation,
    before: &TableSize,
    result: Result<Vec<String>, QueryError>,
    took: &str,
) -> Outcome {
    let relation = &target.relation;
    let unknown = |error: &QueryError| {
        let database = &session.database.database;
        let text = format!("Can't tell whether {relation} was rewritten: {database} {error}.");
        Outcome::unknown(text)
    };
    let warning = match result {
        Ok(warnings) => warnings.into_iter().next(),
        Err(error) if error.is_final() => return not_done(session, relation, &error),
        Err(error) if !session.has_ended().await => return unknown(&error),
        Err(error) => Some(format!("the server {error}")),
    };
    let after = match measure(session, target).await {
        Ok(after) => after,
        Err(error) => return unknown(&error),
    };
    let is_rewritten = |after: &TableSize| after.filenode != before.filenode && after.filenode.is_some();
    let Some(after) = after.filter(is_rewritten) else {
        let reason =
            warning.unwrap_or_else(|| "PostgreSQL reported no warning, but its file is the same".to_owned());
        return Outcome::new(EventKind::Failed, format!("{relation} was not rewritten: {reason}."));
    };
    let (before, after) = (before.bytes.unwrap_or_default(), after.bytes.unwrap_or_default());
    let sizes = format!("{} before, {} now", bytes(before as f64), bytes(after as f64));
    let mut outcome = match warning {
        None => Outcome::done(format!("{relation} was rewritten in {took}: {sizes}.")),
        Some(warning) => Outcome::partial(format!("{relation} was rewritten ({sizes}), but: {warning}.")),
    };
    outcome.facts = json!({ "before": before, "after": after });
    outcome
}
