//! `withdraw <run>`: the requester takes a request back. Each state change is the target run's own event.

use super::{Act, Call, Doing, Outcome};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::runs::{Happening, Told};
use crate::store::{Appended, Run, State};
use async_trait::async_trait;

pub struct Withdraw;

#[async_trait]
impl Act for Withdraw {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = wanted(call).await?;
        if run.request.requester.id != call.person.id {
            return Err(Error::instead(
                format!("Request #{} is {}'s.", run.id, run.request.requester.id),
                "Only its requester can withdraw it; an approver can deny it on its card.",
            ));
        }
        if run.state != State::Pending {
            return Err(Error::user(format!("Request #{} waits for nobody: it is {:?}.", run.id, run.state)));
        }
        let mut plan = Plan::of(format!("Takes back request #{}: {}.", run.id, run.request.command));
        plan.identity.insert("run".to_owned(), run.id.to_string());
        Ok(plan)
    }

    async fn act(&self, doing: &Doing<'_>) -> Outcome {
        let failed = |why: String| Outcome::new(Happening::Failed, why);
        let id = doing.plan.identity.get("run").and_then(|id| id.parse().ok()).unwrap_or_default();
        let run = match doing.app.runs.store.get(id).await {
            Ok(Some(run)) => run,
            Ok(None) => return failed(format!("There is no run #{id}.")),
            Err(why) => return failed(format!("Nothing changed: {why}.")),
        };
        let told = Told::by(&doing.run.request.requester);
        match doing.app.runs.append(&run, Happening::Withdrawn, told).await {
            Ok(Appended::Done(_)) => {
                Outcome::new(Happening::Succeeded, format!("Request #{id} is withdrawn."))
            }
            Ok(_) => failed(format!("Somebody was faster: see `show {id}`.")),
            Err(why) => failed(format!("Nothing changed: {why}.")),
        }
    }
}

async fn wanted(call: &Call<'_>) -> Result<Run> {
    let id = call.values.get("run").and_then(|id| id.parse().ok()).unwrap_or_default();
    let found = call.app.runs.store.get(id).await.map_err(anyhow::Error::from)?;
    found.ok_or_else(|| Error::instead(format!("There is no run #{id}."), "`pending` lists what waits."))
}
