//! The answer of `vacuum` and `analyze`: the verdict, the dead rows, and each table's outcome.

use super::Operation;
use super::plan::LEFT_OUT;
use crate::actions::Outcome;
use crate::actions::support::maintenance::{
    Nouns, TableOutcome, TableResult, done, results_block, summarize,
};
use crate::actions::support::relations::PlannedRelation;
use crate::model::{Block, Plan};
use crate::sql::{fill, grouped};
use serde_json::json;
use std::time::Duration;

/// Builds the outcome. `holder` is what kept dead rows from being removed.
pub(super) fn outcome(
    operation: Operation,
    plan: &Plan,
    targets: &[PlannedRelation],
    results: &[TableResult],
    took: Duration,
    holder: Option<String>,
) -> Outcome {
    let nouns = Nouns { one: "table", many: "tables", done: operation.participle() };
    let (kind, mut verdict) = summarize(results, targets.len(), &nouns, took);
    let left_out = plan.context.iter().find(|(name, _)| name == LEFT_OUT);
    if let Some((_, names)) = left_out {
        verdict.push_str(&format!(" Left out, since others own them: {names}."));
    }
    let done = done(results);
    let mut outcome = Outcome::new(kind, verdict);
    outcome.facts = json!({ "tables": targets.len(), "done": done.len() });
    if operation == Operation::Vacuum {
        if !done.is_empty() {
            let before: i64 = done.iter().map(|(result, _)| result.before).sum();
            let after: i64 = done.iter().map(|(_, dead)| dead).sum();
            let dead = format!(
                "Dead rows, estimated by PostgreSQL: {} before, {} now.",
                grouped(before),
                grouped(after)
            );
            outcome.blocks.push(Block::Note(dead.into()));
            if let Some(holder) = holder {
                let text = "The remaining dead rows are newer than {who}: `autovacuum` shows what holds VACUUM back.";
                outcome.blocks.push(Block::Note(fill(text, &|_| Some(holder.clone()))));
            }
        }
        if results.iter().any(|result| matches!(result.outcome, TableOutcome::Stopped)) {
            let text = "Dead rows removed before the stop stay removed; no cleanup is needed.";
            outcome.blocks.push(Block::Note(text.into()));
        }
    }
    if left_out.is_some() {
        let text = "To include them, configure a login `maintain` whose role is a member of their owners, or from PostgreSQL 17 on of pg_maintain.";
        outcome.blocks.push(Block::Note(fill(text, &|_| None)));
    }
    outcome.blocks.extend(results_block(results, targets, "table"));
    outcome
}
