//! What `vacuum` and `analyze` say: the plan, a refusal, and what became of each table.

use super::names::Table;
use super::work::{gave_up, resource};
use super::{Fate, Kind, Told};
use crate::actions::Outcome;
use crate::actions::answers::{count, table};
use crate::actions::site::Site;
use crate::error::Error;
use crate::message::{Block, Cell, Shape, Tone};
use crate::plan::Plan;
use crate::runs::Happening;
use crate::sql::{bytes, duration, fill, grouped};
use serde_json::json;
use std::time::Duration;

pub(super) fn describe(kind: Kind, site: &Site, chosen: &[Table]) -> Plan {
    let what = match chosen {
        [only] => only.relation.clone(),
        all => count(all.len(), "table", "tables"),
    };
    let does = match kind {
        Kind::Vacuum => "Vacuums and analyzes",
        Kind::Analyze => "Analyzes",
    };
    let mut plan = Plan::of(format!("{does} {what} of {} in {}.", site.database, site.address.environment));
    site.identify(&mut plan);
    plan.targets = chosen.iter().map(Table::identity).collect();
    let size: i64 = chosen.iter().map(|table| table.bytes).sum();
    let dead: i64 = chosen.iter().map(|table| table.dead).sum();
    let size = format!("about {}, {} dead rows", bytes(size as f64), grouped(dead));
    plan.context.push(("size".to_owned(), size));
    plan.hurts =
        "Nobody: it runs beside reads and writes, and skips a table that is locked. It reads from the disk."
            .to_owned();
    plan.undo = "None is needed.".to_owned();
    plan.holds = chosen.iter().map(|table| resource(&site.database, &table.relation)).collect();
    plan
}

/// `does` is the verb: "vacuum".
pub(super) fn may_not(table: &Table, role: &str, does: &str) -> Error {
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
    kind: Kind,
    all: usize,
    (told, took, held_back): (&[Told], Duration, Option<String>),
) -> Outcome {
    let past = match kind {
        Kind::Vacuum => "vacuumed and analyzed",
        Kind::Analyze => "analyzed",
    };
    let (happening, verdict) = sum_up(told, (all, "table", "tables"), (past, took));
    let done = done(told);
    let mut outcome = Outcome::new(happening, verdict);
    outcome.facts = json!({ "tables": all, "done": done.len() });
    if kind == Kind::Vacuum && !done.is_empty() {
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
    if kind == Kind::Vacuum && told.iter().any(|told| matches!(told.fate, Fate::Cut)) {
        let kept =
            "The dead rows that it had removed by then stay removed, and nothing has to be cleaned up.";
        outcome.blocks.push(Block::Note(kept.into()));
    }
    outcome.blocks.extend(others(told, "table"));
    outcome
}

/// What is done, and what is left of that which it counts.
pub(super) fn done(told: &[Told]) -> Vec<(&Told, i64)> {
    let left = |told| match told {
        &Told { fate: Fate::Done { left }, .. } => Some(left),
        _ => None,
    };
    told.iter().filter_map(|told| left(told).map(|left| (told, left))).collect()
}

/// The verdict over all; `past` is what was to become of them: "analyzed".
pub(super) fn sum_up(
    told: &[Told],
    (all, one, more): (usize, &str, &str),
    (past, took): (&str, Duration),
) -> (Happening, String) {
    let done = done(told).len();
    let lost = told.iter().any(|told| matches!(told.fate, Fate::Lost(_)));
    let cut = told.iter().find(|told| matches!(told.fate, Fate::Cut));
    let broken = told.iter().any(|told| matches!(told.fate, Fate::Broken(_)));
    let took = duration(took.as_secs_f64());
    match (done, told) {
        _ if lost => {
            (Happening::Lost, format!("{done} of {all} {more} are {past}; what became of one can't be seen."))
        }
        _ if all == 1 && cut.is_some() => {
            let what = told.first().map_or("", |told| told.relation.as_str());
            (Happening::Stopped, format!("Stopped: {what} is not {past}."))
        }
        _ if cut.is_some() || told.len() < all && !broken => {
            let mut words = format!("Stopped: {done} of {} {past}", count(all, one, more));
            words.push_str(&cut.map_or(String::new(), |cut| format!(", {} was cut off", cut.relation)));
            let begun = match all - told.len() {
                0 => ".".to_owned(),
                rest => format!(", {rest} not begun."),
            };
            (Happening::Stopped, words + &begun)
        }
        (1, [only]) if all == 1 => (Happening::Succeeded, format!("{} is {past}, in {took}.", only.relation)),
        (0, [only]) if all == 1 => (Happening::Failed, format!("{} was not {past}.", only.relation)),
        (0, _) => (Happening::Failed, format!("None of {all} {more} was {past}.")),
        (some, _) if some == all => (Happening::Succeeded, format!("{all} {more} are {past}, in {took}.")),
        (some, _) => (
            Happening::Partial,
            format!("{some} of {all} {more} are {past}, in {took}; the others are below."),
        ),
    }
}

/// What is not done, and why: of one alone in a line, since a table's cells are short on a phone.
pub(super) fn others(told: &[Told], kind: &str) -> Option<Block> {
    let others: Vec<&Told> = told.iter().filter(|told| !matches!(told.fate, Fate::Done { .. })).collect();
    if let ([only], 1) = (others.as_slice(), told.len()) {
        let mut why = cell(&only.fate).text;
        let first: String = why.drain(..why.chars().next().map_or(0, char::len_utf8)).collect();
        return Some(Block::Note(format!("{}{why}.", first.to_uppercase()).into()));
    }
    let cells = |told: &&Told| vec![told.relation.as_str().into(), cell(&told.fate)];
    let rows: Vec<Vec<Cell>> = others.iter().map(cells).collect();
    let columns = [(kind, Shape::Left), ("what became of it", Shape::Left)];
    (!rows.is_empty()).then(|| Block::Table(table(&columns, rows)))
}

fn cell(fate: &Fate) -> Cell {
    let (text, tone) = match fate {
        Fate::Done { .. } => ("done".to_owned(), Tone::Good),
        Fate::Skipped(warning) => (format!("PostgreSQL skipped it: {warning}"), Tone::Act),
        Fate::Unseen => ("PostgreSQL said nothing, and no trace of it is seen".to_owned(), Tone::Act),
        Fate::Another => ("is gone, or another has its name now: left alone".to_owned(), Tone::Watch),
        Fate::Held => ("another Countersign is at work on it: left alone".to_owned(), Tone::Watch),
        Fate::Cut => ("cut off by the stop".to_owned(), Tone::Watch),
        Fate::Refused(why) if gave_up(why) => {
            ("gave up: a lock or an older transaction kept it waiting".to_owned(), Tone::Act)
        }
        Fate::Refused(why) => (format!("PostgreSQL refused: {why}"), Tone::Act),
        Fate::Broken(why) => (format!("broken off: the server {why}"), Tone::Act),
        Fate::Lost(why) => (format!("unknown: the server {why}"), Tone::Act),
    };
    Cell { text, tone }
}
