//! `freeze`: stops all changes at once, in every replica.

use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{ActiveFreeze, Plan, Text};
use crate::sql::moment;
use crate::store::FreezeChange;
use async_trait::async_trait;
use jiff::Timestamp;

pub struct Freeze;

#[async_trait]
impl Action for Freeze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        if let Some(freeze) = call.app.audit.store.frozen().await.map_err(anyhow::Error::from)? {
            let (who, at) = (freeze.by.id, moment(freeze.at));
            return Err(Error::user(format!("{who} has already frozen all changes, at {at}.")));
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
        let store = &execution.app.audit.store;
        let freeze = ActiveFreeze {
            by: execution.run.request.requester.clone(),
            at: Timestamp::now(),
            reason: execution.run.text("reason").map(str::to_owned),
        };
        let change = FreezeChange { from: None, to: Some(freeze), while_executing: Some(execution.run.id) };
        match store.change_freeze(change).await {
            Ok(true) => {
                let words = "All changes are frozen. Read commands still work. Lift the freeze with ";
                Outcome::done(Text::from(words).code("unfreeze").plain(" and a second person."))
            }
            Ok(false) => match execution.ensure_current().await {
                Ok(()) => Outcome::invalidated("All changes have been frozen in the meantime."),
                Err(lost) => lost.into(),
            },
            Err(err) => Outcome::failed(format!("Freezing failed: {err}")),
        }
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::RunningRun, EffectGuard::PlannedTarget]
    }
}
