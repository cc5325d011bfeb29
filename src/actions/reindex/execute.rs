//! The execution of `reindex`: the locks, an index at a time, and the leftovers before and after; and its answer.

use super::invalid_indexes::{self, DropResult, Leftovers};
use super::{NOUNS, REBUILT, rebuild_timeout, table_names, table_oids};
use crate::actions::support::maintenance::{
    MaintenanceSession, TableOutcome, TableResult, done, results_block, summarize,
};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::model::{Block, EventKind};
use crate::postgres::QueryError;
use crate::sql::bytes;
use serde_json::json;
use std::time::{Duration, Instant};

/// Rebuilds the plan's indexes, one after another.
pub(super) async fn execute(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let session = MaintenanceSession::begin(execution, "index").await?;
    let before = prepare(&session).await?;
    let began = Instant::now();
    let mut results: Vec<TableResult> = Vec::new();
    for (index, target) in session.targets.iter().enumerate() {
        if execution.stop.is_cancelled() || results.last().is_some_and(|last| last.outcome.ends_run()) {
            break;
        }
        let outcome = session.with_progress(index, rebuild(&session, target)).await;
        results.push(TableResult { relation: target.relation.clone(), before: target.bytes, outcome });
    }
    let took = began.elapsed();
    let after = drop_own_leftovers(&session).await;
    Ok(outcome(&session.targets, &results, took, before, after))
}

/// Locks every table that it works on, or does nothing; and drops the leftovers of an earlier rebuild.
async fn prepare(session: &MaintenanceSession<'_>) -> Result<Leftovers, Outcome> {
    let failed = |error: QueryError| session.database.failed(error);
    for table in table_names(&session.targets) {
        if !session.try_lock(table).await.map_err(failed)? {
            let text = format!("Another Countersign instance holds the lock on {table}.");
            return Err(Outcome::failed(text));
        }
    }
    let tables = table_oids(&session.targets);
    let before = invalid_indexes::drop_all(&session.worker, &tables).await.map_err(failed)?;
    set_lock_timeout(session, rebuild_timeout(lock_timeout(session))).await.map_err(failed)?;
    Ok(before)
}

fn lock_timeout(session: &MaintenanceSession<'_>) -> Duration {
    let environments = &session.execution.app.environments;
    let environment = environments.environment(&session.database.address.environment);
    environment.map_or(Duration::from_secs(1), |environment| environment.lock_timeout)
}

async fn set_lock_timeout(session: &MaintenanceSession<'_>, timeout: Duration) -> Result<(), QueryError> {
    let timeout = timeout.as_millis().to_string();
    session.query("SELECT set_config('lock_timeout', $1, false)", &[&timeout]).await.map(drop)
}

async fn rebuild(session: &MaintenanceSession<'_>, target: &PlannedRelation) -> TableOutcome {
    let PlannedRelation { relation, oid, .. } = target;
    match session.query(REBUILT, &[relation, oid]).await {
        Ok(rows) if rows.first().is_some_and(|row| row.get("same")) => {}
        Ok(_) => return TableOutcome::Replaced,
        Err(error) => return TableOutcome::Rejected(error),
    }
    let outcome = match session.execute(&format!("REINDEX INDEX CONCURRENTLY {relation}")).await {
        Ok(warnings) => warnings.into_iter().next().map_or(TableOutcome::NoTrace, TableOutcome::Skipped),
        Err(error) if session.is_stopped(&error) => TableOutcome::Stopped,
        Err(error) if error.is_final() => TableOutcome::Rejected(error),
        Err(error) if session.has_ended().await => TableOutcome::SessionLost(error),
        Err(error) => return TableOutcome::Unknown(error),
    };
    // Whatever ended it: the new index may have replaced the old one by then.
    let rows = if let TableOutcome::SessionLost(_) = &outcome {
        session.query_again(REBUILT, &[relation, oid]).await
    } else {
        session.query(REBUILT, &[relation, oid]).await
    };
    match (rows, outcome) {
        (Ok(rows), outcome) => match rows.first().filter(|row| row.get("rebuilt")) {
            Some(row) => TableOutcome::Done { left: row.get::<_, Option<i64>>("bytes").unwrap_or_default() },
            None => outcome,
        },
        (Err(_), TableOutcome::SessionLost(error)) | (Err(error), _) => TableOutcome::Unknown(error),
    }
}

/// Drops the leftovers of this rebuild, over a new connection if its own is lost.
async fn drop_own_leftovers(session: &MaintenanceSession<'_>) -> Result<Leftovers, String> {
    let tables = table_oids(&session.targets);
    // A session that kept the rebuild waiting too long would keep the DROP waiting as long.
    let dropped = match set_lock_timeout(session, lock_timeout(session)).await {
        Ok(()) => invalid_indexes::drop_all(&session.worker, &tables).await,
        Err(error) => Err(error),
    };
    let dropped = match dropped {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => {
            let worker = session.database.dedicated_session(session.execution).await?;
            invalid_indexes::drop_all(&worker, &tables).await
        }
        dropped => dropped,
    };
    dropped.map_err(|error| error.to_string())
}

/// Builds the outcome, with the leftovers found before and those found after.
fn outcome(
    targets: &[PlannedRelation],
    results: &[TableResult],
    took: Duration,
    mut before: Leftovers,
    after: Result<Leftovers, String>,
) -> Outcome {
    let all = targets.len();
    let (mut kind, mut verdict) = summarize(results, all, &NOUNS, took);
    let may_remain = match &after {
        Ok(after) => after.iter().any(|(_, result)| !matches!(result, DropResult::Dropped)),
        Err(_) => true,
    };
    if kind == EventKind::Succeeded && may_remain {
        kind = EventKind::Partial;
        verdict.push_str(" A leftover of an interrupted rebuild remains: see below.");
    }
    let mut outcome = Outcome::new(kind, verdict);
    let done = done(results);
    outcome.facts = json!({ "indexes": all, "done": done.len() });
    if !done.is_empty() {
        let size_before: i64 = done.iter().map(|(result, _)| result.before).sum();
        let size_after: i64 = done.iter().map(|(_, left)| left).sum();
        let sizes = format!("Size: {} before, {} now.", bytes(size_before as f64), bytes(size_after as f64));
        outcome.blocks.push(Block::Note(sizes.into()));
        outcome.facts =
            json!({ "indexes": all, "done": done.len(), "before": size_before, "after": size_after });
    }
    outcome.blocks.extend(results_block(results, targets, "index"));
    // A leftover that remained is found again afterwards.
    before.retain(|(_, result)| matches!(result, DropResult::Dropped));
    outcome.blocks.extend(invalid_indexes::block("an earlier rebuild", &before));
    match after {
        Ok(after) => {
            outcome.blocks.extend(invalid_indexes::block("an interrupted rebuild", &after));
            outcome.blocks.extend(invalid_indexes::remedy(&after).map(|text| Block::Note(text.into())));
        }
        Err(error) => {
            let text = format!(
                "Can't tell whether it left an invalid index: {error}. `indexes` shows invalid indexes."
            );
            outcome.blocks.push(Block::Note(text.into()));
        }
    }
    outcome
}
