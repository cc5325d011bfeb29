//! The report on a run that works on several tables or indexes: one outcome each, and the verdict over all.

use super::is_lock_timeout;
use crate::actions::Outcome;
use crate::actions::support::blocks::{count, table};
use crate::actions::support::recovery::INTERRUPTED;
use crate::actions::support::relations::PlannedRelation;
use crate::model::{Block, Cell, EventKind, Severity, Shape};
use crate::postgres::QueryError;
use crate::sql::duration;
use std::time::Duration;

/// Outcome of the work on one table or index.
#[derive(Debug)]
pub enum TableOutcome {
    /// Of a table the dead rows left, as PostgreSQL estimates them; of an index its bytes.
    Done {
        left: i64,
    },
    Skipped(String),
    /// No warning, and no trace of the work either.
    NoTrace,
    /// The name belongs to another relation now, or to none.
    Replaced,
    Locked,
    Stopped,
    /// Its VACUUM is done, and its ANALYZE is not: the reason, or `None` for the stop.
    OnlyVacuumed(Option<String>),
    Rejected(QueryError),
    /// Its session has ended, and the work was not done.
    SessionLost(QueryError),
    Unknown(QueryError),
}

impl TableOutcome {
    /// Tells an outcome after which no other target is begun.
    pub fn ends_run(&self) -> bool {
        use TableOutcome::{OnlyVacuumed, SessionLost, Stopped, Unknown};
        matches!(self, Unknown(_) | SessionLost(_) | Stopped | OnlyVacuumed(None))
    }
}

/// A target of the plan, and the outcome of the work on it.
pub struct TableResult {
    pub relation: String,
    /// The value before, of that which [`TableOutcome::Done`] counts.
    pub before: i64,
    pub outcome: TableOutcome,
}

/// Words for the targets and for what is done to them.
pub struct Nouns<'a> {
    /// "table"
    pub one: &'a str,
    /// "tables"
    pub many: &'a str,
    /// "vacuumed and analyzed"
    pub done: &'a str,
}

/// The results that are done, each with the value left.
pub fn done(results: &[TableResult]) -> Vec<(&TableResult, i64)> {
    let left = |result| match result {
        &TableResult { outcome: TableOutcome::Done { left }, .. } => Some((result, left)),
        _ => None,
    };
    results.iter().filter_map(left).collect()
}

/// Builds the verdict over all `total` targets.
pub fn summarize(
    results: &[TableResult],
    total: usize,
    nouns: &Nouns<'_>,
    took: Duration,
) -> (EventKind, String) {
    let Nouns { one, many, done: past } = nouns;
    let any = |is: fn(&TableOutcome) -> bool| results.iter().find(|result| is(&result.outcome));
    let half = |result: &TableResult| matches!(result.outcome, TableOutcome::OnlyVacuumed(_));
    let stopped = any(|outcome| matches!(outcome, TableOutcome::Stopped | TableOutcome::OnlyVacuumed(None)));
    let session_lost = any(|outcome| matches!(outcome, TableOutcome::SessionLost(_))).is_some();
    let done = done(results).len();
    let took = duration(took.as_secs_f64());
    if any(|outcome| matches!(outcome, TableOutcome::Unknown(_))).is_some() {
        let text = format!("{done} of {total} {many} are {past}; the result of one is unknown.");
        return (EventKind::Interrupted, text);
    }
    let only = if total == 1 { results.first() } else { None };
    if let Some(only) = only.filter(|_| stopped.is_some()) {
        let state = if half(only) { "vacuumed, but not analyzed".to_owned() } else { format!("not {past}") };
        return (EventKind::Stopped, format!("Stopped: {} is {state}.", only.relation));
    }
    if stopped.is_some() || results.len() < total && !session_lost {
        let mut text = format!("Stopped: {done} of {} {past}", count(total, one, many));
        if let Some(stopped) = stopped {
            let behind = if half(stopped) { " after its VACUUM" } else { "" };
            text.push_str(&format!(", {} was interrupted{behind}", stopped.relation));
        }
        match total - results.len() {
            0 => text.push('.'),
            rest => text.push_str(&format!(", {rest} not started.")),
        }
        return (EventKind::Stopped, text);
    }
    match (done, only) {
        (1, Some(only)) => (EventKind::Succeeded, format!("{} is {past}, in {took}.", only.relation)),
        (_, Some(only)) if half(only) => {
            (EventKind::Partial, format!("{} is vacuumed, but not analyzed.", only.relation))
        }
        (_, Some(only)) => (EventKind::Failed, format!("{} was not {past}.", only.relation)),
        (0, None) if results.iter().any(half) => {
            (EventKind::Partial, format!("None of {total} {many} was fully {past}; see below."))
        }
        (0, None) => (EventKind::Failed, format!("None of {total} {many} was {past}.")),
        (all, None) if all == total => {
            (EventKind::Succeeded, format!("{total} {many} are {past}, in {took}."))
        }
        (some, None) => (
            EventKind::Partial,
            format!("{some} of {total} {many} are {past}, in {took}; the others are below."),
        ),
    }
}

