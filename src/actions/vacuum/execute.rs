//! The execution of `vacuum` and `analyze`, a table at a time, and its answer: the verdict, the dead rows, and each table's outcome.

use super::plan::LEFT_OUT;
use super::{EVIDENCE, Operation, horizon_holder};
use crate::actions::support::blocks::note;
use crate::actions::support::maintenance::{
    MaintenanceSession, Nouns, POLL_INTERVAL, TableOutcome, TableResult, VISIBLE_WITHIN, done, results_block,
    summarize,
};
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::model::Block;
use crate::sql::{fill, grouped};
use serde_json::json;
use std::time::{Duration, Instant};

/// Since this version PostgreSQL publishes the times of a statement at once; before, half a second later.
const PUBLISHES_AT_ONCE: u32 = 15;
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);

/// Works on the plan's tables, one after another.
pub(super) async fn execute(execution: &Execution<'_>, operation: Operation) -> Result<Outcome, Outcome> {
    let session = MaintenanceSession::begin(execution, "table").await?;
    let began = Instant::now();
    let mut results: Vec<TableResult> = Vec::new();
    for (index, target) in session.targets.iter().enumerate() {
        if execution.stop.is_cancelled() || results.last().is_some_and(|last| last.outcome.ends_run()) {
            break;
        }
        let step = TableStep { session: &session, operation, target };
        let outcome = session.with_progress(index, step.execute()).await;
        results.push(TableResult { relation: target.relation.clone(), before: target.dead, outcome });
    }
    let took = began.elapsed();
    let has_dead = |result: &TableResult| matches!(result.outcome, TableOutcome::Done { left } if left > 0);
    let holder = match &session.observer {
        Some(observer) if results.iter().any(has_dead) => horizon_holder(observer, |_| true).await,
        _ => None,
    };
    Ok(outcome(&session, operation, &results, took, holder))
}

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
        let at_once = self.session.worker.major() >= PUBLISHES_AT_ONCE;
        let deadline = Instant::now() + if at_once { Duration::ZERO } else { PUBLISHED_WITHIN };
        loop {
            let rows = self.session.query(EVIDENCE, &[&self.target.oid, &since]).await.unwrap_or_default();
            let vacuumed =
                rows.first().is_some_and(|row| row.get::<_, Option<bool>>("vacuumed") == Some(true));
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

/// Builds the outcome. `holder` is what kept dead rows from being removed.
fn outcome(
    session: &MaintenanceSession<'_>,
    operation: Operation,
    results: &[TableResult],
    took: Duration,
    holder: Option<String>,
) -> Outcome {
    let targets = &session.targets;
    let nouns = Nouns { one: "table", many: "tables", done: operation.participle() };
    let (kind, mut verdict) = summarize(results, targets.len(), &nouns, took);
    let left_out = session.execution.plan.context.iter().find(|(name, _)| name == LEFT_OUT);
    if let Some((_, names)) = left_out {
        verdict.push_str(&format!(" Left out, since others own them: {names}."));
    }
    let done = done(results);
    let mut outcome = Outcome::new(kind, verdict);
    outcome.facts = json!({ "tables": targets.len(), "done": done.len() });
    if operation == Operation::Vacuum && !done.is_empty() {
        let before: i64 = done.iter().map(|(result, _)| result.before).sum();
        let after: i64 = done.iter().map(|(_, dead)| dead).sum();
        let (before, after) = (grouped(before), grouped(after));
        let dead = format!("Dead rows, estimated by PostgreSQL: {before} before, {after} now.");
        outcome.blocks.push(Block::Note(dead.into()));
        if let Some(holder) = holder {
            let text =
                "The remaining dead rows are newer than {who}: `autovacuum` shows what holds VACUUM back.";
            outcome.blocks.push(Block::Note(fill(text, &|_| Some(holder.clone()))));
        }
    }
    let is_stopped = |result: &TableResult| matches!(result.outcome, TableOutcome::Stopped);
    if operation == Operation::Vacuum && results.iter().any(is_stopped) {
        outcome.blocks.push(note("Dead rows removed before the stop stay removed; no cleanup is needed."));
    }
    if left_out.is_some() {
        outcome.blocks.push(note(
            "To include them, configure a login `maintain` whose role is a member of their owners, or from PostgreSQL 17 on of pg_maintain.",
        ));
    }
    outcome.blocks.extend(results_block(results, targets, "table"));
    outcome
}
