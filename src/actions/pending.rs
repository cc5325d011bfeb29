//! `pending`: requests that wait for approval, and their approvers. Reads the audit log only.

use super::support::blocks::{
    answer, between, count, may_see, request_text, state, table, unreviewed, verdict,
};
use super::{Call, Query};
use crate::error::Result;
use crate::model::{Block, Cell, Run, RunState, Severity, Shape};
use crate::sql::{Answer, fill};
use crate::store::Filter;
use async_trait::async_trait;
use jiff::Timestamp;

pub struct Pending;

#[async_trait]
impl Query for Pending {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let filter = Filter {
            environment: call.environment.map(str::to_owned),
            states: vec![RunState::Pending, RunState::Approved],
            reads: true,
            ..Filter::default()
        };
        let page = call.app.audit.store.list(filter).await.map_err(anyhow::Error::from)?;
        let runs: Vec<&Run> = page.runs.iter().filter(|run| may_see(call, run)).collect();
        let break_glass = unreviewed(call).await?;
        if runs.is_empty() {
            let none = verdict(Severity::Ok, "No requests are waiting.");
            return Ok(answer(if break_glass.is_empty() { vec![none] } else { break_glass }));
        }
        let now = Timestamp::now();
        let rows = runs.iter().map(|run| row(call, run, now)).collect();
        let columns = [
            ("run", Shape::Right),
            ("command", Shape::Left),
            ("environment", Shape::Left),
            ("requested by", Shape::Left),
            ("age", Shape::Right),
            ("time left", Shape::Right),
            ("approvers", Shape::Left),
        ];
        let words =
            count(runs.len(), "request is waiting for approval.", "requests are waiting for approval.");
        let mut blocks = break_glass;
        blocks.extend([
            verdict(Severity::Warning, words),
            Block::Table(table(&columns, rows)),
            Block::Note(fill("`show <run>` shows one, with its card and buttons.", &|_| None)),
        ]);
        Ok(answer(blocks))
    }
}

fn row(call: &Call<'_>, run: &Run, now: Timestamp) -> Vec<Cell> {
    let request = &run.request;
    let left = run.deadline.map_or("-".to_owned(), |until| between(now, until));
    vec![
        format!("#{}", run.id).into(),
        request_text(run).into(),
        request.environment.clone().unwrap_or_else(|| "-".to_owned()).into(),
        request.requester.id.as_str().into(),
        between(run.opened_at, now).into(),
        left.into(),
        match run.state {
            RunState::Pending => super::support::blocks::approvers(call, run).into(),
            _ => state(run),
        },
    ]
}
