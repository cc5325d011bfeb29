//! The mechanics of `deny`, `withdraw`, `review` and `stop`: an event of another run. The command's own run only records who typed it.

use crate::actions::{Call, Execution, Outcome};
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run, RunId, RunState, as_text};
use serde::{Deserialize, Serialize};

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

/// Refuses a decision about a request that needs none any more.
pub fn ensure_pending(run: &Run) -> Result<()> {
    if run.state == RunState::Pending {
        return Ok(());
    }
    Err(Error::instead(
        format!("Request #{} isn't pending: it is {}.", run.id, run.state.word()),
        format!("`show {}` shows its details; `pending` lists pending requests.", run.id),
    ))
}

/// Requires a role that approves the run's command there.
pub fn ensure_may_approve(call: &Call<'_>, run: &Run) -> Result<()> {
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
    let details = EventDetails::by_person(&execution.run.request.requester);
    match execution.run.text("reason") {
        Some(reason) => details.with_text("why", reason),
        None => details,
    }
}

/// Appends the decision to the other run, if that run still allows it.
pub async fn record_decision(execution: &Execution<'_>, kind: EventKind, verdict: &str) -> Outcome {
    let id = RunTarget::of(execution.plan).unwrap_or_default();
    match execution.app.audit.append_to_current(id, kind, decision_details(execution)).await {
        Ok(Some(_)) => Outcome::done(verdict.replace("{run}", &id.to_string())),
        Ok(None) => Outcome::failed(format!("Run #{id} was decided in the meantime: see `show {id}`.")),
        Err(err) => Outcome::failed(format!("The decision could not be recorded: {err}")),
    }
}
