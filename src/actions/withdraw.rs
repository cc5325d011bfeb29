//! `withdraw`: the requester takes back a pending request.

use super::support::blocks::run_argument;
use super::support::decision::{RunTarget, ensure_pending, record_decision};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run};
use async_trait::async_trait;

pub struct Withdraw;

#[async_trait]
impl Action for Withdraw {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "run", "`pending` lists pending requests.").await?;
        self.check_run(call, &run)?;
        Ok(RunTarget::plan(&run, format!("Withdraws request #{}: {}.", run.id, run.request.command)))
    }

    fn check_run(&self, call: &Call<'_>, run: &Run) -> Result<()> {
        ensure_pending(run)?;
        let (id, requester) = (run.id, &run.request.requester.id);
        if *requester == call.person.id {
            return Ok(());
        }
        let deny = format!("Only its requester can withdraw it; an approver can `deny {id}`.");
        Err(Error::instead(format!("Request #{id} is {requester}'s."), deny))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        record_decision(execution, EventKind::Withdrawn, "Request #{run} is withdrawn.").await
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::RunVersion]
    }
}
