//! The texts of `purge`: the plan, a refusal, and the outcome. None promises free disk space, since a purge frees none.

use super::batch::{BatchError, PurgeSpec};
use super::execute::{EndReason, PurgeProgress};
use crate::actions::support::maintenance::{is_lock_timeout, locked_error};
use crate::actions::support::{database::DatabaseTarget, row_count_text};
use crate::actions::{Outcome, RunLost};
use crate::error::Error;
use crate::model::{Block, EventKind, Plan, Run, RunId};
use crate::postgres::{PgRow, QueryError};
use crate::sql::{bytes, duration, fill, grouped};
use serde_json::json;
use std::time::Duration;

/// The plan, by the table's facts and the counts of its old rows.
pub(super) fn describe(
    database: &DatabaseTarget,
    spec: &PurgeSpec,
    facts: &PgRow,
    counts: &PgRow,
    continued_run: Option<RunId>,
) -> Plan {
    let PurgeSpec { relation, column, cutoff, time_type, .. } = spec;
    let opening = continued_run.map_or("Deletes".to_owned(), |run| format!("Continues #{run}: deletes"));
    let mut plan = Plan::of(format!(
        "{opening} {} of {relation} of {} in {}: those with {column} before {cutoff}{}.",
        row_count_text(spec.shown_rows),
        database.database,
        database.address.environment,
        time_type.zone_note()
    ));
    plan.set_target(spec);
    database.write_to(&mut plan);
    if let Some(run) = continued_run {
        plan.identity.insert("continues".to_owned(), run.to_string());
    }
    plan.add_guard("rows", format!("at most {} are deleted in total", row_count_text(spec.max_rows())));
    plan.add_guard("table", "the table and its column are still the same");
    let method = match &spec.key {
        Some(key) => format!("in the order of {}, in batches of up to 10,000 rows, each in a transaction of its own", key.name),
        None => "in batches of up to 10,000 rows in no order (no numeric or uuid primary key), each in a transaction of its own".to_owned(),
    };
    for name in ["oldest", "newest"] {
        plan.add_context(name, counts.value::<String>(name).unwrap_or_default());
    }
    plan.add_context(
        "size",
        format!("{} with its indexes", bytes(counts.value::<i64>("bytes").unwrap_or_default() as f64)),
    );
    plan.add_context(
        "disk",
        "none is freed, only space inside the table for new rows; the WAL takes disk space first, and PostgreSQL can't show how full the disk is: \
         only a server that turns read-only ends the purge",
    );
    plan.add_context("method", method);
    plan.impact = "Everyone who still needs these rows.".to_owned();
    let names = |column: &str| facts.value::<Vec<String>>(column).unwrap_or_default();
    let (references, triggers) = (names("referred"), names("triggers"));
    if !references.is_empty() {
        plan.impact += &format!(" Referred to by {}.", references.join("; "));
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
    if is_lock_timeout(error) {
        return locked_error(relation, "its rows can't be counted");
    }
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

pub(super) fn nothing_to_do(spec: &PurgeSpec, continued_run: Option<RunId>) -> Error {
    let PurgeSpec { relation, column, cutoff, time_type, .. } = spec;
    if let Some(run) = continued_run {
        return Error::user(format!("Run #{run} has no rows left to delete in {relation}."));
    }
    let problem = format!("no row of {relation} has {column} before {cutoff}{}", time_type.zone_note());
    Error::user(format!("There is nothing to delete: {problem}."))
}

const RESUME_NOTE: &str =
    "To resume: `purge {service} {table} --continue {run}`; another person has to approve it.";
const VACUUM_NOTE: &str = "No disk space is freed: the table keeps its size, and new rows reuse the space. Next: `vacuum {service} {table}`.";

/// Fills in a note with the run's number and arguments.
fn fill_note(text: &str, run: &Run) -> Block {
    Block::Note(fill(text, &|name| match name {
        "run" => Some(run.id.to_string()),
        argument => run.request.arguments.get(argument).cloned(),
    }))
}

/// "At least 140,000 rows of 300,048 were deleted"
fn deleted_text(progress: &PurgeProgress, spec: &PurgeSpec) -> String {
    let prefix = if progress.is_lower_bound { "At least " } else { "" };
    format!("{prefix}{} of {} were deleted", row_count_text(progress.deleted), grouped(spec.shown_rows))
}

fn facts(progress: &PurgeProgress, spec: &PurgeSpec) -> serde_json::Value {
    let mut facts = json!(progress);
    facts["shown"] = spec.shown_rows.into();
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
        outcome = Outcome::partial(format!("{error} {} so far.", deleted_text(progress, spec)));
        outcome.blocks.push(fill_note(RESUME_NOTE, run));
    }
    outcome.facts = facts(progress, spec);
    outcome
}

pub(super) fn outcome(
    run: &Run,
    spec: &PurgeSpec,
    reason: EndReason,
    progress: &PurgeProgress,
    elapsed: Duration,
) -> Outcome {
    let finished = matches!(reason, EndReason::Finished);
    let (kind, reason) = explain(reason, progress, spec);
    let elapsed = duration(elapsed.as_secs_f64());
    let batches = match progress.batches {
        1 => "1 batch".to_owned(),
        count => format!("{} batches", grouped(count)),
    };
    let summary = format!("{}, in {batches} and {elapsed}.", deleted_text(progress, spec));
    let verdict = match kind {
        EventKind::Invalidated => format!("{reason} Nothing was done."),
        EventKind::Failed => format!("{reason} No row was deleted."),
        _ if finished => summary,
        _ => format!("{reason} {summary}"),
    };
    let mut outcome = Outcome::new(kind, verdict);
    outcome.facts = facts(progress, spec);
    if !finished && kind != EventKind::Invalidated {
        outcome.blocks.push(fill_note(RESUME_NOTE, run));
    }
    if finished && progress.deleted < spec.shown_rows && !progress.is_lower_bound {
        let note = "The other rows were deleted before, or a trigger or another session's change kept them.";
        outcome.blocks.push(Block::Note(note.into()));
    }
    if progress.is_lower_bound {
        let note = "Countersign was interrupted: a batch may be done that was not recorded, so more rows may be deleted than this number.";
        outcome.blocks.push(Block::Note(note.into()));
    }
    if !progress.is_untouched() {
        outcome.blocks.push(fill_note(VACUUM_NOTE, run));
    }
    outcome
}

/// The outcome of a purge that is stopped while no process works on it: its checkpoints are written only now and then, so a batch
/// may be done that none covers.
pub(super) fn abandoned_outcome(run: &Run, spec: &PurgeSpec, progress: &PurgeProgress) -> Outcome {
    let verdict =
        format!("Stopped while it was interrupted. {}; more rows may be.", deleted_text(progress, spec));
    let mut outcome = Outcome::new(EventKind::Stopped, verdict);
    outcome.facts = facts(progress, spec);
    outcome.blocks = vec![fill_note(RESUME_NOTE, run), fill_note(VACUUM_NOTE, run)];
    outcome
}

fn explain(reason: EndReason, progress: &PurgeProgress, spec: &PurgeSpec) -> (EventKind, String) {
    let relation = &spec.relation;
    let invalidated_kind = if progress.is_untouched() { EventKind::Invalidated } else { EventKind::Stopped };
    let failed_kind = if progress.is_untouched() { EventKind::Failed } else { EventKind::Partial };
    let error = match reason {
        EndReason::Finished => return (EventKind::Succeeded, String::new()),
        EndReason::StopRequested => return (EventKind::Stopped, "Stopped, as asked.".to_owned()),
        EndReason::ReplicaLag(clause) => return (EventKind::Stopped, format!("Stopped, since {clause}.")),
        EndReason::RowsKept => {
            let kept = format!("Deleted rows of {relation} are still there: a trigger or a rule keeps them.");
            return (failed_kind, kept);
        }
        EndReason::RunLost => return (EventKind::Interrupted, format!("{RunLost}.")),
        EndReason::Failed(error) => error,
    };
    match error {
        BatchError::TooManyRows => {
            let shown = format!("{}, and a fifth more at most", row_count_text(spec.shown_rows));
            (invalidated_kind, format!("More rows are that old than the card showed: {shown}."))
        }
        BatchError::Changed(what) => (
            invalidated_kind,
            format!("{relation} is no longer what the card showed: its {what} is another."),
        ),
        BatchError::ReadOnly => (failed_kind, "The server is read-only now.".to_owned()),
        BatchError::TooSlow => {
            (failed_kind, "Even a batch of 100 rows takes longer than statement_timeout.".to_owned())
        }
        BatchError::Busy(error) => (failed_kind, format!("Another session blocked it repeatedly: {error}.")),
        BatchError::Rejected(error) => (failed_kind, format!("PostgreSQL refused: {error}.")),
        BatchError::Lost { error, .. } => (failed_kind, format!("The server {error}.")),
    }
}
