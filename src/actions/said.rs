//! `deny`, `withdraw` and `review`: what somebody says of a run. It is the run's own event; the command's run only tells who typed it.

use super::support::blocks::run_argument;
use super::{Action, Call, Execution, Outcome};
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run, RunId, RunState};
use async_trait::async_trait;

pub struct Deny;
pub struct Review;
pub struct Withdraw;

#[async_trait]
impl Action for Withdraw {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "`pending` lists what waits.").await?;
        if run.request.requester.id != call.person.id {
            return Err(Error::instead(
                format!("Request #{} is {}'s.", run.id, run.request.requester.id),
                format!("Only its requester can withdraw it; an approver can `deny {}`.", run.id),
            ));
        }
        waits(&run)?;
        Ok(plan(&run, format!("Takes back request #{}: {}.", run.id, run.request.command)))
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        say(doing, EventKind::Withdrawn, "Request #{run} is withdrawn.").await
    }
}

#[async_trait]
impl Action for Deny {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "`pending` lists what waits.").await?;
        if run.request.requester.id == call.person.id {
            return Err(Error::instead(
                format!("Request #{} is yours.", run.id),
                format!("`withdraw {}` takes it back.", run.id),
            ));
        }
        waits(&run)?;
        may_judge(call, &run)?;
        Ok(plan(
            &run,
            format!("Refuses request #{} of {}: {}.", run.id, run.request.requester.id, run.request.command),
        ))
    }

    fn judges(&self, plan: &Plan) -> Option<RunId> {
        said_of(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        say(doing, EventKind::Denied, "Request #{run} is refused. Nothing was done.").await
    }
}

#[async_trait]
impl Action for Review {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "`pending` lists what has to be reviewed.").await?;
        if !run.request.break_glass {
            return Err(Error::instead(
                format!("Nobody did run #{} alone: there is nothing to review.", run.id),
                "`pending` lists what has to be reviewed.",
            ));
        }
        if run.request.requester.id == call.person.id {
            return Err(Error::instead(
                "You did it alone, so somebody else has to look at it.",
                "Whoever could have approved it can.",
            ));
        }
        may_judge(call, &run)?;
        if run.state.is_open() {
            return Err(Error::instead(
                format!("Run #{} goes on: review it when it is over.", run.id),
                format!("`show {}` tells when it is.", run.id),
            ));
        }
        if let Some(by) = run.event(EventKind::Reviewed.word()).and_then(|event| event.by.as_ref()) {
            return Err(Error::instead(
                format!("{} has reviewed run #{} already.", by.id, run.id),
                "`pending` lists what has to be reviewed.",
            ));
        }
        Ok(plan(&run, format!("Notes that {} has reviewed run #{}.", call.person.id, run.id)))
    }

    fn judges(&self, plan: &Plan) -> Option<RunId> {
        said_of(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        say(doing, EventKind::Reviewed, "Run #{run} is reviewed.").await
    }
}

fn plan(run: &Run, effect: String) -> Plan {
    let mut plan = Plan::of(effect);
    plan.identity.insert("run".to_owned(), run.id.to_string());
    plan
}

fn waits(run: &Run) -> Result<()> {
    if run.state == RunState::Pending {
        return Ok(());
    }
    let state = format!("{:?}", run.state).to_lowercase();
    Err(Error::instead(
        format!("Request #{} waits for nobody: it is {state}.", run.id),
        format!("`show {}` tells it all; `pending` lists what waits.", run.id),
    ))
}

/// Whoever may approve it.
fn may_judge(call: &Call<'_>, run: &Run) -> Result<()> {
    let environment = run.request.environment.as_deref();
    let command = call.app.catalog.find(&run.request.command);
    if command.is_some_and(|command| call.app.access.may_approve(call.person, command, environment)) {
        return Ok(());
    }
    let place = environment.map_or(String::new(), |name| format!(" in {name}"));
    Err(Error::user(format!("You have no role that approves `{}`{place}.", run.request.command)))
}

fn said_of(plan: &Plan) -> Option<RunId> {
    plan.identity.get("run")?.parse().ok()
}

async fn say(doing: &Execution<'_>, happening: EventKind, done: &str) -> Outcome {
    let id = said_of(doing.plan).unwrap_or_default();
    let mut told = EventDetails::by(&doing.run.request.requester);
    if let Some(reason) = doing.run.text("reason") {
        told = told.text("why", reason);
    }
    match doing.app.audit.note(id, happening, told).await {
        Ok(Some(_)) => Outcome::new(EventKind::Succeeded, done.replace("{run}", &id.to_string())),
        Ok(None) => Outcome::new(EventKind::Failed, format!("Somebody was faster: see `show {id}`.")),
        Err(why) => Outcome::new(EventKind::Failed, format!("Nothing changed: {why}.")),
    }
}
