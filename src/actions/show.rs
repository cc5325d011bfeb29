//! `show <run>`: one run from the audit log: the request, the plan, every event and the outcome. The card of a pending run is posted
//! again, since the first may have scrolled away.

use super::Call;
use super::support::blocks::{answer, approval, between, may_see, request_text, state, table, verdict};
use crate::error::{Error, Result};
use crate::model::ColumnKind::Left;
use crate::model::{Block, Card, CardKind, Cell, EventKind, Plan, Run, RunEvent, RunState, Table, Text};
use crate::sql::{Answer, moment};
use jiff::Timestamp;

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let id = call.value("run").and_then(|id| id.parse().ok()).unwrap_or_default();
    let run = call.app.audit.store.get(id).await.map_err(anyhow::Error::from)?;
    // Without access to its environment, a run looks like one that doesn't exist.
    let run = run.filter(|run| may_see(call, run)).ok_or_else(|| {
        Error::instead(format!("There is no run #{id}."), "`history` and `pending` list them.")
    })?;
    let outcome = state(&run);
    let mut text =
        Text::from(format!("#{id} ")).code(request_text(&run)).plain(format!(": {}", outcome.text));
    if let Some(verdict) = run.text("verdict").filter(|verdict| !verdict.is_empty()) {
        text = text.plain(format!(". {verdict}"));
    }
    let mut blocks = vec![verdict(outcome.severity, text), Block::Facts(facts(&run))];
    if let Some(plan) = run.text("plan").and_then(Plan::from_json) {
        blocks.extend(plan_blocks(plan));
    }
    // The results below the verdict of a run that has ended.
    let results = run.text("outcome").and_then(|text| serde_json::from_str::<(Text, Vec<Block>)>(text).ok());
    blocks.extend(results.into_iter().flat_map(|(_, results)| results));
    blocks.push(Block::Table(event_table(&run)));
    blocks.extend(undelivered(call, &run).await);
    let card = (run.state == RunState::Pending).then_some(id);
    Ok(Answer { card, run: Some(Box::new(run)), ..answer(blocks) })
}

/// The note of a run whose outcome no chat has taken yet.
async fn undelivered(call: &Call<'_>, run: &Run) -> Option<Block> {
    let cards = call.app.audit.store.run_cards(run.id).await.ok()?;
    let is_undelivered = |card: &Card| card.kind == CardKind::Outcome && card.message.is_none();
    // A card that has nothing to show is up to date without a message.
    let is_due = |card: &Card| card.shown_version < run.version;
    let note = "The outcome has not been delivered in chat: the platform refuses it or can't be reached.";
    let is_missing = !run.state.is_open() && cards.iter().any(|card| is_undelivered(card) && is_due(card));
    is_missing.then(|| Block::Note(note.into()))
}

/// The time that a run waited for approval and start, and the time that it ran; so far, while it does.
struct RunTimes {
    waited: Option<String>,
    ran: Option<String>,
}

impl RunTimes {
    fn of(run: &Run) -> RunTimes {
        let at = |matches: &dyn Fn(&RunEvent) -> bool| {
            run.events.iter().find(|event| matches(event)).map(|event| event.at)
        };
        let started = at(&|event| event.kind == EventKind::Started);
        let ended = at(&|event| !event.state.is_open()).unwrap_or_else(Timestamp::now);
        let was_requested = run.event(EventKind::Requested).is_some();
        RunTimes {
            waited: was_requested.then(|| between(run.opened_at, started.unwrap_or(ended))),
            ran: started.map(|started| between(started, ended)),
        }
    }
}

fn facts(run: &Run) -> Vec<(String, Text)> {
    let request = &run.request;
    let times = RunTimes::of(run);
    let approved_by = approval(run).text;
    let hash = |hash: &str| Text::new().code(hash.chars().take(12).collect::<String>());
    let facts = [
        ("requested by", Some(Text::new().person(&request.requester))),
        ("approved by", (approved_by != "-").then(|| approved_by.into())),
        ("environment", Some(request.environment.as_deref().unwrap_or("none").into())),
        ("risk", Some(request.risk.word().into())),
        ("opened", Some(moment(run.opened_at).into())),
        ("waited", times.waited.map(Text::from)),
        ("ran", times.ran.map(Text::from)),
        ("expires", run.deadline.map(|deadline| moment(deadline).into())),
        ("reason", run.text("reason").map(Text::from)),
        ("command file", Some(hash(&request.command_hash))),
        ("configuration", Some(hash(&request.config_hash))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn plan_blocks(plan: Plan) -> Vec<Block> {
    let digest = plan.digest()[..12].to_owned();
    let identity = plan.identity.into_iter().map(|(name, value)| (name.replace('_', " "), value));
    let facts = identity.chain([("plan".to_owned(), digest)]);
    let facts = facts.map(|(name, value)| (name, Text::new().code(value))).collect();
    let mut blocks = vec![Block::Text(Text::new().strong("Plan: ").plain(plan.effect)), Block::Facts(facts)];
    blocks.extend(plan.code.map(|(title, text)| Block::Code { title: Some(title), text }));
    blocks
}

fn event_table(run: &Run) -> Table {
    let rows = run.events.iter().map(|event| {
        let who = event.by.as_ref().map_or("Countersign", |person| person.id.as_str());
        vec![Cell::from(event.kind.as_str()), who.into(), moment(event.at).into(), details(event).into()]
    });
    let columns = [("event", Left), ("by", Left), ("when", Left), ("details", Left)];
    Table { title: Some("Events".to_owned()), ..table(&columns, rows.collect()) }
}

/// The texts of an event: its reason and verdict. Plan and outcome are shown elsewhere.
fn details(event: &RunEvent) -> String {
    let why = event.facts.get("why").and_then(|why| why.as_str());
    let texts = event.texts.iter().filter(|(name, _)| !["plan", "asked", "outcome"].contains(&name.as_str()));
    let all: Vec<&str> = why.into_iter().chain(texts.map(|(_, text)| text.as_str())).collect();
    all.join("; ")
}
