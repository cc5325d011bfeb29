//! `history`: runs in the audit log, newest first. Reads only with `--reads`.

use super::support::blocks::{answer, count, may_see, request_text, state, table, unreviewed, verdict};
use super::{Call, Query};
use crate::clock::duration_seconds;
use crate::error::{Error, Result};
use crate::model::{Block, Cell, Run, RunState, Severity, Shape};
use crate::sql::{Answer, fill, minute};
use crate::store::Filter;
use crate::suggest::shown;
use async_trait::async_trait;
use jiff::Timestamp;
use std::time::Duration;

pub struct History;

/// Two screens of a phone; a narrower question shows the rest.
const MAX_RUNS: usize = 20;

/// The states that `--failed` selects.
const FAILED: [RunState; 5] =
    [RunState::Failed, RunState::Partial, RunState::Stopped, RunState::Interrupted, RunState::Invalidated];

#[async_trait]
impl Query for History {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let page = call.app.audit.store.list(filter(call)?).await.map_err(anyhow::Error::from)?;
        let hidden = page.runs.iter().filter(|run| !may_see(call, run)).count();
        let runs: Vec<&Run> = page.runs.iter().filter(|run| may_see(call, run)).collect();
        let mut blocks = unreviewed(call).await?;
        if runs.is_empty() {
            let next = "`history --reads` includes read commands.";
            blocks
                .extend([verdict(Severity::Neutral, "No run matches."), Block::Note(fill(next, &|_| None))]);
            return Ok(answer(blocks));
        }
        let total = page.total - hidden;
        let failed = runs.iter().filter(|run| FAILED.contains(&run.state)).count();
        let all = count(total, "run", "runs");
        let words = if total > runs.len() {
            format!("The newest {} of {total} runs.", runs.len())
        } else if failed > 0 {
            format!("{all}, {failed} failed, stopped or interrupted.")
        } else {
            format!("{all}.")
        };
        let columns = [
            ("run", Shape::Right),
            ("when", Shape::Left),
            ("requested by", Shape::Left),
            ("command", Shape::Left),
            ("environment", Shape::Left),
            ("outcome", Shape::Left),
        ];
        let mut table = table(&columns, runs.iter().map(|run| row(run)).collect());
        table.total = total;
        let next = "`show <run>` shows one. Narrow the list with `--who`, `--command`, `--since`, `--failed`, `--find`.";
        blocks.extend([
            verdict(Severity::Neutral, words),
            Block::Table(table),
            Block::Note(fill(next, &|_| None)),
        ]);
        Ok(answer(blocks))
    }
}

fn row(run: &Run) -> Vec<Cell> {
    let request = &run.request;
    vec![
        format!("#{}", run.id).into(),
        minute(run.opened_at).into(),
        request.requester.id.as_str().into(),
        request_text(run).into(),
        request.environment.clone().unwrap_or_else(|| "-".to_owned()).into(),
        state(run),
    ]
}

fn filter(call: &Call<'_>) -> Result<Filter> {
    let get = |name: &str| call.values.get(name).cloned();
    let since = get("since").and_then(|since| duration_seconds(&since)).map(Duration::from_secs);
    Ok(Filter {
        environment: call.environment.map(str::to_owned),
        who: get("who").map(|typed| person(call, &typed)).transpose()?,
        command: get("command"),
        since: since.map(|back| Timestamp::now() - back),
        states: if get("failed").is_some() { FAILED.to_vec() } else { Vec::new() },
        find: get("find"),
        reads: get("reads").is_some(),
        break_glass: false,
        limit: MAX_RUNS,
    })
}

/// Resolves a name: the whole of it, or one word of it that only one person has.
fn person(call: &Call<'_>, typed: &str) -> Result<String> {
    let name = typed.trim_start_matches('@').to_lowercase();
    if name == "me" {
        return Ok(call.person.id.clone());
    }
    let names: Vec<&str> = call.app.config.people.iter().map(|person| person.name.as_str()).collect();
    let whole = names.iter().find(|person| person.to_lowercase() == name);
    let by_word = |person: &&&str| person.to_lowercase().split_whitespace().any(|word| word == name);
    let some: Vec<&&str> = whole.map_or_else(|| names.iter().filter(by_word).collect(), |name| vec![name]);
    match some.as_slice() {
        [only] => Ok((**only).to_owned()),
        [] => {
            let problem = format!("The configuration has no person “{}”.", shown(typed));
            Err(match crate::suggest::nearest(typed, names.iter().copied()) {
                Some(near) => Error::instead(problem, format!("Did you mean `--who \"{near}\"`?")),
                None => Error::instead(problem, format!("There are: {}.", names.join(", "))),
            })
        }
        more => {
            let more: Vec<&str> = more.iter().map(|name| **name).collect();
            let problem = format!("“{}” can be {}.", shown(typed), more.join(" or "));
            Err(Error::instead(problem, format!("Type `--who \"{}\"`.", more[0])))
        }
    }
}
