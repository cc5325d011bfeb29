//! Blocks, tables and texts that coded answers share, and the runs that a person may see. Nothing here queries a server.

use crate::access::could_approve_at_request;
use crate::actions::Call;
use crate::error::{Error, Result};
use crate::model::ColumnKind::{Left, Right};
use crate::model::{
    Block, Cell, Column, ColumnKind, EventKind, Person, Row, Run, RunState, Severity, Table, Text,
};
use crate::sql::{Answer, duration, fill, minute};
use crate::store::Filter;
use jiff::Timestamp;

/// Break-glass runs are limited to one in an hour at most: this is more than a year of them.
const MAX_BREAK_GLASS_RUNS: usize = 10_000;

pub fn answer(blocks: Vec<Block>) -> Answer {
    Answer { blocks, ..Answer::default() }
}

pub fn verdict(severity: Severity, text: impl Into<Text>) -> Block {
    Block::Verdict { severity, text: text.into() }
}

/// Small print of our own, with code in backticks.
pub fn note(text: &str) -> Block {
    Block::Note(fill(text, &|_| None))
}

/// Formats a number with its noun: "1 request is", "3 requests are".
pub fn count(number: usize, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

/// Builds a table of formatted cells. A column without a single value is left out, since a phone has no room for it.
pub fn table(columns: &[(&str, ColumnKind)], rows: Vec<Vec<Cell>>) -> Table {
    let has_value = |row: &Vec<Cell>, index: usize| row.get(index).is_some_and(|cell| cell.text != "-");
    let has_values =
        |index: &usize| *index == 0 || rows.is_empty() || rows.iter().any(|row| has_value(row, *index));
    let displayed: Vec<usize> = (0..columns.len()).filter(has_values).collect();
    let titles = displayed.iter().map(|index| columns[*index]);
    let columns = titles.map(|(title, kind)| Column { title: title.to_owned(), kind }).collect();
    let row = |cells: Vec<Cell>| {
        let cells = cells.into_iter().enumerate().filter(|(index, _)| displayed.contains(index));
        Row { cells: cells.map(|(_, cell)| cell).collect(), buttons: Vec::new() }
    };
    let total = rows.len();
    let rows = rows.into_iter().map(row).collect();
    Table { title: None, columns, rows, total, empty: Some("None.".to_owned()) }
}

/// A column of a table of runs.
pub struct RunColumn<'a> {
    title: &'a str,
    kind: ColumnKind,
    cell: &'a dyn Fn(&Run) -> Cell,
}

impl<'a> RunColumn<'a> {
    /// A column that only one command shows.
    pub const fn new(title: &'a str, kind: ColumnKind, cell: &'a dyn Fn(&Run) -> Cell) -> RunColumn<'a> {
        RunColumn { title, kind, cell }
    }
}

/// The run's number: "#128".
pub const RUN: RunColumn<'static> = RunColumn::new("run", Right, &|run| format!("#{}", run.id).into());
/// The time of the request, to the minute (UTC).
pub const WHEN: RunColumn<'static> = RunColumn::new("when", Left, &|run| minute(run.opened_at).into());
/// The request as it was understood.
pub const COMMAND: RunColumn<'static> = RunColumn::new("command", Left, &|run| request_text(run).into());
/// The environment's name.
pub const ENVIRONMENT: RunColumn<'static> =
    RunColumn::new("environment", Left, &|run| run.request.environment.as_deref().unwrap_or("-").into());
/// The requester's name.
pub const REQUESTED_BY: RunColumn<'static> =
    RunColumn::new("by", Left, &|run| run.request.requester.id.as_str().into());
/// The people who approved, or the emergency without approval.
pub const APPROVED_BY: RunColumn<'static> = RunColumn::new("approved by", Left, &approval);
/// The reason that the requester gave.
pub const REASON: RunColumn<'static> =
    RunColumn::new("reason", Left, &|run| run.text("reason").unwrap_or("-").into());
/// The state of a run that has ended.
pub const OUTCOME: RunColumn<'static> = RunColumn::new("outcome", Left, &state);

/// Builds a table of runs.
pub fn run_table<'r>(columns: &[RunColumn<'_>], runs: impl IntoIterator<Item = &'r Run>) -> Table {
    let titles: Vec<(&str, ColumnKind)> = columns.iter().map(|column| (column.title, column.kind)).collect();
    let cells = |run| columns.iter().map(|column| (column.cell)(run)).collect();
    table(&titles, runs.into_iter().map(cells).collect())
}

/// Formats the time between two moments, in the two largest units.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    duration(to.duration_since(from).as_secs_f64())
}

