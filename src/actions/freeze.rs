//! `freeze` stops all acting at once, in every replica; `unfreeze` needs a second person.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{ActiveFreeze, EventKind, Plan, Text};
use async_trait::async_trait;

pub struct Freeze;
pub struct Unfreeze;

#[async_trait]
impl Action for Freeze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        if let Some(frozen) = call.app.audit.store.frozen().await.map_err(anyhow::Error::from)? {
            return Err(Error::user(format!("{} froze all acting already, at {}.", frozen.by.id, frozen.at)));
        }
        let mut plan = Plan::of("Stops all acting, in every environment, for everyone. Reading goes on.");
        plan.impact =
            "Whoever has a request waiting: it can't be approved meanwhile. Work that runs goes on."
                .to_owned();
        plan.rollback = "`unfreeze`, with a second person.".to_owned();
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let frozen = ActiveFreeze {
            by: doing.run.request.requester.clone(),
            at: jiff::Timestamp::now(),
            reason: doing.run.text("reason").map(str::to_owned),
        };
        match doing.app.audit.store.set_frozen(Some(frozen)).await {
            Ok(()) => Outcome::new(
                EventKind::Succeeded,
                Text::new()
                    .plain("All acting is frozen. Reading goes on. Lift it with ")
                    .code("unfreeze")
                    .plain(" and a second person."),
            ),
            Err(why) => Outcome::new(EventKind::Failed, format!("Nothing is frozen: {why}.")),
        }
    }
}

#[async_trait]
impl Action for Unfreeze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let frozen = call.app.audit.store.frozen().await.map_err(anyhow::Error::from)?;
        let frozen = frozen.ok_or_else(|| Error::user("Nothing is frozen: commands act as usual."))?;
        let mut plan = Plan::of("Lets commands act again, in every environment.");
        plan.identity.insert("frozen_at".to_owned(), frozen.at.to_string());
        plan.context.push(("frozen by".to_owned(), frozen.by.id));
        plan.context.push(("reason".to_owned(), frozen.reason.unwrap_or_else(|| "none given".to_owned())));
        plan.rollback = "`freeze`.".to_owned();
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let store = &doing.app.audit.store;
        let shown = doing.plan.identity.get("frozen_at");
        match store.frozen().await {
            Ok(Some(now)) if Some(&now.at.to_string()) == shown => {}
            Ok(_) => {
                return Outcome::new(
                    EventKind::Invalidated,
                    "The freeze that was shown is no longer the one in force.",
                );
            }
            Err(why) => return Outcome::new(EventKind::Failed, format!("Still frozen: {why}.")),
        }
        match store.set_frozen(None).await {
            Ok(()) => Outcome::new(EventKind::Succeeded, "Commands act again."),
            Err(why) => Outcome::new(EventKind::Failed, format!("Still frozen: {why}.")),
        }
    }
}
