//! `cancel`: cancels the statement that a session runs, and no later one.

use super::support::session_info::SessionInfo;
use super::support::signal::{SignalKind, observe_outcome, signal};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::Plan;
use async_trait::async_trait;

pub struct Cancel;

#[async_trait]
impl Action for Cancel {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let session = SessionInfo::find(call).await?;
        let SessionInfo { pid, role, app, state, .. } = &session;
        if state != "active" {
            return Err(Error::instead(
                format!("Session {pid} runs no statement: it is {state}, and cancelling can't help."),
                format!("To end it and free its locks: `kill {pid}`."),
            ));
        }
        let mut plan = session.plan(SignalKind::Cancel).await?;
        plan.effect = format!("Cancels the statement of session {pid} of {role} ({app}).");
        plan.impact = format!("The statement of {app} fails with an error; its connection stays.");
        plan.rollback = "Run the statement again.".to_owned();
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        signal(execution, SignalKind::Cancel).await
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::PlannedTarget]
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        observe_outcome(execution, SignalKind::Cancel).await
    }
}
