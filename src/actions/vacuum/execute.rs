//! The execution of `vacuum` and `analyze`, a table at a time.

use super::{EVIDENCE, Operation, horizon_holder, text};
use crate::actions::support::maintenance::{
    CurrentTarget, MaintenanceSession, POLL_INTERVAL, TableOutcome, TableResult, VISIBLE_WITHIN,
};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use std::time::{Duration, Instant};

/// Since this version PostgreSQL publishes the times of a statement at once; before, half a second later.
const PUBLISHES_AT_ONCE: u32 = 15;
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);

/// Works on the plan's tables, one after another.
pub async fn execute(execution: &Execution<'_>, operation: Operation) -> Outcome {
    let session = match MaintenanceSession::begin(execution).await {
        Ok(session) => session,
        Err(outcome) => return outcome,
    };
    let targets = PlannedRelation::all(execution);
    let began = Instant::now();
    let mut results: Vec<TableResult> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        if execution.stop.is_cancelled() || results.last().is_some_and(|last| last.outcome.ends_run()) {
            break;
        }
        let step = TableStep { session: &session, operation, target };
        let position = CurrentTarget { targets: &targets, index, noun: "table" };
        let outcome = session.with_progress(position, step.execute()).await;
        results.push(TableResult { relation: target.relation.clone(), before: target.dead, outcome });
    }
    let took = began.elapsed();
    let has_dead = |result: &TableResult| matches!(result.outcome, TableOutcome::Done { left } if left > 0);
    let holder = match &session.watcher {
        Some(watcher) if results.iter().any(has_dead) => horizon_holder(watcher, |_| true).await,
        _ => None,
    };
    text::outcome(operation, execution.plan, &targets, &results, took, holder)
}

/// The work on one table.
struct TableStep<'a> {
    session: &'a MaintenanceSession<'a>,
    operation: Operation,
    target: &'a PlannedRelation,
}

impl TableStep<'_> {
    async fn execute(&self) -> TableOutcome {
        let PlannedRelation { relation, oid, .. } = self.target;
        match self.session.try_lock(relation).await {
            Ok(true) => {}
            Ok(false) => return TableOutcome::Locked,
            Err(error) => return TableOutcome::Rejected(error),
        }
        let sql = "SELECT to_regclass($1)::oid::int8 IS NOT DISTINCT FROM $2, clock_timestamp()::text";
        let rows = match self.session.query(sql, &[relation, oid]).await {
            Ok(rows) => rows,
            Err(error) => return TableOutcome::Rejected(error),
        };
        let Some(row) = rows.first() else { return TableOutcome::NoTrace };
        let (is_same, since): (bool, String) = (row.get(0), row.get(1));
        if !is_same {
            return TableOutcome::Replaced;
        }
        let (outcome, reason) = match self.session.execute(&self.operation.statement(relation)).await {
            Ok(warnings) => match warnings.into_iter().next() {
                Some(warning) => {
                    let reason = format!("PostgreSQL skipped it: {warning}");
                    (TableOutcome::Skipped(warning), Some(reason))
                }
                None => return self.await_evidence(&since).await,
            },
            Err(error) if self.session.is_stopped(&error) => (TableOutcome::Stopped, None),
            Err(error) if error.is_final() => {
                let reason = format!("PostgreSQL refused: {error}");
                (TableOutcome::Rejected(error), Some(reason))
            }
            Err(error) => return TableOutcome::Unknown(error),
        };
        // VACUUM commits before the ANALYZE behind it begins.
        if self.operation == Operation::Vacuum && self.is_vacuumed(&since).await {
            TableOutcome::OnlyVacuumed(reason)
        } else {
            outcome
        }
    }

    async fn is_vacuumed(&self, since: &str) -> bool {
        let at_once = self.session.worker.lease().major() >= PUBLISHES_AT_ONCE;
        let deadline = Instant::now() + if at_once { Duration::ZERO } else { PUBLISHED_WITHIN };
        loop {
            let rows = self.session.query(EVIDENCE, &[&self.target.oid, &since]).await.unwrap_or_default();
            let vacuumed =
                rows.first().and_then(|row| row.get::<_, Option<bool>>("vacuumed")).unwrap_or(false);
            if vacuumed || Instant::now() >= deadline {
                return vacuumed;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until PostgreSQL's own times prove that it happened.
    async fn await_evidence(&self, since: &str) -> TableOutcome {
        let deadline = Instant::now() + VISIBLE_WITHIN;
        loop {
            let rows = match self.session.query(EVIDENCE, &[&self.target.oid, &since]).await {
                Ok(rows) => rows,
                Err(error) => return TableOutcome::Unknown(error),
            };
            let Some(row) = rows.first() else { return TableOutcome::Replaced };
            if self.operation.is_done(row) {
                return TableOutcome::Done { left: row.get("dead") };
            }
            if Instant::now() >= deadline {
                return TableOutcome::NoTrace;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
