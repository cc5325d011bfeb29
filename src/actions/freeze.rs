//! `freeze` stops all changes at once, in every replica; `unfreeze` lifts the freeze that was shown, with a second person.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{ActiveFreeze, Plan, Text, as_text};
use crate::sql::moment;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The command `freeze`.
pub struct Freeze;

/// The command `unfreeze`.
pub struct Unfreeze;

/// The freeze that the approver saw.
#[derive(Serialize, Deserialize)]
struct UnfreezeTarget {
    #[serde(with = "as_text")]
    frozen_at: Timestamp,
}

#[async_trait]
impl Action for Freeze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        if let Some(freeze) = call.app.audit.store.frozen().await.map_err(anyhow::Error::from)? {
            return Err(Error::user(format!(
                "{} has already frozen all changes, at {}.",
                freeze.by.id,
                moment(freeze.at)
            )));
        }
        let mut plan =
            Plan::of("Freezes all changes, in every environment, for everyone. Read commands still work.");
        plan.impact =
            "Pending requests can't be approved while the freeze lasts. Work that is running continues."
                .to_owned();
        plan.rollback = "`unfreeze`, with a second person.".to_owned();
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let freeze = ActiveFreeze {
            by: execution.run.request.requester.clone(),
            at: Timestamp::now(),
            reason: execution.run.text("reason").map(str::to_owned),
        };
        match execution.app.audit.store.set_frozen(Some(freeze)).await {
            Ok(()) => Outcome::done(
                Text::new()
                    .plain("All changes are frozen. Read commands still work. Lift the freeze with ")
                    .code("unfreeze")
                    .plain(" and a second person."),
            ),
            Err(err) => Outcome::failed(format!("Freezing failed: {err}")),
        }
    }
}

#[async_trait]
impl Action for Unfreeze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let freeze = call.app.audit.store.frozen().await.map_err(anyhow::Error::from)?;
        let freeze = freeze.ok_or_else(|| Error::user("Nothing is frozen: changes are allowed."))?;
        let mut plan = Plan::of("Lifts the freeze, in every environment.");
        plan.set_target(&UnfreezeTarget { frozen_at: freeze.at });
        plan.add_context("frozen by", freeze.by.id);
        plan.add_context("reason", freeze.reason.unwrap_or_else(|| "none given".to_owned()));
        plan.rollback = "`freeze`.".to_owned();
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let store = &execution.app.audit.store;
        let shown = execution.plan.target::<UnfreezeTarget>().map(|target| target.frozen_at);
        let lifted = match store.frozen().await {
            Ok(Some(freeze)) if Some(freeze.at) == shown => store.set_frozen(None).await,
            Ok(_) => return Outcome::invalidated("The freeze that was shown is no longer in force."),
            Err(err) => Err(err),
        };
        match lifted {
            Ok(()) => Outcome::done("The freeze is lifted: changes are allowed again."),
            Err(err) => Outcome::failed(format!("Lifting the freeze failed: {err}")),
        }
    }
}
