//! What `vacuum` and `analyze` say: the plan, a refusal, and what became of each table.

use super::names::{Relation, RelationName};
use super::work::{gave_up, resource};
use super::{Operation, TableOutcome, TableResult};
use crate::actions::Outcome;
use crate::actions::support::blocks::{count, table};
use crate::actions::support::database::DatabaseTarget;
use crate::error::Error;
use crate::model::{Block, Cell, EventKind, Plan, Severity, Shape};
use crate::sql::{bytes, duration, fill, grouped};
use serde_json::json;
use std::time::Duration;

pub(super) fn describe(kind: Operation, site: &DatabaseTarget, chosen: &[RelationName]) -> Plan {
    let what = match chosen {
        [only] => only.relation.clone(),
        all => count(all.len(), "table", "tables"),
    };
    let does = match kind {
        Operation::Vacuum => "Vacuums and analyzes",
        Operation::Analyze => "Analyzes",
    };
    let mut plan = Plan::of(format!("{does} {what} of {} in {}.", site.database, site.address.environment));
    site.identify(&mut plan);
    plan.targets = chosen.iter().map(RelationName::identity).collect();
    let size: i64 = chosen.iter().map(|table| table.bytes).sum();
    let dead: i64 = chosen.iter().map(|table| table.dead).sum();
    let size = format!("about {}, {} dead rows", bytes(size as f64), grouped(dead));
    plan.context.push(("size".to_owned(), size));
    plan.impact =
        "Nobody: it runs beside reads and writes, and skips a table that is locked. It reads from the disk."
            .to_owned();
    plan.rollback = "None is needed.".to_owned();
    plan.resource_locks = chosen.iter().map(|table| resource(&site.database, &table.relation)).collect();
    plan
}

/// So many tables of others are named.
const MOST_NAMED: usize = 5;

/// Says that tables of others are left out, where everybody sees it and where the outcome finds it.
pub(super) fn leave_out(plan: &mut Plan, left: &[RelationName]) {
    if left.is_empty() {
        return;
    }
    let number = count(left.len(), "table of another owner is", "tables of other owners are");
    plan.effect.push_str(&format!(" {number} left out."));
    let named = left.iter().take(MOST_NAMED).map(|table| format!("{} ({})", table.relation, table.owner));
    let mut named = named.collect::<Vec<_>>().join(", ");
    if left.len() > MOST_NAMED {
        named.push_str(&format!(" and {} more", left.len() - MOST_NAMED));
    }
    plan.context.push((LEFT_OUT.to_owned(), named));
}

const LEFT_OUT: &str = "left out";

/// `does` is the verb: "vacuum".
pub(super) fn may_not(table: &RelationName, role: &str, does: &str) -> Error {
    Error::instead(
        format!(
            "{role} may not {does} {}, which belongs to {}: PostgreSQL would skip it and call it done.",
            table.relation, table.owner
        ),
        format!(
            "Name a login `maintain` in the configuration whose role is a member of {}; from PostgreSQL 17 on, `GRANT pg_maintain` to it is enough.",
            table.owner
        ),
    )
}

/// `held_back` is who kept dead rows from being removed.
pub(super) fn outcome(
    kind: Operation,
    plan: &Plan,
    (targets, told, took): (&[Relation], &[TableResult], Duration),
    held_back: Option<String>,
) -> Outcome {
    let past = match kind {
        Operation::Vacuum => "vacuumed and analyzed",
        Operation::Analyze => "analyzed",
    };
    let (happening, mut verdict) = sum_up(told, (targets.len(), "table", "tables"), (past, took));
    let left = plan.context.iter().find(|(name, _)| name == LEFT_OUT).map(|(_, named)| named);
    if let Some(named) = left {
        verdict.push_str(&format!(" Left out, since others own them: {named}."));
    }
    let done = done(told);
    let mut outcome = Outcome::new(happening, verdict);
    outcome.facts = json!({ "tables": targets.len(), "done": done.len() });
    if kind == Operation::Vacuum && !done.is_empty() {
        let before: i64 = done.iter().map(|(told, _)| told.before).sum();
        let after: i64 = done.iter().map(|(_, dead)| dead).sum();
        let dead = format!(
            "Dead rows, as PostgreSQL estimates them: {} before, {} now.",
            grouped(before),
            grouped(after)
        );
        outcome.blocks.push(Block::Note(dead.into()));
        if let Some(who) = held_back {
            let words = "What is left is newer than {who}: `autovacuum` shows who holds VACUUM back.";
            outcome.blocks.push(Block::Note(fill(words, &|_| Some(who.clone()))));
        }
    }
    if kind == Operation::Vacuum && told.iter().any(|told| matches!(told.fate, TableOutcome::Cut)) {
        let kept =
            "The dead rows that it had removed by then stay removed, and nothing has to be cleaned up.";
        outcome.blocks.push(Block::Note(kept.into()));
    }
    if left.is_some() {
        let words = "To take them along: a login `maintain` whose role is a member of their owners, or from PostgreSQL 17 on of pg_maintain.";
        outcome.blocks.push(Block::Note(fill(words, &|_| None)));
    }
    outcome.blocks.extend(fates(told, targets, "table"));
    outcome
}

/// What is done, and what is left of that which it counts.
pub(super) fn done(told: &[TableResult]) -> Vec<(&TableResult, i64)> {
    let left = |told| match told {
        &TableResult { fate: TableOutcome::Done { left }, .. } => Some(left),
        _ => None,
    };
    told.iter().filter_map(|told| left(told).map(|left| (told, left))).collect()
}

