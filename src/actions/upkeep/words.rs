//! What `vacuum` and `analyze` say: the plan, a refusal, and what became of each table.

use super::{Fate, Kind, Table, Told};
use crate::actions::Outcome;
use crate::actions::answers::{count, table};
use crate::error::Error;
use crate::message::{Block, Cell, Shape, Tone};
use crate::plan::Plan;
use crate::runs::Happening;
use crate::sql::{bytes, duration, fill, grouped};
use serde_json::json;
use std::time::Duration;

pub(super) fn describe(kind: Kind, (environment, database): (&str, &str), chosen: &[Table]) -> Plan {
    let what = match chosen {
        [only] => only.relation.clone(),
        all => count(all.len(), "table", "tables"),
    };
    let does = match kind {
        Kind::Vacuum => "Vacuums and analyzes",
        Kind::Analyze => "Analyzes",
    };
    let mut plan = Plan::of(format!("{does} {what} of {database} in {environment}."));
    plan.identity.insert("database".to_owned(), database.to_owned());
    plan.targets = chosen.iter().map(Table::identity).collect();
    let size: i64 = chosen.iter().map(|table| table.bytes).sum();
    let dead: i64 = chosen.iter().map(|table| table.dead).sum();
    let size = format!("about {}, {} dead rows", bytes(size as f64), grouped(dead));
    plan.context.push(("size".to_owned(), size));
    plan.hurts =
        "Nobody: it runs beside reads and writes, and skips a table that is locked. It reads from the disk."
            .to_owned();
    plan.undo = "None is needed.".to_owned();
    plan.holds = chosen.iter().map(|table| format!("upkeep of {database}: {}", table.relation)).collect();
    plan
}

pub(super) fn may_not(table: &Table, role: &str, kind: Kind) -> Error {
    let does = match kind {
        Kind::Vacuum => "vacuum",
        Kind::Analyze => "analyze",
    };
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
    let done: Vec<(&Told, i64)> = told
        .iter()
        .filter_map(|told| match told.fate {
            Fate::Done { dead } => Some((told, dead)),
            _ => None,
        })
        .collect();
    let lost = told.iter().any(|told| matches!(told.fate, Fate::Lost(_)));
    let past = match kind {
        Kind::Vacuum => "vacuumed and analyzed",
        Kind::Analyze => "analyzed",
    };
    let took = duration(took.as_secs_f64());
    let (happening, verdict) = match (done.len(), told) {
        _ if lost => (
            Happening::Lost,
            format!("{} of {all} tables are {past}; what became of one can't be seen.", done.len()),
        ),
        (1, [only]) => (Happening::Succeeded, format!("{} is {past}, in {took}.", only.relation)),
        (0, [only]) => (Happening::Failed, format!("{} was not {past}.", only.relation)),
        (0, _) => (Happening::Failed, format!("None of {all} tables was {past}.")),
        (some, _) if some == all => (Happening::Succeeded, format!("{all} tables are {past}, in {took}.")),
        (some, _) => (
            Happening::Partial,
            format!("{some} of {all} tables are {past}, in {took}; the others are below."),
        ),
    };
    let mut outcome = Outcome::new(happening, verdict);
    outcome.facts = json!({ "tables": all, "done": done.len() });
    if kind == Kind::Vacuum && !done.is_empty() {
        let before: i64 = done.iter().map(|(told, _)| told.dead).sum();
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
    let others = told.iter().filter(|told| !matches!(told.fate, Fate::Done { .. }));
    let rows: Vec<Vec<Cell>> =
        others.map(|told| vec![told.relation.as_str().into(), cell(&told.fate)]).collect();
    if !rows.is_empty() {
        outcome
            .blocks
            .push(Block::Table(table(&[("table", Shape::Left), ("what became of it", Shape::Left)], rows)));
    }
    outcome
}

fn cell(fate: &Fate) -> Cell {
    let (text, tone) = match fate {
        Fate::Done { .. } => ("done".to_owned(), Tone::Good),
        Fate::Skipped(warning) => (format!("PostgreSQL skipped it: {warning}"), Tone::Act),
        Fate::Unseen => {
            ("PostgreSQL said nothing, and its own time of it has not moved".to_owned(), Tone::Act)
        }
        Fate::Another => ("is gone, or another table has its name now: left alone".to_owned(), Tone::Watch),
        Fate::Refused(why) => (format!("PostgreSQL refused: {why}"), Tone::Act),
        Fate::Lost(why) => (format!("unknown: the server {why}"), Tone::Act),
    };
    Cell { text, tone }
}
