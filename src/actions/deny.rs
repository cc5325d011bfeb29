//! `deny`: an approver refuses a pending request.

use super::support::blocks::run_argument;
use super::support::decision::{RunTarget, ensure_may_approve, ensure_pending, record_decision};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run, RunId};
use async_trait::async_trait;

pub struct Deny;

#[async_trait]
impl Action for Deny {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "run", "`pending` lists pending requests.").await?;
        self.check_run(call, &run)?;
        let (id, requester) = (run.id, &run.request.requester.id);
        Ok(RunTarget::plan(&run, format!("Denies request #{id} of {requester}: {}.", run.request.command)))
    }

    fn check_run(&self, call: &Call<'_>, run: &Run) -> Result<()> {
        ensure_pending(run)?;
        let id = run.id;
        if run.request.requester.id == call.person.id {
            let withdraw = format!("`withdraw {id}` takes it back.");
            return Err(Error::instead(format!("Request #{id} is yours."), withdraw));
        }
        ensure_may_approve(call, run)
    }

    fn decided_run(&self, plan: &Plan) -> Option<RunId> {
        RunTarget::of(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        record_decision(execution, EventKind::Denied, "Request #{run} is denied. Nothing was done.").await
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::RunVersion]
    }
}
