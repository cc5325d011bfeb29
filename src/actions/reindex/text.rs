//! The answer of `reindex`: the verdict, the sizes, each index's outcome, and the leftovers.

use super::invalid_indexes::{self, DropResult, Leftovers};
use crate::actions::Outcome;
use crate::actions::support::maintenance::{Nouns, TableResult, done, results_block, summarize};
use crate::actions::support::relations::PlannedRelation;
use crate::model::{Block, EventKind};
use crate::sql::bytes;
use serde_json::json;
use std::time::Duration;

/// Builds the outcome, with the leftovers found before and those found after.
pub(super) fn outcome(
    targets: &[PlannedRelation],
    results: &[TableResult],
    took: Duration,
    mut before: Leftovers,
    after: Result<Leftovers, String>,
) -> Outcome {
    let all = targets.len();
    let nouns = Nouns { one: "index", many: "indexes", done: "rebuilt" };
    let (mut kind, mut verdict) = summarize(results, all, &nouns, took);
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
