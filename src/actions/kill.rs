//! `kill` ends one session; `cancel` cancels the statement that a session runs, and no later one. `support/signal.sql` tests identity
//! and guards.

use super::support::session_info::SessionInfo;
use super::support::signal::{SignalKind, observe, signal};
use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::Plan;
use async_trait::async_trait;

/// The command `kill`.
pub struct Kill;

/// The command `cancel`.
pub struct Cancel;

#[async_trait]
impl Action for Kill {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let session = SessionInfo::find(call).await?;
        let mut plan = session.plan(SignalKind::Terminate).await?;
        let SessionInfo { pid, role, app, .. } = &session;
        plan.effect = format!("Ends session {pid} of {role} ({app}).");
        plan.impact = if session.has_written {
            format!("{app} loses its connection, and its open transaction is rolled back.")
        } else {
            format!("{app} loses its connection. Its open transaction has written nothing.")
        };
        plan.rollback =
            "Not possible: what the session has not committed is lost. Clients usually reconnect.".to_owned();
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        signal(execution, SignalKind::Terminate).await
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        observe(execution, SignalKind::Terminate).await
    }
}

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

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        observe(execution, SignalKind::Cancel).await
    }
}
