//! `show <run>`: the whole story of one run, as the record has it: what was asked, the plan, every event with who and when,
//! and the outcome. Of one that waits, the card is posted again: the first may have scrolled away.

use super::support::blocks::{answer, asked, between, may_see, state, table, verdict};
use super::{Call, Query};
use crate::error::{Error, Result};
use crate::model::{Block, Cell, Plan, Run, RunEvent, RunState, Shape, Text};
use crate::sql::{Answer, moment};
use async_trait::async_trait;

pub struct Show;

#[async_trait]
impl Query for Show {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let id = call.values.get("run").and_then(|id| id.parse().ok()).unwrap_or_default();
        let found = call.app.audit.store.get(id).await.map_err(anyhow::Error::from)?;
        // Whose environment it isn't learns no more than that.
        let run = found.filter(|run| may_see(call, run)).ok_or_else(|| {
            Error::instead(format!("There is no run #{id}."), "`history` and `pending` list them.")
        })?;
        let outcome = state(&run);
        let mut text =
            Text::new().plain(format!("#{id} ")).code(asked(&run)).plain(format!(": {}", outcome.text));
        if let Some(told) = run.text("verdict").filter(|told| !told.is_empty()) {
            text = text.plain(format!(". {told}"));
        }
        let mut blocks = vec![verdict(outcome.tone, text), Block::Facts(facts(&run))];
        if let Some(plan) = run.text("plan").and_then(Plan::read) {
            blocks.extend(planned(&plan));
        }
        blocks.extend(became(&run));
        blocks.push(Block::Table(story(&run)));
        let card = (run.state == RunState::Pending).then_some(id);
        Ok(Answer { card, ..answer(blocks) })
    }
}

fn facts(run: &Run) -> Vec<(String, Text)> {
    let request = &run.request;
    let mut facts = vec![
        ("asked by".to_owned(), Text::new().person(&request.requester)),
        ("environment".to_owned(), request.environment.clone().unwrap_or_else(|| "none".to_owned()).into()),
        ("risk".to_owned(), request.risk.word().into()),
        ("opened".to_owned(), moment(run.opened_at).into()),
        ("took".to_owned(), between(run.opened_at, run.changed_at).into()),
    ];
    if let Some(deadline) = run.deadline {
        facts.push(("ends by itself".to_owned(), moment(deadline).into()));
    }
    if let Some(reason) = run.text("reason") {
        facts.push(("reason".to_owned(), reason.into()));
    }
    let hash = |hash: &str| Text::new().code(hash.chars().take(12).collect::<String>());
    facts.push(("command's file".to_owned(), hash(&request.command_hash)));
    facts.push(("configuration".to_owned(), hash(&request.config_hash)));
    facts
}

fn planned(plan: &Plan) -> Vec<Block> {
    let mut facts: Vec<(String, Text)> = plan
        .identity
        .iter()
        .map(|(name, value)| (name.replace('_', " "), Text::new().code(value.clone())))
        .collect();
    facts.push(("plan".to_owned(), Text::new().code(plan.digest()[..12].to_owned())));
    let mut blocks =
        vec![Block::Text(Text::new().strong("Plan: ").plain(plan.effect.clone())), Block::Facts(facts)];
    if let Some((title, text)) = &plan.code {
        blocks.push(Block::Code { title: Some(title.clone()), text: text.clone() });
    }
    blocks
}

/// What stands below the verdict of a run that is over: what became of each target.
fn became(run: &Run) -> Vec<Block> {
    let told = run.text("outcome").and_then(|told| serde_json::from_str::<(Text, Vec<Block>)>(told).ok());
    told.map_or(Vec::new(), |(_, blocks)| blocks)
}

fn story(run: &Run) -> crate::model::Table {
    let rows = run.events.iter().map(|event| {
        let who = event.by.as_ref().map_or("Countersign", |person| person.id.as_str());
        vec![Cell::from(moment(event.at)), event.kind.as_str().into(), who.into(), told(event).into()]
    });
    let columns = [("when", Shape::Left), ("what", Shape::Left), ("who", Shape::Left), ("why", Shape::Left)];
    let mut table = table(&columns, rows.collect());
    table.title = Some("What happened".to_owned());
    table
}

/// What an event says for people: a reason, a why, a verdict. The plan stands elsewhere, and the outcome is the verdict with its blocks.
fn told(event: &RunEvent) -> String {
    let why = event.facts.get("why").and_then(|why| why.as_str()).map(str::to_owned);
    let texts = event.texts.iter().filter(|(name, _)| !["plan", "asked", "outcome"].contains(&name.as_str()));
    let all: Vec<String> = why.into_iter().chain(texts.map(|(_, text)| text.clone())).collect();
    all.join("; ")
}
