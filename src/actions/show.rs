//! `show <run>`: one run from the audit log: the request, the plan, every event and the outcome. The card of a pending run is posted
//! again, since the first may have scrolled away.

use super::support::blocks::{answer, between, may_see, request_text, state, table, verdict};
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
        let run = call.app.audit.store.get(id).await.map_err(anyhow::Error::from)?;
        // Without access to its environment, a run looks like one that doesn't exist.
        let run = run.filter(|run| may_see(call, run)).ok_or_else(|| {
            Error::instead(format!("There is no run #{id}."), "`history` and `pending` list them.")
        })?;
        let outcome = state(&run);
        let mut text = Text::new()
            .plain(format!("#{id} "))
            .code(request_text(&run))
            .plain(format!(": {}", outcome.text));
        if let Some(verdict) = run.text("verdict").filter(|verdict| !verdict.is_empty()) {
            text = text.plain(format!(". {verdict}"));
        }
        let mut blocks = vec![verdict(outcome.tone, text), Block::Facts(facts(&run))];
        if let Some(plan) = run.text("plan").and_then(Plan::read) {
            blocks.extend(plan_blocks(&plan));
        }
        blocks.extend(outcome_blocks(&run));
        blocks.push(Block::Table(event_table(&run)));
        let card = (run.state == RunState::Pending).then_some(id);
        Ok(Answer { card, ..answer(blocks) })
    }
}

fn facts(run: &Run) -> Vec<(String, Text)> {
    let request = &run.request;
    let mut facts = vec![
        ("requested by".to_owned(), Text::new().person(&request.requester)),
        ("environment".to_owned(), request.environment.clone().unwrap_or_else(|| "none".to_owned()).into()),
        ("risk".to_owned(), request.risk.word().into()),
        ("opened".to_owned(), moment(run.opened_at).into()),
        ("took".to_owned(), between(run.opened_at, run.changed_at).into()),
    ];
    if let Some(deadline) = run.deadline {
        facts.push(("expires".to_owned(), moment(deadline).into()));
    }
    if let Some(reason) = run.text("reason") {
        facts.push(("reason".to_owned(), reason.into()));
    }
    let hash = |hash: &str| Text::new().code(hash.chars().take(12).collect::<String>());
    facts.push(("command file".to_owned(), hash(&request.command_hash)));
    facts.push(("configuration".to_owned(), hash(&request.config_hash)));
    facts
}

fn plan_blocks(plan: &Plan) -> Vec<Block> {
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

/// Blocks below the verdict of a run that has ended: the result for each target.
fn outcome_blocks(run: &Run) -> Vec<Block> {
    let outcome = run.text("outcome").and_then(|text| serde_json::from_str::<(Text, Vec<Block>)>(text).ok());
    outcome.map_or(Vec::new(), |(_, blocks)| blocks)
}

fn event_table(run: &Run) -> crate::model::Table {
    let rows = run.events.iter().map(|event| {
        let who = event.by.as_ref().map_or("Countersign", |person| person.id.as_str());
        vec![Cell::from(moment(event.at)), event.kind.as_str().into(), who.into(), details(event).into()]
    });
    let columns =
        [("when", Shape::Left), ("event", Shape::Left), ("by", Shape::Left), ("details", Shape::Left)];
    let mut table = table(&columns, rows.collect());
    table.title = Some("Events".to_owned());
    table
}

/// The texts of an event: its reason and verdict. Plan and outcome are shown elsewhere.
fn details(event: &RunEvent) -> String {
    let why = event.facts.get("why").and_then(|why| why.as_str()).map(str::to_owned);
    let texts = event.texts.iter().filter(|(name, _)| !["plan", "asked", "outcome"].contains(&name.as_str()));
    let all: Vec<String> = why.into_iter().chain(texts.map(|(_, text)| text.clone())).collect();
    all.join("; ")
}
