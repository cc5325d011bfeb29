//! What `purge` says: the plan, a refusal, and what became of it. Never that disk was freed, since none is.

use super::look::PlanFacts;
use super::walk::{PurgeProgress, StopReason};
use super::work::PurgeSpec;
use crate::actions::{Execution, Outcome};
use crate::error::Error;
use crate::model::{Block, EventKind, Plan, Run, RunId};
use crate::postgres::QueryError;
use crate::sql::{bytes, duration, fill, grouped};
use std::time::Duration;

fn rows(number: i64) -> String {
    if number == 1 { "1 row".to_owned() } else { format!("{} rows", grouped(number)) }
}

fn batches(number: i64) -> String {
    if number == 1 { "1 batch".to_owned() } else { format!("{} batches", grouped(number)) }
}

pub(super) fn describe(found: &PlanFacts) -> Plan {
    let PlanFacts { environment, database, work, .. } = found;
    let PurgeSpec { relation, column, cutoff, kind, .. } = work;
    let begin = found.continues.map_or("Deletes".to_owned(), |run| format!("Goes on with #{run}: deletes"));
    let mut plan = Plan::of(format!(
        "{begin} {} of {relation} of {database} in {environment}: those with {column} before {cutoff}{}.",
        rows(work.rows),
        kind.zone()
    ));
    plan.identity = work.identity();
    plan.identity.insert("database".to_owned(), database.clone());
    if let Some(run) = found.continues {
        plan.identity.insert("continues".to_owned(), run.to_string());
    }
    let most = format!("at most {} go in all", rows(work.at_most()));
    plan.guards.insert("rows".to_owned(), most);
    plan.guards.insert("table".to_owned(), "the name is still this very table, with this column".to_owned());
    plan.context = vec![
        ("oldest".to_owned(), found.oldest.clone()),
        ("newest".to_owned(), found.newest.clone()),
        ("size".to_owned(), format!("{} with its indexes", bytes(found.bytes as f64))),
        (
            "disk".to_owned(),
            "none is freed: space inside the table is, for new rows; its WAL takes disk first, and PostgreSQL can't tell how full that is: \
             only a server that turns read-only ends the purge"
                .to_owned(),
        ),
        ("way".to_owned(), way(work)),
    ];
    plan.impact = hurts(found);
    plan.rollback =
        "Nothing brings the rows back but a backup. Stopped half-way, what is gone by then stays gone."
            .to_owned();
    plan
}

fn way(work: &PurgeSpec) -> String {
    match &work.key {
        Some(key) => format!("along {}, in batches of up to 10,000, a transaction each", key.name),
        None => "in batches of up to 10,000 wherever they are (no numeric or uuid primary key), a transaction each".to_owned(),
    }
}

fn hurts(found: &PlanFacts) -> String {
    let mut words = "Whoever still needs these rows.".to_owned();
    if !found.referred.is_empty() {
        words = format!("{words} Referred to by {}.", found.referred.join("; "));
    }
    if !found.triggers.is_empty() {
        words = format!("{words} Triggers that run on DELETE: {}.", found.triggers.join(", "));
    }
    words
}

pub(super) fn uncounted(why: &QueryError, work: &PurgeSpec, indexed: bool) -> Error {
    let PurgeSpec { relation, column, .. } = work;
    if !why.is_cancelled() && !matches!(why, QueryError::TimedOut(_)) {
        return Error::user(format!("The rows of {relation} can't be counted: {why}."));
    }
    let problem =
        format!("Counting the old rows of {relation} takes longer than a statement may, so nobody is asked.");
    match indexed {
        true => {
            Error::instead(problem, "Ask for fewer: a longer `--older-than`, and then again a shorter one.")
        }
        false => Error::instead(
            problem,
            format!(
                "No index begins with {column}: `CREATE INDEX CONCURRENTLY ON {relation} ({column})`, then ask again."
            ),
        ),
    }
}

pub(super) fn nothing_to_do(work: &PurgeSpec, continues: Option<RunId>) -> Error {
    let PurgeSpec { relation, column, cutoff, kind, .. } = work;
    match continues {
        Some(run) => Error::user(format!("Nothing is left of #{run}: {relation} has no such row any more.")),
        None => Error::user(format!(
            "There is nothing to delete: no row of {relation} has {column} before {cutoff}{}.",
            kind.zone()
        )),
    }
}

/// What is gone, if it is known to the row.
fn gone(done: &PurgeProgress, work: &PurgeSpec) -> String {
    let least = if done.at_least { "At least " } else { "" };
    format!("{least}{} of {} are gone", rows(done.deleted), grouped(work.rows))
}

fn go_on(text: &str, run: RunId) -> Block {
    Block::Note(fill(text, &|name| (name == "run").then(|| run.to_string())))
}

/// What `--continue` needs, for the record.
fn facts(done: &PurgeProgress, work: &PurgeSpec) -> serde_json::Value {
    let mut facts = serde_json::to_value(done).unwrap_or_default();
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("shown".to_owned(), work.rows.into());
    }
    facts
}