/// The request as it was understood: "kill 4711".
pub fn request_text(run: &Run) -> String {
    run.text("asked").unwrap_or(&run.request.command).to_owned()
}

/// Names of those who approved a run: "ben and cara"; of a break-glass run, who reviewed it.
pub fn approval(run: &Run) -> Cell {
    let names = |kinds: &[EventKind]| {
        let events = run.events.iter().filter(|event| kinds.contains(&event.kind));
        let names: Vec<&str> = events.filter_map(|event| Some(event.by.as_ref()?.id.as_str())).collect();
        names.join(" and ")
    };
    if run.request.break_glass {
        return match names(&[EventKind::Reviewed]) {
            none if none.is_empty() => {
                Cell { text: "no one (break-glass, not reviewed)".to_owned(), severity: Severity::Warning }
            }
            reviewers => format!("no one (break-glass, reviewed by {reviewers})").into(),
        };
    }
    match names(&[EventKind::ApprovalAdded, EventKind::Approved]) {
        none if none.is_empty() => "-".into(),
        approvers => approvers.into(),
    }
}

/// A run's state in a word, with its severity.
pub fn state(run: &Run) -> Cell {
    let severity = match run.state {
        RunState::Succeeded => Severity::Ok,
        RunState::Failed | RunState::Partial | RunState::Interrupted => Severity::Critical,
        RunState::Pending | RunState::Approved | RunState::Running => Severity::Warning,
        _ => Severity::Neutral,
    };
    Cell { text: run.state.word().to_owned(), severity }
}

/// The people who may approve a run.
pub fn eligible_approvers(call: &Call<'_>, run: &Run) -> Vec<Person> {
    let Some(command) = call.app.catalog.find(&run.request.command) else { return Vec::new() };
    let mut people =
        call.app.access.approvers(command, run.request.environment.as_deref(), &run.request.requester);
    people.retain(|person| could_approve_at_request(run, person));
    people
}

/// Names of those who may approve a run.
pub fn approvers(call: &Call<'_>, run: &Run) -> String {
    let eligible = eligible_approvers(call, run);
    let names: Vec<&str> = eligible.iter().map(|person| person.id.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The break-glass runs of all environments that still need a review.
pub async fn unreviewed_runs(call: &Call<'_>) -> Result<Vec<Run>> {
    let filter = Filter { break_glass: true, limit: MAX_BREAK_GLASS_RUNS, ..Filter::default() };
    let needs_review = |run: &Run| run.event(EventKind::Reviewed).is_none() && may_see(call, run);
    Ok(call.runs(filter).await?.runs.into_iter().filter(needs_review).collect())
}

/// Lists the break-glass runs of all environments that still need a review.
pub async fn unreviewed(call: &Call<'_>) -> Result<Vec<Block>> {
    let runs = unreviewed_runs(call).await?;
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let words = count(runs.len(), "break-glass run needs a review.", "break-glass runs need a review.");
    let reviewers = |run: &Run| approvers(call, run).into();
    let reviewers = RunColumn::new("reviewers", Left, &reviewers);
    let table = run_table(&[RUN, COMMAND, REQUESTED_BY, WHEN, ENVIRONMENT, OUTCOME, reviewers], &runs);
    Ok(vec![
        verdict(Severity::Critical, words),
        Block::Table(table),
        note("`show <run>` shows one; `review <run>` confirms that you have reviewed it."),
    ])
}

/// Tells whether the person may see the run: one without an environment, or in an environment that they may read.
pub fn may_see(call: &Call<'_>, run: &Run) -> bool {
    run.request.environment.as_deref().is_none_or(|name| may_read(call, name))
}

/// The environments that an answer covers: the one that was typed, or all that the person may read.
pub fn environments<'a>(call: &'a Call<'_>) -> Vec<&'a str> {
    let names = call.app.environments.names().iter().map(String::as_str);
    let is_asked = |name: &str| call.environment.is_none_or(|typed| typed == name) && may_read(call, name);
    names.filter(|name| is_asked(name)).collect()
}

fn may_read(call: &Call<'_>, environment: &str) -> bool {
    call.app.access.may_run(call.person, call.command, Some(environment))
}

/// Loads the run that an argument names. `hint` says where to find one, if there is none of that number.
pub async fn run_argument(call: &Call<'_>, argument: &str, hint: &str) -> Result<Run> {
    let id = call.value(argument).and_then(|id| id.parse().ok()).unwrap_or_default();
    let run = call.app.audit.store.get(id).await.map_err(anyhow::Error::from)?;
    run.ok_or_else(|| Error::instead(format!("There is no run #{id}."), hint.to_owned()))
}
