//! `use <environment>`: binds a conversation to an environment.

use super::{Action, Call, EffectGuard, Execution, Outcome, RunLost};
use crate::error::{Error, Result};
use crate::model::{Plan, Text};
use crate::store::Binding;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub struct Use;

#[derive(Serialize, Deserialize)]
struct UseTarget {
    environment: String,
}

#[async_trait]
impl Action for Use {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.app.environments.environment(call.value("environment").unwrap_or_default())?;
        if !call.app.access.may_run(call.person, call.command, Some(&environment.name)) {
            return Err(Error::user(format!("You may not work in {}.", environment.name)));
        }
        let mut plan = Plan::of(format!("This channel uses {} from now on.", environment.name));
        plan.set_target(&UseTarget { environment: environment.name.clone() });
        plan.rollback = "Type `use` with another environment.".to_owned();
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let Some(UseTarget { environment }) = execution.plan.target() else {
            return Outcome::invalidated("The plan names no environment.");
        };
        let conversation = execution.run.request.conversation.clone();
        let while_executing = Some(execution.run.id);
        let binding = Binding { conversation, environment: environment.clone(), while_executing };
        match execution.app.audit.store.bind_conversation(binding).await {
            Ok(true) => {
                let words = Text::from("This channel now uses ").strong(environment);
                Outcome::done(words.plain(". To change it, type ").code("use").plain(" again."))
            }
            Ok(false) => RunLost.into(),
            Err(err) => Outcome::failed(format!("The channel's environment could not be stored: {err}")),
        }
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::RunningRun, EffectGuard::Repeatable]
    }
}
