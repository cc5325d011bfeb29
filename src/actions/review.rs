//! `review`: an approver confirms having looked at a break-glass run.

use super::support::blocks::run_argument;
use super::support::decision::{RunTarget, ensure_may_approve, record_decision};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run, RunId};
use async_trait::async_trait;

pub struct Review;

const LIST_REVIEWS: &str = "`pending` lists what needs a review.";

#[async_trait]
impl Action for Review {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "run", LIST_REVIEWS).await?;
        self.check_run(call, &run)?;
        let (id, reviewer) = (run.id, &call.person.id);
        Ok(RunTarget::plan(&run, format!("Records that {reviewer} has reviewed run #{id}.")))
    }

    fn check_run(&self, call: &Call<'_>, run: &Run) -> Result<()> {
        let id = run.id;
        if !run.request.break_glass {
            let problem = format!("Run #{id} was no break-glass run: it needs no review.");
            return Err(Error::instead(problem, LIST_REVIEWS));
        }
        if run.state.is_open() {
            let problem = format!("Run #{id} is still in progress: review it when it has ended.");
            return Err(Error::instead(problem, format!("`show {id}` shows its state.")));
        }
        if let Some(by) = run.event(EventKind::Reviewed).and_then(|event| event.by.as_ref()) {
            return Err(Error::instead(format!("{} has already reviewed run #{id}.", by.id), LIST_REVIEWS));
        }
        if run.request.requester.id == call.person.id {
            let problem = "You ran it without approval, so another person has to review it.";
            return Err(Error::instead(problem, "Any of its approvers can."));
        }
        ensure_may_approve(call, run)
    }

    fn decided_run(&self, plan: &Plan) -> Option<RunId> {
        RunTarget::of(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        record_decision(execution, EventKind::Reviewed, "Run #{run} is reviewed.").await
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::RunVersion]
    }
}
