//! `pending`: requests that wait for approval, and their approvers. Reads the audit log only.

use super::Call;
use super::support::blocks::{
    COMMAND, ENVIRONMENT, REQUESTED_BY, RUN, RunColumn, answer, approvers, between, count, may_see, note,
    run_table, state, unreviewed, verdict,
};
use crate::error::Result;
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Run, RunState, Severity};
use crate::sql::Answer;
use crate::store::Filter;
use jiff::Timestamp;

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let filter = Filter {
        environment: call.environment.map(str::to_owned),
        states: vec![RunState::Pending, RunState::Approved],
        include_reads: true,
        ..Filter::default()
    };
    let page = call.runs(filter).await?;
    let runs: Vec<&Run> = page.runs.iter().filter(|run| may_see(call, run)).collect();
    let mut blocks = unreviewed(call).await?;
    if runs.is_empty() {
        if blocks.is_empty() {
            blocks.push(verdict(Severity::Ok, "No requests are waiting."));
        }
        return Ok(answer(blocks));
    }
    let now = Timestamp::now();
    let words = count(runs.len(), "request is waiting for approval.", "requests are waiting for approval.");
    let time_left = |run: &Run| run.deadline.map_or("-".into(), |until| between(now, until).into());
    let approvers = |run: &Run| match run.state {
        RunState::Pending => approvers(call, run).into(),
        _ => state(run),
    };
    let table = run_table(
        &[
            RUN,
            COMMAND,
            ENVIRONMENT,
            REQUESTED_BY,
            RunColumn::new("age", Right, &|run| between(run.opened_at, now).into()),
            RunColumn::new("time left", Right, &time_left),
            RunColumn::new("approvers", Left, &approvers),
        ],
        runs,
    );
    blocks.extend([
        verdict(Severity::Warning, words),
        Block::Table(table),
        note("`show <run>` shows one, with its card and buttons."),
    ]);
    Ok(answer(blocks))
}
