//! `schedule-pause` and `schedule-resume`: a paused window starts nothing by itself. The pause is the run itself: the newest of a
//! window's runs of the two commands in the audit log decides, for every replica.

use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::command_line::as_word;
use crate::error::{Error, Result};
use crate::model::{Plan, Text};
use crate::schedule::{self, PauseState, WINDOW};
use crate::sql::{minute, moment};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

/// The two commands.
pub enum PauseChange {
    Pause,
    Resume,
}

#[async_trait]
impl Action for PauseChange {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment_name();
        let typed = call.value(WINDOW).unwrap_or_default();
        let window = schedule::find(&call.app.schedule, environment, typed)?;
        let store = &*call.app.audit.store;
        let pause = PauseState::of(store, window).await.map_err(anyhow::Error::from)?.pause;
        let (name, line) = (&window.name, &window.command_line);
        let mut plan = match (self, pause) {
            (PauseChange::Pause, Some(pause)) => {
                let (who, at) = (&pause.request.requester.id, moment(pause.changed_at));
                return Err(Error::instead(
                    format!("{who} has already paused {name} in {environment}, at {at}."),
                    format!("`schedule resume {}` ends the pause.", as_word(name)),
                ));
            }
            (PauseChange::Resume, None) => {
                let problem = format!("{name} in {environment} is not paused.");
                return Err(Error::instead(problem, "`schedule` shows the windows that are."));
            }
            (PauseChange::Pause, None) => {
                let mut plan = Plan::of(format!("Pauses {name} in {environment}: `{line}` is not started."));
                plan.impact = "Starts that are due during the pause are left out.".to_owned();
                plan.rollback = format!("`schedule resume {}`", as_word(name));
                plan
            }
            (PauseChange::Resume, Some(_)) => {
                let next = window.next(Timestamp::now()).map_or("never".to_owned(), minute);
                let mut plan =
                    Plan::of(format!("Resumes {name} in {environment}: `{line}` starts at {next}."));
                plan.rollback = format!("`schedule pause {}`", as_word(name));
                plan
            }
        };
        plan.identity.insert(WINDOW.to_owned(), name.clone());
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        if let Err(lost) = execution.ensure_current().await {
            return lost.into();
        }
        let Some(name) = execution.plan.identity.get(WINDOW) else {
            return Outcome::invalidated("The plan names no window.");
        };
        let environment = execution.environment().unwrap_or_default();
        let word = as_word(name);
        let verdict = match self {
            PauseChange::Pause => {
                Text::from(format!("{name} is paused in {environment}. To end the pause: "))
                    .code(format!("schedule resume {word}"))
            }
            PauseChange::Resume => Text::from(format!("{name} is no longer paused in {environment}.")),
        };
        Outcome { facts: json!({ WINDOW: name }), ..Outcome::done(verdict) }
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::StepCheck, EffectGuard::Repeatable]
    }
}
