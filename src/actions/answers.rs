//! What the coded answers share: blocks, a run's words, and whose runs a person may see. Nothing here asks a target.

use super::Call;
use crate::access::Access;
use crate::message::{Block, Cell, Column, Row, Shape, Table, Text, Tone};
use crate::sql::{Answer, duration};
use crate::store::{Run, State};
use jiff::Timestamp;

pub fn answer(blocks: Vec<Block>) -> Answer {
    Answer { blocks, ..Answer::default() }
}

pub fn verdict(tone: Tone, text: impl Into<Text>) -> Block {
    Block::Verdict { tone, text: text.into() }
}

/// "1 request waits", "3 requests wait".
pub fn count(number: usize, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

/// A table of cells that are formatted already. A column without a single value is left out, since a phone has no room for it.
pub fn table(columns: &[(&str, Shape)], rows: Vec<Vec<Cell>>) -> Table {
    let filled = |at: &usize| {
        *at == 0 || rows.is_empty() || rows.iter().any(|row| row.get(*at).is_some_and(|c| c.text != "-"))
    };
    let shown: Vec<usize> = (0..columns.len()).filter(filled).collect();
    let titles = shown.iter().map(|at| columns[*at]);
    let columns = titles.map(|(title, shape)| Column { title: title.to_owned(), shape }).collect();
    let kept = |cells: Vec<Cell>| {
        let cells = cells.into_iter().enumerate().filter(|(at, _)| shown.contains(at));
        Row { cells: cells.map(|(_, cell)| cell).collect(), buttons: Vec::new() }
    };
    let total = rows.len();
    let rows = rows.into_iter().map(kept).collect();
    Table { title: None, columns, rows, total, empty: Some("None.".to_owned()) }
}

/// How long ago, or in how long, in the two largest units.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    duration(to.duration_since(from).as_secs_f64())
}

/// What was asked, as it was understood: "kill 4711".
pub fn asked(run: &Run) -> String {
    run.text("asked").unwrap_or(&run.request.command).to_owned()
}

/// A state in a word, with how good or bad it is.
pub fn state(run: &Run) -> Cell {
    let tone = match run.state {
        State::Succeeded => Tone::Good,
        State::Failed | State::Partial | State::Unknown => Tone::Act,
        State::Pending | State::Approved | State::Running => Tone::Watch,
        _ => Tone::Plain,
    };
    Cell { text: format!("{:?}", run.state).to_lowercase(), tone }
}

/// What concerns no environment is everybody's; the rest is for those who may look there.
pub fn may_see(call: &Call<'_>, run: &Run) -> bool {
    let environment = run.request.environment.as_deref();
    environment.is_none_or(|name| looks_at(&call.app.access, call, name))
}

/// The environments that this command speaks of: the one that was typed, or all that the person may look at.
pub fn environments<'a>(call: &'a Call<'_>) -> Vec<&'a str> {
    let names = call.app.targets.names().iter().map(String::as_str);
    names
        .filter(|name| call.environment.is_none_or(|typed| typed == *name))
        .filter(|name| looks_at(&call.app.access, call, name))
        .collect()
}

fn looks_at(access: &Access, call: &Call<'_>, environment: &str) -> bool {
    access.may_run(call.person, call.command, Some(environment))
}
