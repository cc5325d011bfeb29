//! The texts of `purge`: the plan, a refusal, and the outcome. None promises free disk space, since a purge frees none.

use super::batch::{BatchError, PurgeSpec};
use super::execute::{PurgeProgress, StopReason};
use crate::actions::Outcome;
use crate::actions::support::database::DatabaseTarget;
use crate::error::Error;
use crate::model::{Block, EventKind, Plan, Run, RunId};
use crate::postgres::QueryError;
use crate::sql::{bytes, duration, fill, grouped};
use serde_json::json;
use std::time::Duration;
use tokio_postgres::Row;

fn rows(number: i64) -> String {
    if number == 1 { "1 row".to_owned() } else { format!("{} rows", grouped(number)) }
}

/// The plan, by the table's facts and the counts of its old rows.
pub(super) fn describe(
    database: &DatabaseTarget,
    spec: &PurgeSpec,
    facts: &Row,
    counts: &Row,
    continues: Option<RunId>,
) -> Plan {
    let PurgeSpec { relation, column, cutoff, kind, .. } = spec;
    let begin = continues.map_or("Deletes".to_owned(), |run| format!("Continues #{run}: deletes"));
    let mut plan = Plan::of(format!(
        "{begin} {} of {relation} of {} in {}: those with {column} before {cutoff}{}.",
        rows(spec.rows),
        database.database,
        database.address.environment,
        kind.zone()
    ));
    plan.set_target(spec);
    database.write_to(&mut plan);
    if let Some(run) = continues {
        plan.identity.insert("continues".to_owned(), run.to_string());
    }
    plan.add_guard("rows", format!("at most {} are deleted in total", rows(spec.max_rows())));
    plan.add_guard("table", "the table and its column are still the same");
    let method = match &spec.key {
        Some(key) => format!("in the order of {}, in batches of up to 10,000 rows, each in a transaction of its own", key.name),
        None => "in batches of up to 10,000 rows in no order (no numeric or uuid primary key), each in a transaction of its own".to_owned(),
    };
    for name in ["oldest", "newest"] {
        plan.add_context(name, counts.get::<_, Option<String>>(name).unwrap_or_default());
    }
    plan.add_context("size", format!("{} with its indexes", bytes(counts.get::<_, i64>("bytes") as f64)));
    plan.add_context(
        "disk",
        "none is freed, only space inside the table for new rows; the WAL takes disk space first, and PostgreSQL can't show how full the disk is: \
         only a server that turns read-only ends the purge",
    );
    plan.add_context("method", method);
    plan.impact = "Everyone who still needs these rows.".to_owned();
    let (referred, triggers): (Vec<String>, Vec<String>) = (facts.get("referred"), facts.get("triggers"));
    if !referred.is_empty() {
        plan.impact += &format!(" Referred to by {}.", referred.join("; "));
    }
    if !triggers.is_empty() {
        plan.impact += &format!(" Triggers that run on DELETE: {}.", triggers.join(", "));
    }
    plan.rollback =
        "Only a backup brings the rows back. After a stop, the rows deleted so far stay deleted.".to_owned();
    plan
}

pub(super) fn count_error(error: &QueryError, spec: &PurgeSpec, indexed: bool) -> Error {
    let PurgeSpec { relation, column, .. } = spec;
    if !error.is_cancelled() && !matches!(error, QueryError::TimedOut(_)) {
        return Error::user(format!("The rows of {relation} can't be counted: {error}."));
    }
    let problem = format!("Counting the old rows of {relation} takes longer than statement_timeout");
    let instead = if indexed {
        "Ask for fewer rows first: a longer `--older-than`, then a shorter one.".to_owned()
    } else {
        let create = format!("CREATE INDEX CONCURRENTLY ON {relation} ({column})");
        format!("No index begins with {column}: `{create}`, then ask again.")
    };
    Error::instead(format!("{problem}, so no request was made."), instead)
}

pub(super) fn nothing_to_do(spec: &PurgeSpec, continues: Option<RunId>) -> Error {
    let PurgeSpec { relation, column, cutoff, kind, .. } = spec;
    if let Some(run) = continues {
        return Error::user(format!("Run #{run} has no rows left to delete in {relation}."));
    }
    let problem = format!("no row of {relation} has {column} before {cutoff}{}", kind.zone());
    Error::user(format!("There is nothing to delete: {problem}."))
}

const RESUME: &str =
    "To resume: `purge {service} {table} --continue {run}`; another person has to approve it.";
const NEXT: &str = "No disk space is freed: the table keeps its size, and new rows reuse the space. Next: `vacuum {service} {table}`.";

/// Fills in a note with the run's number and arguments.
fn note(text: &str, run: &Run) -> Block {
    Block::Note(fill(text, &|name| match name {
        "run" => Some(run.id.to_string()),
        argument => run.request.arguments.get(argument).cloned(),
    }))
}

