//! What the coded answers share: blocks, a run's words, and whose runs a person may see. Nothing here asks a target.

use crate::access::{Access, could_approve_then};
use crate::actions::Call;
use crate::error::{Error, Result};
use crate::model::{Block, Cell, Column, EventKind, Row, Run, RunState, Severity, Shape, Table, Text};
use crate::sql::{Answer, duration, fill, minute};
use crate::store::Filter;
use jiff::Timestamp;

/// Nobody acts alone more often than once an hour: that is more than a year of them.
const MOST_ALONE: usize = 10_000;

pub fn answer(blocks: Vec<Block>) -> Answer {
    Answer { blocks, ..Answer::default() }
}

pub fn verdict(tone: Severity, text: impl Into<Text>) -> Block {
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
        RunState::Succeeded => Severity::Ok,
        RunState::Failed | RunState::Partial | RunState::Interrupted => Severity::Critical,
        RunState::Pending | RunState::Approved | RunState::Running => Severity::Warning,
        _ => Severity::Neutral,
    };
    Cell { text: format!("{:?}", run.state).to_lowercase(), tone }
}

/// Who may approve a run, by name.
pub fn approvers(call: &Call<'_>, run: &Run) -> String {
    let Some(command) = call.app.catalog.find(&run.request.command) else { return "nobody".to_owned() };
    let people =
        call.app.access.approvers(command, run.request.environment.as_deref(), &run.request.requester);
    let could = people.iter().filter(|person| could_approve_then(run, person));
    let names: Vec<&str> = could.map(|person| person.id.as_str()).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// What people did alone and nobody has reviewed yet, in whichever environment: it stands above everything else.
pub async fn unreviewed(call: &Call<'_>) -> Result<Vec<Block>> {
    let filter = Filter { break_glass: true, limit: MOST_ALONE, ..Filter::default() };
    let listed = call.app.audit.store.list(filter).await.map_err(anyhow::Error::from)?;
    let owed = |run: &&Run| run.event(EventKind::Reviewed).is_none() && may_see(call, run);
    let runs: Vec<&Run> = listed.runs.iter().filter(owed).collect();
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let words = count(
        runs.len(),
        "run was done alone, and nobody has reviewed it.",
        "runs were done alone, and nobody has reviewed them.",
    );
    let rows = runs.iter().map(|run| {
        vec![
            format!("#{}", run.id).into(),
            asked(run).into(),
            run.request.requester.id.as_str().into(),
            minute(run.opened_at).into(),
            run.request.environment.clone().unwrap_or_else(|| "-".to_owned()).into(),
            state(run),
            approvers(call, run).into(),
        ]
    });
    let columns = [
        ("run", Shape::Right),
        ("what", Shape::Left),
        ("who", Shape::Left),
        ("when", Shape::Left),
        ("environment", Shape::Left),
        ("outcome", Shape::Left),
        ("who may review", Shape::Left),
    ];
    let next = "`show <run>` tells all about one; `review <run>` says that you have looked at it.";
    Ok(vec![
        verdict(Severity::Critical, words),
        Block::Table(table(&columns, rows.collect())),
        Block::Note(fill(next, &|_| None)),
    ])
}

/// What concerns no environment is everybody's; the rest is for those who may look there.
pub fn may_see(call: &Call<'_>, run: &Run) -> bool {
    let environment = run.request.environment.as_deref();
    environment.is_none_or(|name| looks_at(&call.app.access, call, name))
}

/// The environments that this command speaks of: the one that was typed, or all that the person may look at.
pub fn environments<'a>(call: &'a Call<'_>) -> Vec<&'a str> {
    let names = call.app.environments.names().iter().map(String::as_str);
    names
        .filter(|name| call.environment.is_none_or(|typed| typed == *name))
        .filter(|name| looks_at(&call.app.access, call, name))
        .collect()
}

fn looks_at(access: &Access, call: &Call<'_>, environment: &str) -> bool {
    access.may_run(call.person, call.command, Some(environment))
}

/// Loads the run that the argument `run` names.
///
/// # Errors
/// [`Error::User`] when there is none of that number; `lists` says where to find one.
pub async fn run_argument(call: &Call<'_>, lists: &str) -> Result<Run> {
    run_argument_named(call, "run", lists).await
}

/// As [`run_argument`], by the argument of that name.
///
/// # Errors
/// As [`run_argument`].
pub async fn run_argument_named(call: &Call<'_>, argument: &str, lists: &str) -> Result<Run> {
    let id = call.values.get(argument).and_then(|id| id.parse().ok()).unwrap_or_default();
    let found = call.app.audit.store.get(id).await.map_err(anyhow::Error::from)?;
    found.ok_or_else(|| Error::instead(format!("There is no run #{id}."), lists.to_owned()))
}
