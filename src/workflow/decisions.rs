//! Decisions: a click on approve, deny or withdraw. Checked are the card, the person, the run's state and time, and who may decide
//! what. A refusal is shown to the clicker alone and changes nothing.

use super::card::ending;
use super::eligibility::{approvals, policy_of, quorum};
use super::executor::RunExecutor;
use super::in_flight::CardUpdate;
use super::replies::{frozen_error, store_error};
use crate::access::could_approve_at_request;
use crate::audit::{AppendConditions, EventDetails};
use crate::error::{Error, Result};
use crate::model::{ChatEvent, Decision, EventKind, Heading, Person, Run, RunId, RunState};
use crate::platform::Freshness;
use crate::store::AppendOutcome;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Click<'a> {
    pub run: RunId,
    pub decision: Decision,
    pub card: i64,
    /// The message that has the button.
    pub message: &'a str,
}

impl RunExecutor {
    /// Records the decision of a click, and starts the run if that was the last approval it needed.
    ///
    /// # Errors
    /// [`Error::User`]: the condition that doesn't hold.
    pub(super) async fn decide(
        self: &Arc<Self>,
        incoming: &ChatEvent,
        click: &Click<'_>,
        heading: &mut Heading,
    ) -> Result<()> {
        let person = self.authenticator.identify(incoming).await?;
        heading.requester = Some(person.clone());
        let run = self.app.audit.store.get(click.run).await.map_err(|error| store_error(&error))?;
        let run = run.ok_or_else(|| Error::user("This request is no longer known."))?;
        heading.run = Some(run.id);
        heading.command = format!("{:?}", click.decision).to_lowercase();
        heading.environment =
            run.request.environment.as_deref().and_then(|name| self.app.environments.tag(name));
        let delivered = self.outbox.delivered_message(click.card, run.id).await?;
        if delivered.as_deref().is_some_and(|delivered| delivered != click.message) {
            return Err(Error::user("This message isn't the card that was delivered. Use the other one."));
        }
        if delivered.is_none() && click.decision == Decision::Approve {
            return Err(Error::instead("This card isn't delivered yet.", "Click again in a moment."));
        }
        if run.state != RunState::Pending {
            self.outbox.spawn_delivery(click.card, CardUpdate::IfClicked);
        }
        self.ensure_pending(&run).await?;
        self.require_eligible(&person, &run, click.decision)?;
        // Whoever was deactivated a moment ago no longer decides, and the request stays open for the others.
        self.authenticator.identify_now(&incoming.sender, &incoming.conversation).await?;
        if click.decision != Decision::Withdraw
            && let Some(command) = self.app.catalog.find(&run.request.command)
        {
            let environment = run.request.environment.as_deref();
            let roles = self.app.access.roles_to_approve(&person, command, environment);
            // Whoever was taken out of the group a moment ago no longer decides.
            let sender = &incoming.sender;
            self.authenticator.require_role_group(sender, &roles, Freshness::Current).await?;
        }
        if click.decision == Decision::Approve && !could_approve_at_request(&run, &person) {
            return Err(Error::instead(
                "You weren't an approver when this was requested, and a pending request gets no new approvers.",
                format!("`deny {}` ends it; then it can be requested again.", run.id),
            ));
        }
        self.record_decision(incoming, &person, run, click.decision).await
    }

    /// Passes if the run is pending and in time.
    ///
    /// # Errors
    /// [`Error::User`]: how it ended, or that it has expired, which is then recorded.
    async fn ensure_pending(&self, run: &Run) -> Result<()> {
        if run.state != RunState::Pending {
            self.outbox.spawn_update(run.id);
            return Err(Error::instead(
                format!("This request is already decided: {}", ending(&self.app, run)),
                format!("`show {}` shows the details.", run.id),
            ));
        }
        let until = self.max_age(run).and_then(|age| run.opened_at.checked_add(age).ok());
        if run.deadline.into_iter().chain(until).any(|deadline| deadline <= jiff::Timestamp::now()) {
            // Only the store's clock counts: by it the request may still be in time.
            self.expire(run).await?;
        }
        Ok(())
    }

    /// Time from the request after which it counts as expired, whatever its deadline: a shorter wait in the configuration.
    fn max_age(&self, run: &Run) -> Option<Duration> {
        let command = self.app.catalog.find(&run.request.command)?;
        Some(policy_of(&self.app, run, command).wait)
    }