/// "At least 140,000 rows of 300,048 were deleted"
fn deleted(progress: &PurgeProgress, spec: &PurgeSpec) -> String {
    let least = if progress.at_least { "At least " } else { "" };
    format!("{least}{} of {} were deleted", rows(progress.deleted), grouped(spec.rows))
}

fn facts(progress: &PurgeProgress, spec: &PurgeSpec) -> serde_json::Value {
    let mut facts = json!(progress);
    facts["shown"] = spec.rows.into();
    facts
}

/// The outcome of a purge that could not lock the table.
pub(super) fn outcome_without_lock(
    error: &str,
    run: &Run,
    spec: &PurgeSpec,
    progress: &PurgeProgress,
) -> Outcome {
    let mut outcome = Outcome::failed(error);
    if !progress.is_untouched() {
        outcome = Outcome::partial(format!("{error} {} so far.", deleted(progress, spec)));
        outcome.blocks.push(note(RESUME, run));
    }
    outcome.facts = facts(progress, spec);
    outcome
}

pub(super) fn outcome(
    run: &Run,
    spec: &PurgeSpec,
    reason: StopReason,
    progress: &PurgeProgress,
    took: Duration,
) -> Outcome {
    let finished = matches!(reason, StopReason::Finished);
    let (kind, reason) = explain(reason, progress, spec);
    let took = duration(took.as_secs_f64());
    let batches = match progress.batches {
        1 => "1 batch".to_owned(),
        more => format!("{} batches", grouped(more)),
    };
    let summary = format!("{}, in {batches} and {took}.", deleted(progress, spec));
    let verdict = match kind {
        EventKind::Invalidated => format!("{reason} Nothing was done."),
        EventKind::Failed => format!("{reason} No row was deleted."),
        _ if finished => summary,
        _ => format!("{reason} {summary}"),
    };
    let mut outcome = Outcome::new(kind, verdict);
    outcome.facts = facts(progress, spec);
    if !finished && kind != EventKind::Invalidated {
        outcome.blocks.push(note(RESUME, run));
    }
    if finished && progress.deleted < spec.rows && !progress.at_least {
        let fewer = "The other rows were deleted before, or a trigger or another session's change kept them.";
        outcome.blocks.push(Block::Note(fewer.into()));
    }
    if progress.at_least {
        let more = "Countersign was interrupted: a batch may be done that was not recorded, so more rows may be deleted than this number.";
        outcome.blocks.push(Block::Note(more.into()));
    }
    if !progress.is_untouched() {
        outcome.blocks.push(note(NEXT, run));
    }
    outcome
}

/// The outcome of a purge that is stopped while no process works on it: it is noted now and then, so a batch may be done that
/// no checkpoint covers.
pub(super) fn abandoned_outcome(run: &Run, spec: &PurgeSpec, progress: &PurgeProgress) -> Outcome {
    let verdict = format!("Stopped while it was interrupted. {}; more rows may be.", deleted(progress, spec));
    let mut outcome = Outcome::new(EventKind::Stopped, verdict);
    outcome.facts = facts(progress, spec);
    outcome.blocks = vec![note(RESUME, run), note(NEXT, run)];
    outcome
}

fn explain(reason: StopReason, progress: &PurgeProgress, spec: &PurgeSpec) -> (EventKind, String) {
    let relation = &spec.relation;
    let invalidated = if progress.is_untouched() { EventKind::Invalidated } else { EventKind::Stopped };
    let failed = if progress.is_untouched() { EventKind::Failed } else { EventKind::Partial };
    let error = match reason {
        StopReason::Finished => return (EventKind::Succeeded, String::new()),
        StopReason::Requested => return (EventKind::Stopped, "Stopped, as asked.".to_owned()),
        StopReason::Replicas(clause) => return (EventKind::Stopped, format!("Stopped, since {clause}.")),
        StopReason::RowsKept => {
            let kept = format!("Deleted rows of {relation} are still there: a trigger or a rule keeps them.");
            return (failed, kept);
        }
        StopReason::Failed(error) => error,
    };
    match error {
        BatchError::TooManyRows => {
            let shown = format!("{}, and a fifth more at most", rows(spec.rows));
            (invalidated, format!("More rows are that old than the card showed: {shown}."))
        }
        BatchError::Changed(what) => {
            (invalidated, format!("{relation} is no longer what the card showed: its {what} is another."))
        }
        BatchError::ReadOnly => (failed, "The server is read-only now.".to_owned()),
        BatchError::TooSlow => {
            (failed, "Even a batch of 100 rows takes longer than statement_timeout.".to_owned())
        }
        BatchError::Busy(error) => (failed, format!("Another session blocked it repeatedly: {error}.")),
        BatchError::Rejected(error) => (failed, format!("PostgreSQL refused: {error}.")),
        BatchError::Lost(error, _) => (failed, format!("The server {error}.")),
    }
}
