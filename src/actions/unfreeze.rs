//! `unfreeze`: lifts the freeze that was shown, with a second person.

use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{Plan, as_text};
use crate::store::FreezeChange;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub struct Unfreeze;

const NOT_IN_FORCE: &str = "The freeze that was shown is no longer in force.";

/// The freeze that the approver saw.
#[derive(Serialize, Deserialize)]
struct UnfreezeTarget {
    #[serde(with = "as_text")]
    frozen_at: Timestamp,
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
            Ok(Some(freeze)) if Some(freeze.at) == shown => {
                let while_executing = Some(execution.run.id);
                store.change_freeze(FreezeChange { from: Some(freeze), to: None, while_executing }).await
            }
            Ok(_) => return Outcome::invalidated(NOT_IN_FORCE),
            Err(err) => Err(err),
        };
        match lifted {
            Ok(true) => Outcome::done("The freeze is lifted: changes are allowed again."),
            Ok(false) => match execution.ensure_current().await {
                Ok(()) => Outcome::invalidated(NOT_IN_FORCE),
                Err(lost) => lost.into(),
            },
            Err(err) => Outcome::failed(format!("Lifting the freeze failed: {err}")),
        }
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::RunningRun, EffectGuard::PlannedTarget]
    }
}