/// Lists each target's outcome, unfinished ones first. The outcome of a single one is a line, since a table's cells are short
/// on a phone.
pub fn results_block(results: &[TableResult], targets: &[PlannedRelation], noun: &str) -> Option<Block> {
    let is_done = |result: &&TableResult| matches!(result.outcome, TableOutcome::Done { .. });
    if let ([only], 1) = (results, targets.len()) {
        let mut text = outcome_cell(&only.outcome).text;
        let first: String = text.drain(..text.chars().next().map_or(0, char::len_utf8)).collect();
        return (!is_done(&only)).then(|| Block::Note(format!("{}{text}.", first.to_uppercase()).into()));
    }
    let row = |result: &TableResult| vec![result.relation.as_str().into(), outcome_cell(&result.outcome)];
    let others = results.iter().filter(|result| !is_done(result)).map(row);
    let not_begun = |target: &PlannedRelation| {
        vec![
            target.relation.as_str().into(),
            Cell { text: "not started".to_owned(), tone: Severity::Warning },
        ]
    };
    let not_begun = targets.iter().skip(results.len()).map(not_begun);
    let done = results.iter().filter(is_done).map(row);
    let rows: Vec<Vec<Cell>> = others.chain(not_begun).chain(done).collect();
    let columns = [(noun, Shape::Left), ("result", Shape::Left)];
    (!rows.is_empty()).then(|| Block::Table(table(&columns, rows)))
}

fn outcome_cell(outcome: &TableOutcome) -> Cell {
    let (text, tone) = match outcome {
        TableOutcome::Done { .. } => ("done".to_owned(), Severity::Ok),
        TableOutcome::Skipped(warning) => (format!("PostgreSQL skipped it: {warning}"), Severity::Critical),
        TableOutcome::NoTrace => {
            ("PostgreSQL reported no warning, but shows no sign of the work".to_owned(), Severity::Critical)
        }
        TableOutcome::Replaced => (
            "it is gone, or its name belongs to another relation now: not touched".to_owned(),
            Severity::Warning,
        ),
        TableOutcome::Locked => {
            ("another Countersign instance holds the lock on it: not touched".to_owned(), Severity::Warning)
        }
        TableOutcome::Stopped => ("interrupted by the stop".to_owned(), Severity::Warning),
        TableOutcome::OnlyVacuumed(None) => {
            ("vacuumed; the stop interrupted its ANALYZE".to_owned(), Severity::Warning)
        }
        TableOutcome::OnlyVacuumed(Some(reason)) => {
            (format!("vacuumed, but not analyzed: {reason}"), Severity::Critical)
        }
        TableOutcome::Rejected(error) if is_lock_timeout(error) => {
            ("gave up waiting for a lock or an older transaction".to_owned(), Severity::Critical)
        }
        TableOutcome::Rejected(error) => (format!("PostgreSQL refused: {error}"), Severity::Critical),
        TableOutcome::SessionLost(error) => (format!("interrupted: the server {error}"), Severity::Critical),
        TableOutcome::Unknown(error) => (format!("unknown: the server {error}"), Severity::Critical),
    };
    Cell { text, tone }
}

/// Builds the outcome of an interrupted run from the number of targets that PostgreSQL shows as done.
pub fn recovered(done: usize, total: usize, nouns: &Nouns<'_>) -> Outcome {
    let kind = match done {
        all if all == total => EventKind::Succeeded,
        0 => EventKind::Failed,
        _ => EventKind::Partial,
    };
    let Nouns { one, many, done: past } = nouns;
    let subject = match done {
        0 => format!("No {one} is"),
        1 => format!("1 {one} is"),
        some => format!("{some} {many} are"),
    };
    let of = if done == total { String::new() } else { format!(", of {total}") };
    Outcome::new(kind, format!("{subject} {past}{of}. {INTERRUPTED}"))
}
