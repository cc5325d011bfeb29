//! `history`: runs in the audit log, newest first. Reads only with `--reads`.

use super::Call;
use super::support::blocks::{
    APPROVED_BY, COMMAND, ENVIRONMENT, OUTCOME, REASON, REQUESTED_BY, RUN, WHEN, answer, count, may_see,
    note, run_table, unreviewed, verdict,
};
use crate::clock::duration_seconds;
use crate::command_line::to_line;
use crate::error::{Error, Result};
use crate::model::{Block, Run, RunId, RunState, Severity, Text};
use crate::sql::{Answer, grouped};
use crate::store::{Filter, RunPage};
use crate::suggest::{nearest, shown};
use jiff::Timestamp;
use std::time::Duration;

/// Two screens of a phone; a narrower question shows the rest.
const MAX_RUNS: usize = 20;

/// The states that `--failed` selects.
const FAILED: [RunState; 5] =
    [RunState::Failed, RunState::Partial, RunState::Stopped, RunState::Interrupted, RunState::Invalidated];

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let mut page = call.runs(filter(call)?).await?;
    // The question itself is no answer to it.
    let listed = page.runs.len();
    page.runs.retain(|run| Some(run.id) != call.run);
    page.total -= listed - page.runs.len();
    page.runs.truncate(MAX_RUNS);
    let runs: Vec<&Run> = page.runs.iter().filter(|run| may_see(call, run)).collect();
    let mut blocks = unreviewed(call).await?;
    let unsearched = page.unsearched_from.map(|run| {
        note(&format!(
            "Run #{run} and older runs were not searched. `--find` with 3 or more characters searches all runs, `--since` and \
             `--command` leave fewer to search."
        ))
    });
    if runs.is_empty() {
        let words = match page.unsearched_from {
            Some(run) => format!("No run after #{run} matches."),
            None => "No run matches.".to_owned(),
        };
        blocks.push(verdict(Severity::Neutral, words));
        blocks.extend(unsearched);
        blocks.push(note("`history --reads` includes read commands."));
        return Ok(answer(blocks));
    }
    blocks.extend(page_blocks(call, &page, runs));
    blocks.extend(unsearched);
    blocks.push(note(
        "`show <run>` shows one. Narrow the list with `--who`, `--command`, `--since`, `--failed`, `--find`.",
    ));
    Ok(answer(blocks))
}

/// The verdict, the table of the page's runs that the person may see, and the line for the next page.
fn page_blocks(call: &Call<'_>, page: &RunPage, runs: Vec<&Run>) -> Vec<Block> {
    let total = page.total - (page.runs.len() - runs.len());
    let is_last_page = !page.has_more && total <= runs.len();
    let failed = runs.iter().filter(|run| FAILED.contains(&run.state)).count();
    let before = call.value("before").map(|run| format!(" before #{run}")).unwrap_or_default();
    let all = format!("{}{before}", count(total, "run", "runs"));
    let words = if page.has_more {
        let many = grouped(Filter::COUNT_BEYOND_PAGE as i64);
        format!("The newest {} of more than {many} runs{before}.", runs.len())
    } else if !is_last_page {
        format!("The newest {} of {total} runs{before}.", runs.len())
    } else if failed > 0 {
        format!("{all}, {failed} failed, stopped or interrupted.")
    } else {
        format!("{all}.")
    };
    let mut table =
        run_table(&[OUTCOME, COMMAND, REQUESTED_BY, APPROVED_BY, WHEN, RUN, ENVIRONMENT, REASON], runs);
    // The verdict says that there are more; their number isn't known.
    if !page.has_more {
        table.total = total;
    }
    let mut blocks = vec![verdict(Severity::Neutral, words), Block::Table(table)];
    if let Some(last) = page.runs.last().filter(|_| !is_last_page) {
        blocks
            .push(Block::Note(Text::new().plain("Older runs: ").code(older_runs(call, last.id)).plain(".")));
    }
    blocks
}

/// The line that lists the runs before one, with the same filters.
fn older_runs(call: &Call<'_>, run: RunId) -> String {
    let mut values = call.values.clone();
    values.insert("before".to_owned(), run.to_string());
    let line = to_line(&call.command.name, &call.command.header.args, &values);
    call.environment.map_or(line.clone(), |environment| format!("{line} --env {environment}"))
}

fn filter(call: &Call<'_>) -> Result<Filter> {
    let since = call.value("since").and_then(duration_seconds).map(Duration::from_secs);
    Ok(Filter {
        environment: call.environment.map(str::to_owned),
        requester: call.value("who").map(|typed| person(call, typed)).transpose()?,
        command: call.value("command").map(str::to_owned),
        since: since.map(|back| Timestamp::now() - back),
        states: if call.value("failed").is_some() { FAILED.to_vec() } else { Vec::new() },
        text: call.value("find").map(str::to_owned),
        include_reads: call.value("reads").is_some(),
        break_glass: false,
        before: call.value("before").and_then(|run| run.parse().ok()),
        limit: MAX_RUNS + 1,
    })
}

/// Resolves a name: the whole of it, one word of it that only one person has, or the id of an account.
fn person(call: &Call<'_>, typed: &str) -> Result<String> {
    let typed_name = typed.trim_start_matches('@').to_lowercase();
    // A comma or a bracket around it is no part of a name.
    let bare = typed_name.trim_matches(|c: char| !c.is_alphanumeric());
    if bare == "me" {
        return Ok(call.person.id.clone());
    }
    let people = &call.app.config.people;
    let names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
    let has_word = |name: &&str| name.to_lowercase().split_whitespace().any(|word| word == bare);
    let is_name = |name: &&&str| [typed_name.as_str(), bare].contains(&name.to_lowercase().as_str());
    let matches: Vec<&str> = match names.iter().find(is_name) {
        Some(exact) => vec![*exact],
        None => names.iter().copied().filter(has_word).collect(),
    };
    match matches.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => {
            let id = bare.strip_prefix("8:orgid:").unwrap_or(bare);
            if let Some(owner) = people.iter().find(|person| person.has_account(id)) {
                return Ok(owner.name.clone());
            }
            let problem = format!("The configuration has no person “{}”.", shown(typed));
            let near = nearest(typed, names.iter().copied());
            let near = near.map(|near| format!("Did you mean `--who \"{near}\"`?"));
            Err(Error::instead(problem, near.unwrap_or_else(|| format!("There are: {}.", names.join(", ")))))
        }
        [first, ..] => {
            let problem = format!("“{}” can be {}.", shown(typed), matches.join(" or "));
            Err(Error::instead(problem, format!("Type `--who \"{first}\"`.")))
        }
    }
}
