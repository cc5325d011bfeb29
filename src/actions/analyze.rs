//! `analyze`: planner statistics of a table or of a whole database. It works like `vacuum`, with another statement.

use super::vacuum::{self, Operation};
use super::{Action, Call, Execution, Outcome};
use crate::error::Result;
use crate::model::Plan;
use async_trait::async_trait;

/// The command `analyze`.
pub struct Analyze;

#[async_trait]
impl Action for Analyze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        vacuum::plan(call, Operation::Analyze).await
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        vacuum::execute(execution, Operation::Analyze).await
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        vacuum::recover(execution, Operation::Analyze).await
    }
}
