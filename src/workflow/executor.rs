//! Execution: a run is claimed by the one writer of its "started" event, then the action runs, then the end is recorded. A process
//! that didn't write "started" executes nothing.

use super::authenticate::Authenticator;
use super::eligibility::{approvals, policy_of};
use super::in_flight::RunSet;
use super::outbox::Outbox;
use super::replies::store_error;
use super::work_queue;
use crate::access::could_approve_at_request;
use crate::actions::{self, Execution, Implementation, Outcome};
use crate::app::App;
use crate::audit::{AppendConditions, EventDetails};
use crate::error::Result;
use crate::model::{EventKind, Plan, Run, RunId};
use crate::platform::Freshness;
use crate::store::AppendOutcome;
use crate::telemetry::run_span;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// The record is polled this often for a request to stop, and whenever another replica announces a change.
const STOP_POLL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct RunExecutor {
    pub app: Arc<App>,
    pub authenticator: Authenticator,
    pub outbox: Arc<Outbox>,
    /// Runs that this process is executing.
    pub running_runs: RunSet,
}

impl RunExecutor {
    /// Starts an approved run: everyone involved is checked once more, the run is claimed, and only then it is executed.
    ///
    /// # Errors
    /// [`Error::User`](crate::error::Error::User) for the approver, when the claim can't be recorded: the approval is revoked as
    /// soon as that can be recorded.
    pub async fn start(self: &Arc<Self>, run: Run) -> Result<()> {
        let audit = &self.app.audit;
        if let Err(reason) = self.recheck_permissions(&run).await {
            self.end(&run, EventKind::Revoked, EventDetails::with_reason(&reason)).await;
            return Ok(());
        }
        let Some(command) = self.app.catalog.find(&run.request.command) else { return Ok(()) };
        let details =
            EventDetails { facts: json!({ "command_sha256": command.hash }), ..EventDetails::default() };
        let unless_frozen = !command.header.allowed_while_frozen;
        let conditions = AppendConditions { unless_frozen, ..AppendConditions::default() };
        match audit.append_if(&run, EventKind::Started, details, conditions).await {
            Ok(AppendOutcome::Done(run)) => {
                self.outbox.spawn_update(run.id);
                self.perform(*run).await;
            }
            Ok(AppendOutcome::Overdue(run)) => {
                self.end(&run, EventKind::Expired, EventDetails::default()).await;
            }
            Ok(
                AppendOutcome::VersionConflict(_)
                | AppendOutcome::ResourceBusy { .. }
                | AppendOutcome::NotOverdue(_),
            ) => {}
            Ok(AppendOutcome::Frozen(frozen)) => {
                let reason = format!("{} froze all changes before it started", frozen.by.id);
                self.end(&run, EventKind::Revoked, EventDetails::with_reason(&reason)).await;
            }
            Err(error) => {
                tracing::error!(run = run.id, %error, "claiming approved run failed; it did not start");
                // As soon as the store accepts it.
                let executor = Arc::clone(self);
                let details = EventDetails::with_reason("its start could not be recorded in time");
                self.outbox.background.spawn(async move {
                    executor.app.audit.close(&run, EventKind::Revoked, details).await;
                    executor.outbox.update_cards(run.id).await;
                });
                return Err(store_error(&error));
            }
        }
        Ok(())
    }

    /// Ends a run that didn't start.
    async fn end(&self, run: &Run, kind: EventKind, details: EventDetails) {
        self.app.audit.append_or_log(run, kind, details).await;
        self.outbox.update_cards(run.id).await;
    }

