//! `deny`, `withdraw` and `review`: decisions about another run. Each is an event of that run; the command's own run only records who
//! typed it.

use super::support::blocks::run_argument;
use super::{Action, Call, Execution, Outcome};
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run, RunId, RunState, as_text};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// The command `deny`: an approver refuses a pending request.
pub struct Deny;

/// The command `withdraw`: the requester takes back a pending request.
pub struct Withdraw;

/// The command `review`: an approver confirms having looked at a break-glass run.
pub struct Review;

/// Hint where a run can't be reviewed.
const LIST_REVIEWS: &str = "`pending` lists what needs a review.";

#[async_trait]
impl Action for Deny {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "run", "`pending` lists pending requests.").await?;
        let (id, requester) = (run.id, &run.request.requester.id);
        if *requester == call.person.id {
            return Err(Error::instead(
                format!("Request #{id} is yours."),
                format!("`withdraw {id}` takes it back."),
            ));
        }
        ensure_pending(&run)?;
        ensure_may_approve(call, &run)?;
        Ok(RunTarget::plan(&run, format!("Denies request #{id} of {requester}: {}.", run.request.command)))
    }

    fn decided_run(&self, plan: &Plan) -> Option<RunId> {
        RunTarget::of(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        record_decision(execution, EventKind::Denied, "Request #{run} is denied. Nothing was done.").await
    }
}

#[async_trait]
impl Action for Withdraw {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "run", "`pending` lists pending requests.").await?;
        let (id, requester) = (run.id, &run.request.requester.id);
        if *requester != call.person.id {
            return Err(Error::instead(
                format!("Request #{id} is {requester}'s."),
                format!("Only its requester can withdraw it; an approver can `deny {id}`."),
            ));
        }
        ensure_pending(&run)?;
        Ok(RunTarget::plan(&run, format!("Withdraws request #{id}: {}.", run.request.command)))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        record_decision(execution, EventKind::Withdrawn, "Request #{run} is withdrawn.").await
    }
}

#[async_trait]
impl Action for Review {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "run", LIST_REVIEWS).await?;
        let id = run.id;
        if !run.request.break_glass {
            let problem = format!("Run #{id} was no break-glass run: it needs no review.");
            return Err(Error::instead(problem, LIST_REVIEWS));
        }
        if run.request.requester.id == call.person.id {
            return Err(Error::instead(
                "You ran it without approval, so another person has to review it.",
                "Any of its approvers can.",
            ));
        }
        ensure_may_approve(call, &run)?;
        if run.state.is_open() {
            return Err(Error::instead(
                format!("Run #{id} is still in progress: review it when it has ended."),
                format!("`show {id}` shows its state."),
            ));
        }
        if let Some(by) = run.event(EventKind::Reviewed).and_then(|event| event.by.as_ref()) {
            return Err(Error::instead(format!("{} has already reviewed run #{id}.", by.id), LIST_REVIEWS));
        }
        Ok(RunTarget::plan(&run, format!("Records that {} has reviewed run #{id}.", call.person.id)))
    }

    fn decided_run(&self, plan: &Plan) -> Option<RunId> {
        RunTarget::of(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        record_decision(execution, EventKind::Reviewed, "Run #{run} is reviewed.").await
    }
}

/// The run that a command is about.
#[derive(Serialize, Deserialize)]
pub struct RunTarget {
    #[serde(with = "as_text")]
    pub run: RunId,
}

impl RunTarget {
    /// Builds a plan about a run.
    pub fn plan(run: &Run, effect: String) -> Plan {
        let mut plan = Plan::of(effect);
        plan.set_target(&RunTarget { run: run.id });
        plan
    }

    /// Reads the run's number from a plan.
    pub fn of(plan: &Plan) -> Option<RunId> {
        plan.target::<RunTarget>().map(|target| target.run)
    }
}

fn ensure_pending(run: &Run) -> Result<()> {
    if run.state == RunState::Pending {
        return Ok(());
    }
    Err(Error::instead(
        format!("Request #{} isn't pending: it is {}.", run.id, run.state.word()),
        format!("`show {}` shows its details; `pending` lists pending requests.", run.id),
    ))
}

fn ensure_may_approve(call: &Call<'_>, run: &Run) -> Result<()> {
    let environment = run.request.environment.as_deref();
    let command = call.app.catalog.find(&run.request.command);
    if command.is_some_and(|command| call.app.access.may_approve(call.person, command, environment)) {
        return Ok(());
    }
    let place = environment.map_or(String::new(), |name| format!(" in {name}"));
    Err(Error::user(format!("You have no role that approves `{}`{place}.", run.request.command)))
}

/// Details of the event that a decision is: the person, and the reason if one was given.
pub fn decision_details(execution: &Execution<'_>) -> EventDetails {
    let details = EventDetails::by(&execution.run.request.requester);
    match execution.run.text("reason") {
        Some(reason) => details.text("why", reason),
        None => details,
    }
}

/// Appends the decision to the other run, if that run still allows it.
async fn record_decision(execution: &Execution<'_>, kind: EventKind, verdict: &str) -> Outcome {
    let id = RunTarget::of(execution.plan).unwrap_or_default();
    match execution.app.audit.note(id, kind, decision_details(execution)).await {
        Ok(Some(_)) => Outcome::done(verdict.replace("{run}", &id.to_string())),
        Ok(None) => Outcome::failed(format!("Run #{id} was decided in the meantime: see `show {id}`.")),
        Err(err) => Outcome::failed(format!("The decision could not be recorded: {err}")),
    }
}
