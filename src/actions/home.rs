//! `home`: what waits for the person, their requests, what runs, the health of each environment, the last changes. Reads the audit log,
//! and makes the checks of `health`. Every line is a sentence: Slack's Home tab takes no tables.

use super::Call;
use super::support::blocks::{
    answer, between, count, eligible_approvers, environments, may_see, request_text, state, unreviewed_runs,
    verdict,
};
use crate::error::Result;
use crate::model::{
    Block, Button, ButtonStyle, Coverage, EventKind, Run, RunState, Severity, Span, Text, TokenPurpose,
    random_token,
};
use crate::sql::{self, Answer, QueryRequest, minute};
use crate::store::Filter;
use futures::future::join_all;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The command whose checks are made.
const HEALTH: &str = "health";

/// An environment that takes longer is reported without an answer: its page is waited for.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(8);

/// Lines of each part: a page is one look.
const MAX_LINES: usize = 10;

/// Requests and reviews that get a button.
const MAX_BUTTONS: usize = 5;

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let now = Timestamp::now();
    let states = vec![RunState::Pending, RunState::Approved, RunState::Running];
    let changes = Filter { environment: call.environment.map(str::to_owned), ..Filter::default() };
    let open = Filter { states, limit: usize::MAX, ..changes.clone() };
    let (open, changes, reviews, health) =
        tokio::join!(call.runs(open), call.runs(changes), unreviewed_runs(call), health(call));
    let open: Vec<Run> = open?.runs.into_iter().filter(|run| may_see(call, run)).collect();
    let mut waiting: Vec<Run> = open.iter().filter(|run| waits_for(call, run)).cloned().collect();
    waiting.extend(reviews?.into_iter().filter(|run| is_eligible(call, run)));
    let mut page = Page::default();
    page.blocks.push(waiting_verdict(&waiting));
    page.list("Waiting for you", waiting.iter().map(|run| waiting_line(run, now)));
    page.buttons(waiting.iter().take(MAX_BUTTONS).map(show_button));
    let is_own = |run: &&Run| run.request.requester.id == call.person.id && run.state != RunState::Running;
    page.list("Your requests", open.iter().filter(is_own).map(|run| waiting_line(run, now)));
    let running = open.iter().filter(|run| run.state == RunState::Running);
    page.list("In progress", running.map(|run| running_line(call, run, now)));
    let coverage = page.health(&health);
    let changes = changes?.runs;
    let changes = changes.iter().filter(|run| may_see(call, run)).take(MAX_LINES);
    page.list("Last changes", changes.map(change_line));
    let Page { blocks, purposes } = page;
    Ok(Answer { button_purposes: purposes, coverage, private: true, ..answer(blocks) })
}

fn is_eligible(call: &Call<'_>, run: &Run) -> bool {
    eligible_approvers(call, run).iter().any(|person| person.id == call.person.id)
}

/// True for a pending request that the person can approve and hasn't approved yet.
fn waits_for(call: &Call<'_>, run: &Run) -> bool {
    let mut approvals = run.events.iter().filter(|event| event.kind == EventKind::ApprovalAdded);
    let has_approved = approvals.any(|event| event.by.as_ref().is_some_and(|by| by.id == call.person.id));
    run.state == RunState::Pending && !has_approved && is_eligible(call, run)
}

fn waiting_verdict(waiting: &[Run]) -> Block {
    match waiting.len() {
        0 => verdict(Severity::Ok, "No requests are waiting for you."),
        many => verdict(
            Severity::Warning,
            count(many, "request is waiting for you.", "requests are waiting for you."),
        ),
    }
}

/// The blocks of the page, and the purposes of its buttons.
#[derive(Default)]
struct Page {
    blocks: Vec<Block>,
    purposes: Vec<(String, TokenPurpose)>,
}

impl Page {
    /// A titled list; nothing where it has no lines.
    fn list(&mut self, title: &str, lines: impl Iterator<Item = Text>) {
        let lines: Vec<Text> = lines.collect();
        let more = lines.len().saturating_sub(MAX_LINES);
        let mut text = Text::new().strong(title);
        for line in lines.into_iter().take(MAX_LINES) {
            text = text.plain("\n");
            text.0.extend(line.0);
        }
        if more > 0 {
            text = text.plain(format!("\n… and {more} more."));
        }
        if text.0.len() > 1 {
            self.blocks.push(Block::Text(text));
        }
    }

    fn buttons(&mut self, buttons: impl Iterator<Item = (String, TokenPurpose)>) {
        let made = buttons.filter_map(|(label, purpose)| Some((label, random_token()?, purpose)));
        let mut row = Vec::new();
        for (label, token, purpose) in made {
            row.push(Button::new(label, token.clone(), ButtonStyle::Plain));
            self.purposes.push((token, purpose));
        }
        if !row.is_empty() {
            self.blocks.push(Block::Buttons(row));
        }
    }

