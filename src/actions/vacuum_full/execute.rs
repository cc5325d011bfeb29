//! The execution of `vacuum-full`: the check, the statement, and the proof that the table has another file.

use super::{MEASURE, TableSize};
use crate::actions::support::maintenance::{MaintenanceSession, is_lock_timeout};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::support::tolerance::max_change;
use crate::actions::{Execution, Outcome};
use crate::model::{Block, EventKind};
use crate::postgres::QueryError;
use crate::sql::{bytes, duration};
use serde_json::json;
use std::time::Instant;

/// Rewrites the plan's table.
pub(super) async fn execute(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let session = MaintenanceSession::begin(execution, "table").await?;
    let target = session.targets.first().ok_or_else(|| session.database.failed("has no such table"))?;
    let began = Instant::now();
    let before = check(&session, target).await?;
    let statement = format!("VACUUM (FULL) {}", target.relation);
    let result = session.with_progress(0, session.execute(&statement)).await;
    let took = duration(began.elapsed().as_secs_f64());
    conclude(&session, target, &before, result, &took).await
}

/// Tests identity and guard, in the statement before the one that acts and on its connection. VACUUM takes no condition and runs in
/// no transaction, and it would wait for a lock that another connection held meanwhile: PostgreSQL allows no closer test. A table
/// that takes the name in between is found by the file of this one, which has not changed then.
async fn check(session: &MaintenanceSession<'_>, target: &PlannedRelation) -> Result<TableSize, Outcome> {
    let relation = &target.relation;
    let failed = |error: QueryError| not_done(session, relation, &error);
    if !session.try_lock(relation).await.map_err(failed)? {
        let text = format!("Another Countersign instance holds the lock on {relation}.");
        return Err(Outcome::failed(text));
    }
    let rows = session.query(MEASURE, &[&target.oid, relation]).await.map_err(failed)?;
    let gone = || Outcome::invalidated(format!("{relation} is gone, or another table has its name now."));
    let size = TableSize::from_rows(&rows).filter(|size| size.is_same).ok_or_else(gone)?;
    if size.filenode != Some(target.file) {
        return Err(Outcome::invalidated(format!("{relation} was rewritten since the card was made.")));
    }
    let now = size.bytes.ok_or_else(gone)?;
    let most = max_change(target.bytes);
    if now > most {
        let [now, shown, most] = [now, target.bytes, most].map(|size| bytes(size as f64));
        return Err(Outcome::invalidated(format!(
            "{relation} is {now} now; the card showed {shown}, and at most {most} may be rewritten."
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

async fn conclude(
    session: &MaintenanceSession<'_>,
    target: &PlannedRelation,
    before: &TableSize,
    result: Result<Vec<String>, QueryError>,
    took: &str,
) -> Result<Outcome, Outcome> {
    let relation = &target.relation;
    let unknown = |error: QueryError| {
        let database = &session.database.database;
        Outcome::unknown(format!("Can't tell whether {relation} was rewritten: {database} {error}."))
    };
    let warning = match result {
        Ok(warnings) => warnings.into_iter().next(),
        Err(error) if error.is_final() => return Err(not_done(session, relation, &error)),
        Err(error) if !session.has_ended().await => return Err(unknown(error)),
        Err(error) => Some(format!("the server {error}")),
    };
    let rows = match session.query(MEASURE, &[&target.oid, relation]).await {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => {
            session.query_again(MEASURE, &[&target.oid, relation]).await
        }
        answer => answer,
    };
    let after = TableSize::from_rows(&rows.map_err(unknown)?);
    let is_rewritten = |after: &TableSize| after.filenode != before.filenode && after.filenode.is_some();
    let Some(after) = after.filter(is_rewritten) else {
        let reason =
            warning.unwrap_or_else(|| "PostgreSQL reported no warning, but its file is the same".to_owned());
        return Err(Outcome::new(EventKind::Failed, format!("{relation} was not rewritten: {reason}.")));
    };
    let (before, after) = (before.bytes.unwrap_or_default(), after.bytes.unwrap_or_default());
    let sizes = format!("{} before, {} now", bytes(before as f64), bytes(after as f64));
    let outcome = match warning {
        None => Outcome::done(format!("{relation} was rewritten in {took}: {sizes}.")),
        Some(warning) => Outcome::partial(format!("{relation} was rewritten ({sizes}), but: {warning}.")),
    };
    Ok(Outcome { facts: json!({ "before": before, "after": after }), ..outcome })
}