/// The verdict over all; `past` is what was to become of them: "analyzed".
pub(super) fn sum_up(
    told: &[TableResult],
    (all, one, more): (usize, &str, &str),
    (past, took): (&str, Duration),
) -> (EventKind, String) {
    let done = done(told).len();
    let lost = told.iter().any(|told| matches!(told.fate, TableOutcome::Lost(_)));
    let cut = told.iter().find(|told| matches!(told.fate, TableOutcome::Cut | TableOutcome::Half(None)));
    let half = |told: &TableResult| matches!(told.fate, TableOutcome::Half(_));
    let broken = told.iter().any(|told| matches!(told.fate, TableOutcome::Broken(_)));
    let took = duration(took.as_secs_f64());
    match (done, told) {
        _ if lost => (
            EventKind::Interrupted,
            format!("{done} of {all} {more} are {past}; what became of one can't be seen."),
        ),
        (_, [only]) if all == 1 && cut.is_some() => {
            let past = if half(only) { "vacuumed, and not analyzed" } else { &format!("not {past}") };
            (EventKind::Stopped, format!("Stopped: {} is {past}.", only.relation))
        }
        _ if cut.is_some() || told.len() < all && !broken => {
            let mut words = format!("Stopped: {done} of {} {past}", count(all, one, more));
            words.push_str(&cut.map_or(String::new(), |cut| {
                let behind = if half(cut) { " behind its VACUUM" } else { "" };
                format!(", {} was cut off{behind}", cut.relation)
            }));
            let begun = match all - told.len() {
                0 => ".".to_owned(),
                rest => format!(", {rest} not begun."),
            };
            (EventKind::Stopped, words + &begun)
        }
        (1, [only]) if all == 1 => (EventKind::Succeeded, format!("{} is {past}, in {took}.", only.relation)),
        (_, [only]) if all == 1 && half(only) => {
            (EventKind::Partial, format!("{} is vacuumed, and not analyzed.", only.relation))
        }
        (0, [only]) if all == 1 => (EventKind::Failed, format!("{} was not {past}.", only.relation)),
        (0, many) if many.iter().any(half) => {
            (EventKind::Partial, format!("None of {all} {more} was {past} whole; what was done is below."))
        }
        (0, _) => (EventKind::Failed, format!("None of {all} {more} was {past}.")),
        (some, _) if some == all => (EventKind::Succeeded, format!("{all} {more} are {past}, in {took}.")),
        (some, _) => (
            EventKind::Partial,
            format!("{some} of {all} {more} are {past}, in {took}; the others are below."),
        ),
    }
}

/// What became of each, those first that are not done: of one alone in a line, since a table's cells are short on a phone.
pub(super) fn fates(told: &[TableResult], targets: &[Relation], kind: &str) -> Option<Block> {
    let is_done = |told: &&TableResult| matches!(told.fate, TableOutcome::Done { .. });
    if let ([only], 1) = (told, targets.len()) {
        let mut why = cell(&only.fate).text;
        let first: String = why.drain(..why.chars().next().map_or(0, char::len_utf8)).collect();
        return (!is_done(&only)).then(|| Block::Note(format!("{}{why}.", first.to_uppercase()).into()));
    }
    let row = |told: &TableResult| vec![told.relation.as_str().into(), cell(&told.fate)];
    let others = told.iter().filter(|told| !is_done(told)).map(row);
    let untouched = |target: &Relation| {
        vec![target.relation.as_str().into(), Cell { text: "not begun".to_owned(), tone: Severity::Warning }]
    };
    let not_begun = targets.iter().skip(told.len()).map(untouched);
    let done = told.iter().filter(is_done).map(row);
    let rows: Vec<Vec<Cell>> = others.chain(not_begun).chain(done).collect();
    let columns = [(kind, Shape::Left), ("what became of it", Shape::Left)];
    (!rows.is_empty()).then(|| Block::Table(table(&columns, rows)))
}

fn cell(fate: &TableOutcome) -> Cell {
    let (text, tone) = match fate {
        TableOutcome::Done { .. } => ("done".to_owned(), Severity::Ok),
        TableOutcome::Skipped(warning) => (format!("PostgreSQL skipped it: {warning}"), Severity::Critical),
        TableOutcome::Unseen => {
            ("PostgreSQL said nothing, and no trace of it is seen".to_owned(), Severity::Critical)
        }
        TableOutcome::Another => {
            ("is gone, or another has its name now: left alone".to_owned(), Severity::Warning)
        }
        TableOutcome::Held => {
            ("another Countersign is at work on it: left alone".to_owned(), Severity::Warning)
        }
        TableOutcome::Cut => ("cut off by the stop".to_owned(), Severity::Warning),
        TableOutcome::Half(None) => ("vacuumed; the stop cut its ANALYZE off".to_owned(), Severity::Warning),
        TableOutcome::Half(Some(why)) => (format!("vacuumed, and not analyzed: {why}"), Severity::Critical),
        TableOutcome::Refused(why) if gave_up(why) => {
            ("gave up: a lock or an older transaction kept it waiting".to_owned(), Severity::Critical)
        }
        TableOutcome::Refused(why) => (format!("PostgreSQL refused: {why}"), Severity::Critical),
        TableOutcome::Broken(why) => (format!("broken off: the server {why}"), Severity::Critical),
        TableOutcome::Lost(why) => (format!("unknown: the server {why}"), Severity::Critical),
    };
    Cell { text, tone }
}