    /// The finding of each environment, and a button for all its checks.
    fn health(&mut self, health: &[(&str, Option<Answer>)]) -> Coverage {
        for (environment, checked) in health {
            self.blocks.push(finding(environment, checked.as_ref()));
        }
        self.buttons(health.iter().map(|(environment, _)| {
            let arguments = BTreeMap::new();
            let environment = Some((*environment).to_owned());
            let label = format!("Health of {}", environment.as_deref().unwrap_or_default());
            (label, TokenPurpose::RunCommand { command: HEALTH.to_owned(), environment, arguments })
        }));
        let covered = |(_, checked): &&(&str, Option<Answer>)| {
            checked.as_ref().is_some_and(|answer| answer.coverage == Coverage::Whole)
        };
        match Coverage::of(health.iter().filter(covered).count(), health.len()) {
            // The audit log has answered.
            Coverage::None => Coverage::Partial,
            coverage => coverage,
        }
    }
}

/// Makes the checks of `health` in every environment where the person may run it.
async fn health<'a>(call: &'a Call<'_>) -> Vec<(&'a str, Option<Answer>)> {
    let Some(command) = call.app.catalog.find(HEALTH) else { return Vec::new() };
    let may_run = |name: &&str| call.app.access.may_run(call.person, command, Some(name));
    let names = environments(call).into_iter().filter(may_run);
    let checks = names.map(|environment| async move {
        let (values, application_name) = (&BTreeMap::new(), &call.asker);
        let request = QueryRequest { command, environment, values, application_name };
        let sections = tokio::time::timeout(HEALTH_TIMEOUT, super::run_sql_query(call.app, &request)).await;
        let sections = sections.ok().and_then(Result::ok);
        (environment, sections.map(|found| sql::present(command, &call.app.catalog, environment, &found)))
    });
    join_all(checks).await
}

/// An environment's worst finding in a sentence, without what to do about it: its button leads there.
fn finding(environment: &str, checked: Option<&Answer>) -> Block {
    let place = Text::new().plain(format!("{environment}: "));
    let found = checked.and_then(|answer| {
        answer.blocks.iter().find_map(|block| match block {
            Block::Verdict { severity, text } => Some((*severity, text)),
            _ => None,
        })
    });
    let Some((severity, text)) = found else {
        let text = place.plain("its health can't be read now.");
        return Block::Verdict { severity: Severity::Warning, text };
    };
    let before_advice = text.0.iter().take_while(|span| !matches!(span, Span::Code(_)));
    let words: String = before_advice.map(|span| Text(vec![span.clone()]).words()).collect();
    let is_whole = words.len() == text.words().len();
    let words = match words.rfind(". ") {
        Some(end) if !is_whole => words[..=end].to_owned(),
        _ => words.trim_end().trim_end_matches([':', ',']).to_owned(),
    };
    Block::Verdict { severity, text: place.plain(words) }
}

fn place(run: &Run) -> String {
    run.request.environment.as_deref().map_or(String::new(), |environment| format!(" on {environment}"))
}

/// "kill 4711 on production, requested by ana, 12 min 3 s left: `show 12`".
fn waiting_line(run: &Run, now: Timestamp) -> Text {
    let left = run.deadline.filter(|_| run.state == RunState::Pending);
    let until = match left {
        Some(until) => format!(", {} left", between(now, until)),
        None => format!(", {}", state(run).text),
    };
    let who = &run.request.requester.id;
    Text::new()
        .strong(request_text(run))
        .plain(format!("{}, requested by {who}{until}: ", place(run)))
        .code(format!("show {}", run.id))
}

fn running_line(call: &Call<'_>, run: &Run, now: Timestamp) -> Text {
    let percent = call.app.progress.get(run.id).and_then(|share| share.percent);
    let progress = percent.map_or(String::new(), |percent| format!(", {percent} %"));
    let (who, time) = (&run.request.requester.id, between(run.opened_at, now));
    Text::new()
        .strong(request_text(run))
        .plain(format!("{}, by {who}, for {time}{progress}: ", place(run)))
        .code(format!("show {}", run.id))
}

/// "#12 kill 4711 on production: succeeded, by ana, 2026-11-30 14:02 UTC".
fn change_line(run: &Run) -> Text {
    let (who, time, outcome) = (&run.request.requester.id, minute(run.opened_at), state(run).text);
    let rest = format!("{}: {outcome}, by {who}, {time}", place(run));
    Text::new().plain(format!("#{} ", run.id)).strong(request_text(run)).plain(rest)
}

fn show_button(run: &Run) -> (String, TokenPurpose) {
    let arguments = BTreeMap::from([("run".to_owned(), run.id.to_string())]);
    let purpose = TokenPurpose::RunCommand { command: "show".to_owned(), environment: None, arguments };
    (format!("Show #{}", run.id), purpose)
}
