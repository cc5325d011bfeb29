//! The execution of `reindex`: the locks, an index at a time, and the leftovers before and after.

use super::invalid_indexes::{self, Leftovers};
use super::{REBUILT, rebuild_timeout, table_oids, text};
use crate::actions::support::maintenance::{CurrentTarget, MaintenanceSession, TableOutcome, TableResult};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::postgres::QueryError;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Rebuilds the plan's indexes, one after another.
pub(super) async fn execute(execution: &Execution<'_>) -> Outcome {
    let session = match MaintenanceSession::begin(execution).await {
        Ok(session) => session,
        Err(outcome) => return outcome,
    };
    let targets = PlannedRelation::all(execution);
    let before = match prepare(&session, &targets).await {
        Ok(before) => before,
        Err(outcome) => return *outcome,
    };
    let began = Instant::now();
    let mut results: Vec<TableResult> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        if execution.stop.is_cancelled() || results.last().is_some_and(|last| last.outcome.ends_run()) {
            break;
        }
        let position = CurrentTarget { targets: &targets, index, noun: "index" };
        let outcome = session.with_progress(position, rebuild(&session, target)).await;
        results.push(TableResult { relation: target.relation.clone(), before: target.bytes, outcome });
    }
    let took = began.elapsed();
    let after = drop_own_leftovers(&session, &table_oids(&targets)).await;
    text::outcome(&targets, &results, took, before, after)
}

/// Locks every table that it works on, or does nothing; and drops the leftovers of an earlier rebuild.
async fn prepare(
    session: &MaintenanceSession<'_>,
    targets: &[PlannedRelation],
) -> Result<Leftovers, Box<Outcome>> {
    let failed = |error: QueryError| Box::new(session.database.failed(error));
    let tables: BTreeSet<&str> = targets.iter().map(|target| target.table.as_str()).collect();
    for table in tables {
        if !session.try_lock(table).await.map_err(failed)? {
            let text = format!("Another Countersign instance holds the lock on {table}.");
            return Err(Box::new(Outcome::failed(text)));
        }
    }
    let before = invalid_indexes::drop_all(&session.worker, &table_oids(targets)).await.map_err(failed)?;
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

/// Rebuilds one index.
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
    let rows = match &outcome {
        TableOutcome::SessionLost(_) => match session.database.dedicated_session(session.execution).await {
            Ok(worker) => worker.ask(REBUILT, &[relation, oid]).await,
            Err(_) => Err(QueryError::Lost),
        },
        _ => session.query(REBUILT, &[relation, oid]).await,
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
async fn drop_own_leftovers(session: &MaintenanceSession<'_>, tables: &[i64]) -> Result<Leftovers, String> {
    // A session that kept the rebuild waiting too long would keep the DROP waiting as long.
    let dropped = match set_lock_timeout(session, lock_timeout(session)).await {
        Ok(()) => invalid_indexes::drop_all(&session.worker, tables).await,
        Err(error) => Err(error),
    };
    let dropped = match dropped {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => {
            let worker = session.database.dedicated_session(session.execution).await?;
            invalid_indexes::drop_all(&worker, tables).await
        }
        dropped => dropped,
    };
    dropped.map_err(|error| error.to_string())
}
