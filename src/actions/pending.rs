//! `pending`: the requests that wait, and for whom. Reads the record only.

use super::support::blocks::{answer, asked, between, count, may_see, state, table, unreviewed, verdict};
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
        let listed = call.app.audit.store.list(filter).await.map_err(anyhow::Error::from)?;
        let runs: Vec<&Run> = listed.runs.iter().filter(|run| may_see(call, run)).collect();
        let break_glass = unreviewed(call).await?;
        if runs.is_empty() {
            let nothing = verdict(Severity::Ok, "Nothing waits for anyone.");
            return Ok(answer(if break_glass.is_empty() { vec![nothing] } else { break_glass }));
        }
        let now = Timestamp::now();
        let rows = runs.iter().map(|run| row(call, run, now)).collect();
        let columns = [
            ("run", Shape::Right),
            ("what", Shape::Left),
            ("environment", Shape::Left),
            ("asked by", Shape::Left),
            ("age", Shape::Right),
            ("time left", Shape::Right),
            ("who may approve", Shape::Left),
        ];
        let words = count(runs.len(), "request waits.", "requests wait.");
        let mut blocks = break_glass;
        blocks.extend([
            verdict(Severity::Warning, words),
            Block::Table(table(&columns, rows)),
            Block::Note(fill("`show <run>` tells all about one; its card has the buttons.", &|_| None)),
        ]);
        Ok(answer(blocks))
    }
}

fn row(call: &Call<'_>, run: &Run, now: Timestamp) -> Vec<Cell> {
    let request = &run.request;
    let left = run.deadline.map_or("-".to_owned(), |until| between(now, until));
    vec![
        format!("#{}", run.id).into(),
        asked(run).into(),
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