    /// Records the expiry of a request, if it is overdue by the store's clock.
    ///
    /// # Errors
    /// [`Error::User`]: it has expired.
    async fn expire(&self, run: &Run) -> Result<()> {
        let conditions = AppendConditions { max_age: self.max_age(run), ..AppendConditions::default() };
        let audit = &self.app.audit;
        match audit.append_if(run, EventKind::Expired, EventDetails::default(), conditions).await {
            Ok(AppendOutcome::NotOverdue(_)) => return Ok(()),
            Ok(_) => {}
            Err(error) => tracing::error!(run = run.id, %error, "recording expiry failed"),
        }
        self.outbox.spawn_update(run.id);
        Err(Error::user(
            "This request has expired. Nothing was done. Request it again if it is still needed.",
        ))
    }

    fn require_eligible(&self, person: &Person, run: &Run, decision: Decision) -> Result<()> {
        let is_requester = person.id == run.request.requester.id;
        let environment = run.request.environment.as_deref();
        let command = self.app.catalog.find(&run.request.command);
        let may_approve =
            command.is_some_and(|command| self.app.access.may_approve(person, command, environment));
        match decision {
            Decision::Withdraw if is_requester => Ok(()),
            Decision::Withdraw => {
                Err(Error::user(format!("Only {} can withdraw this request.", run.request.requester.id)))
            }
            Decision::Approve | Decision::Deny if is_requester => Err(Error::instead(
                "You requested this, so somebody else has to decide.",
                "You can withdraw it.",
            )),
            Decision::Approve if approvals(run).iter().any(|approval| approval.person.id == person.id) => {
                Err(Error::instead(
                    "You have already approved this; it needs others' approval, too.",
                    format!("`deny {}` takes your approval back and ends the request.", run.id),
                ))
            }
            Decision::Approve | Decision::Deny if may_approve => Ok(()),
            Decision::Approve | Decision::Deny => {
                let scope = environment.map_or(String::new(), |name| format!(" in {name}"));
                Err(Error::user(format!("You have no role that approves `{}`{scope}.", run.request.command)))
            }
        }
    }

    async fn record_decision(
        self: &Arc<Self>,
        incoming: &ChatEvent,
        person: &Person,
        mut run: Run,
        decision: Decision,
    ) -> Result<()> {
        let audit = &self.app.audit;
        let command = self.app.catalog.find(&run.request.command);
        let while_frozen = command.is_some_and(|command| command.header.allowed_while_frozen);
        loop {
            let (kind, mut details) = self.decision_event(&run, person, decision);
            details.facts = json!({ "from": incoming.sender, "in": incoming.conversation });
            let unless_frozen = decision == Decision::Approve && !while_frozen;
            let conditions = AppendConditions { unless_frozen, max_age: self.max_age(&run) };
            match audit.append_if(&run, kind, details, conditions).await {
                Err(error) => return Err(store_error(&error)),
                Ok(AppendOutcome::Frozen(frozen)) => return Err(frozen_error(&frozen)),
                Ok(AppendOutcome::ResourceBusy { resource, by }) => {
                    return Err(Error::user(format!("Run #{by} already holds the lock on {resource}.")));
                }
                Ok(AppendOutcome::Overdue(overdue)) => {
                    self.expire(&overdue).await?;
                    run = *overdue;
                }
                // Somebody else was faster: the request may still be pending, and this decision may still count.
                Ok(AppendOutcome::VersionConflict(now) | AppendOutcome::NotOverdue(now)) => {
                    self.ensure_pending(&now).await?;
                    self.require_eligible(person, &now, decision)?;
                    run = *now;
                }
                Ok(AppendOutcome::Done(run)) => {
                    self.outbox.spawn_update(run.id);
                    if kind == EventKind::Approved {
                        return self.start(*run).await;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The event of a decision: with a quorum, every approval but the last is only added.
    fn decision_event(&self, run: &Run, person: &Person, decision: Decision) -> (EventKind, EventDetails) {
        let details = EventDetails::by_person(person);
        match decision {
            Decision::Deny => (EventKind::Denied, details),
            Decision::Withdraw => (EventKind::Withdrawn, details),
            Decision::Approve if approvals(run).len() + 1 < quorum(&self.app, run) => {
                (EventKind::ApprovalAdded, details)
            }
            Decision::Approve => {
                let command = self.app.catalog.find(&run.request.command);
                let state_duration = command.map(|command| policy_of(&self.app, run, command).start_within);
                (EventKind::Approved, EventDetails { state_duration, ..details })
            }
        }
    }
}