    /// Checks the requester and the approvers again, as they are now.
    async fn recheck_permissions(&self, run: &Run) -> Result<(), String> {
        let environment = run.request.environment.as_deref();
        let access = &self.app.access;
        let command = self.app.catalog.find(&run.request.command).ok_or("the command no longer exists")?;
        if command.hash != run.request.command_hash {
            return Err("the command's file has changed since the request".to_owned());
        }
        let requester = match &run.request.sender {
            Some(sender) => {
                let person = self.authenticator.identify_now(sender, &run.request.conversation).await;
                person.map_err(|_| "the requester's account is no longer accepted or can't be confirmed")?
            }
            None => run.request.requester.clone(),
        };
        if requester.id != run.request.requester.id {
            return Err("the requester's account belongs to somebody else now".to_owned());
        }
        let roles = access.roles_to_run(&requester, command, environment);
        let may_run = match &run.request.sender {
            Some(sender) => {
                self.authenticator.any_role_group(sender, &roles, Freshness::Current).await == Some(true)
            }
            // A window needs no role: the configuration that grants roles names it, too.
            None => !roles.is_empty() || self.app.schedule.iter().any(|window| window.requested(run)),
        };
        if !may_run {
            return Err("the requester may no longer run it".to_owned());
        }
        let approvals = approvals(run);
        if approvals.len() < policy_of(&self.app, run, command).approvers {
            return Err("it needs more approvals now".to_owned());
        }
        for approval in approvals {
            let roles = access.roles_to_approve(approval.person, command, environment);
            let may_approve = match &approval.sender {
                // Read again as the requester's account: the first approval may be long ago.
                Some(sender) => {
                    let person = self.authenticator.identify_now(sender, &approval.conversation).await;
                    person.is_ok_and(|person| person.id == approval.person.id)
                        && self.authenticator.any_role_group(sender, &roles, Freshness::Current).await
                            == Some(true)
                }
                None => !roles.is_empty(),
            };
            let is_other =
                approval.person.id != requester.id && could_approve_at_request(run, approval.person);
            if !is_other || !may_approve {
                return Err(format!("{} may no longer approve it or can't be confirmed", approval.person.id));
            }
        }
        Ok(())
    }

    /// Executes a claimed run to its end and closes it in every case.
    pub async fn perform(self: &Arc<Self>, run: Run) -> Run {
        let span = run_span(run.id, &run.request.command);
        self.perform_in_span(run).instrument(span).await
    }

    async fn perform_in_span(self: &Arc<Self>, run: Run) -> Run {
        // It may last for hours.
        work_queue::leave();
        self.running_runs.insert(run.id);
        let stop = CancellationToken::new();
        if run.event(EventKind::StopRequested).is_some() {
            stop.cancel(); // requested from a process that has ended
        }
        let (executor, its_run, its_stop) = (Arc::clone(self), run.clone(), stop.clone());
        // A task of its own: a panic in an action must not prevent the recording of the end.
        let action = async move { executor.act(&its_run, &its_stop).await };
        let action = tokio::spawn(action.in_current_span());
        let outcome = tokio::select! {
            outcome = action => outcome,
            never = self.outbox.show_progress(run.id) => match never {},
            never = self.watch_stop_requests(run.id, &stop) => match never {},
        };
        let unknown = "The run failed inside Countersign: its outcome is unknown. Check the database before you request it again.";
        let outcome = outcome.unwrap_or_else(|_| Outcome::unknown(unknown));
        tracing::debug!(run = run.id, outcome = outcome.kind.as_str(), "execution ended");
        self.app.progress.clear(run.id);
        let run = self.app.audit.close(&run, outcome.kind, outcome.details()).await;
        self.outbox.update_cards(run.id).await;
        self.running_runs.remove(run.id);
        run
    }

    /// Cancels `stop` when the record has a request to stop, made through any replica.
    async fn watch_stop_requests(&self, run: RunId, stop: &CancellationToken) -> Infallible {
        let mut changes = self.app.shared.changes();
        loop {
            let _ = tokio::time::timeout(STOP_POLL_INTERVAL, changes.next()).await;
            if let Ok(Some(run)) = self.app.audit.store.get(run).await
                && run.event(EventKind::StopRequested).is_some()
            {
                stop.cancel();
                return std::future::pending().await;
            }
        }
    }

    /// Runs the action with the recorded plan, if that is the one that was shown.
    async fn act(&self, run: &Run, stop: &CancellationToken) -> Outcome {
        let Some(command) = self.app.catalog.find(&run.request.command) else {
            return Outcome::invalidated("The command no longer exists.");
        };
        let Some(Implementation::Action(action)) = actions::find(command) else {
            return Outcome::invalidated("The command no longer changes anything.");
        };
        let stored = run.text("plan").unwrap_or_default();
        let Some(plan) = Plan::from_json(stored) else {
            return Outcome::invalidated("The plan can't be read.");
        };
        let recorded = run.events.first().and_then(|event| event.facts.get("plan_sha256"));
        if recorded.and_then(|digest| digest.as_str()) != Some(&plan.digest()) {
            return Outcome::invalidated("The plan is no longer the one that was shown.");
        }
        let asker = format!("countersign #{} {}", run.id, run.request.requester.id);
        action
            .execute(&Execution { app: &self.app, command, run, plan: &plan, asker, stop, part: None })
            .await
    }
}
