//! `kill`: ends one session. `support/signal.sql` tests its identity and the guards.

use super::support::session_info::SessionInfo;
use super::support::signal::{SignalKind, observe_outcome, signal};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::Result;
use crate::model::Plan;
use async_trait::async_trait;

pub struct Kill;

#[async_trait]
impl Action for Kill {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let session = SessionInfo::find(call).await?;
        let mut plan = session.plan(SignalKind::Terminate).await?;
        let SessionInfo { pid, role, app, .. } = &session;
        plan.effect = format!("Ends session {pid} of {role} ({app}).");
        plan.impact = format!("{app} loses its connection. {}", session.loss);
        plan.rollback =
            "Not possible: what the session has not committed is lost. Clients usually reconnect.".to_owned();
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        signal(execution, SignalKind::Terminate).await
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::PlannedTarget]
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        observe_outcome(execution, SignalKind::Terminate).await
    }
}
