//! `use <environment>`: binds a conversation to an environment.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Text};
use async_trait::async_trait;

pub struct Use;

#[async_trait]
impl Action for Use {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run_argument = call.values.get("environment").map(String::as_str).unwrap_or_default();
        let environment = call.app.environments.environment(run_argument)?;
        if !call.app.access.may_run(call.person, call.command, Some(&environment.name)) {
            return Err(Error::user(format!("You may not work in {}.", environment.name)));
        }
        let mut plan = Plan::of(format!("This conversation speaks of {} from now on.", environment.name));
        plan.identity.insert("environment".to_owned(), environment.name.clone());
        plan.rollback = "Type `use` with another environment.".to_owned();
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let environment = doing.plan.identity.get("environment").cloned().unwrap_or_default();
        match doing.app.audit.store.bind(doing.run.request.place.clone(), environment.clone()).await {
            Ok(()) => Outcome::new(
                EventKind::Succeeded,
                Text::new()
                    .plain("Commands here now speak of ")
                    .strong(environment)
                    .plain(", until someone types ")
                    .code("use")
                    .plain(" again."),
            ),
            Err(why) => Outcome::new(EventKind::Failed, format!("Nothing changed: {why}.")),
        }
    }
}
