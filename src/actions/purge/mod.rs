//! `purge`: a table's old rows, deleted in batches up to one cutoff, which is computed once, when it is planned. It is resumable:
//! checkpoints are noted, deleting the same rows again deletes nothing, and one purge of a table runs at a time.

use super::{Action, Call, Execution, Outcome};
use crate::clock::duration_seconds;
use crate::command_line::Values;
use crate::error::Result;
use crate::model::{Plan, Run};
use async_trait::async_trait;
use std::time::Duration;

mod batch;
mod execute;
mod lag;
mod plan;
mod spec;
mod text;

use execute::PurgeProgress;
use spec::PurgeSpec;

pub struct Purge;

#[async_trait]
impl Action for Purge {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan::plan(call).await
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute::execute(execution).await
    }

    fn is_resumable(&self) -> bool {
        true
    }

    fn outcome_if_abandoned(&self, run: &Run) -> Option<Outcome> {
        let spec: PurgeSpec = run.text("plan").and_then(Plan::read)?.target()?;
        let progress = PurgeProgress { at_least: true, ..PurgeProgress::last_checkpoint(run, &spec) };
        Some(text::abandoned_outcome(run, &spec, &progress))
    }
}

fn max_lag(arguments: &Values) -> Duration {
    let seconds = arguments.get("most-lag").and_then(|typed| duration_seconds(typed));
    Duration::from_secs(seconds.unwrap_or(30))
}

fn resource(database: &str, relation: &str) -> String {
    format!("purge of {database}: {relation}")
}