/// The table could not be taken.
pub(super) fn not_begun(why: &str, (work, done): (&PurgeSpec, &PurgeProgress), run: RunId) -> Outcome {
    let untouched = done.deleted == 0 && !done.at_least;
    let mut outcome = match untouched {
        true => Outcome::new(EventKind::Failed, format!("{why} Nothing was done.")),
        false => {
            let mut outcome = Outcome::new(EventKind::Partial, format!("{why} {} so far.", gone(done, work)));
            outcome.blocks.push(go_on(AGAIN, run));
            outcome
        }
    };
    outcome.facts = facts(done, work);
    outcome
}

const AGAIN: &str = "To go on from there: the same `purge <service> <table>` with `--continue {run}`; somebody else has to approve it.";
const NEXT: &str = "No disk is freed: the table keeps its size, and new rows take the place. Next: `vacuum <service> <table>`.";

pub(super) fn outcome(
    doing: &Execution<'_>,
    work: &PurgeSpec,
    (end, done, took): (StopReason, &PurgeProgress, Duration),
) -> Outcome {
    let run = doing.run.id;
    let finished = matches!(end, StopReason::Finished);
    let (happening, why) = became(end, done, work);
    let took = duration(took.as_secs_f64());
    let words = format!("{}, in {} and {took}.", gone(done, work), batches(done.batches));
    let verdict = match (happening, why) {
        (EventKind::Invalidated, why) => format!("{why} Nothing was done."),
        (EventKind::Failed, why) => format!("{why} No row is gone."),
        (_, why) if why.is_empty() => words,
        (_, why) => format!("{why} {words}"),
    };
    let mut outcome = Outcome::new(happening, verdict);
    outcome.facts = facts(done, work);
    let typed = |name: &str| doing.run.request.arguments.get(name).cloned();
    let names = |name: &str| match name {
        "run" => Some(run.to_string()),
        other => typed(other),
    };
    let line = |text: &str| text.replace("<service>", "{service}").replace("<table>", "{table}");
    if !finished && happening != EventKind::Invalidated {
        outcome.blocks.push(Block::Note(fill(&line(AGAIN), &names)));
    }
    if finished && done.deleted < work.rows && !done.at_least {
        let less = "The others were gone already, or a trigger or another session's change kept them.";
        outcome.blocks.push(Block::Note(less.into()));
    }
    if done.at_least {
        let why = "Countersign was interrupted: a batch may be done that was not noted, so more can be gone than is told.";
        outcome.blocks.push(Block::Note(why.into()));
    }
    if done.deleted > 0 || done.at_least {
        outcome.blocks.push(Block::Note(fill(&line(NEXT), &names)));
    }
    outcome
}

/// Stopped while nobody works on it: steps are noted now and then, so a batch may be done that none of them tells of.
pub(super) fn given_up(run: &Run, work: &PurgeSpec, done: &PurgeProgress) -> Outcome {
    let verdict = format!("Stopped while it was interrupted. {}; more can be.", gone(done, work));
    let typed = |name: &str| match name {
        "run" => Some(run.id.to_string()),
        other => run.request.arguments.get(other).cloned(),
    };
    let line = |text: &str| text.replace("<service>", "{service}").replace("<table>", "{table}");
    let mut outcome = Outcome::new(EventKind::Stopped, verdict);
    outcome.facts = facts(done, work);
    outcome.blocks = [AGAIN, NEXT].map(|text| Block::Note(fill(&line(text), &typed))).into();
    outcome
}

/// What that end is called, and why it came to it.
fn became(end: StopReason, done: &PurgeProgress, work: &PurgeSpec) -> (EventKind, String) {
    let untouched = done.deleted == 0 && !done.at_least;
    let stopped = |why: String| (EventKind::Stopped, why);
    let changed = |why: String| (if untouched { EventKind::Invalidated } else { EventKind::Stopped }, why);
    let broken = |why: String| (if untouched { EventKind::Failed } else { EventKind::Partial }, why);
    let relation = &work.relation;
    match end {
        StopReason::Finished => (EventKind::Succeeded, String::new()),
        StopReason::QueryResult => stopped("Stopped, as asked.".to_owned()),
        StopReason::ReplicaLag(behind) => stopped(format!("Stopped, since the replica {}.", behind.words())),
        StopReason::Gone(name) => stopped(format!(
            "Stopped, since the replica {} is gone: it was there before, and nobody can tell how far it is.",
            crate::suggest::shown(&name)
        )),
        StopReason::Unseen(why) => {
            stopped(format!("Stopped, since nobody can tell how far the replicas are: the server {why}."))
        }
        StopReason::Grown => changed(format!(
            "More rows are that old than the card showed: {}, and a fifth more at most.",
            rows(work.rows)
        )),
        StopReason::Changed(what) => {
            changed(format!("{relation} is no longer what was shown: its {what} is another."))
        }
        StopReason::ReadOnly => broken("The server is read-only now.".to_owned()),
        StopReason::Kept => broken(format!(
            "Rows of {relation} stay though they are deleted: a trigger or a rule keeps them."
        )),
        StopReason::TooSlow => {
            broken("Even a batch of 100 rows takes longer than a statement may.".to_owned())
        }
        StopReason::Busy(why) => broken(format!("Another session was in the way, again and again: {why}.")),
        StopReason::Refused(why) => broken(format!("PostgreSQL refused: {why}.")),
        StopReason::Lost(why) => broken(format!("The server {why}.")),
    }
}
