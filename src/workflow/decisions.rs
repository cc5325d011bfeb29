//! A click on a button. For a verdict: the token and its place, the person, the run's state and time, and who may say what.
//! Whatever is refused is told to the clicker alone and changes nothing.

use super::intent::{frozen_error, unrecorded};
use super::recipients::{said_from, voters};
use super::{HandlerResult, Rejection, Workflow};
use crate::access::could_approve_then;
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{Decision, EventKind, Heading, IncomingEvent, Person, Run, RunId, RunState, TokenPurpose};
use crate::sql::moment;
use crate::store::AppendOutcome;
use std::sync::Arc;
use std::time::Duration;

/// What it takes to note where a card stands, on a slow disk.
const NOTED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Workflow {
    pub(super) async fn button(
        self: &Arc<Self>,
        incoming: &IncomingEvent,
        (token, message): (&str, &str),
    ) -> HandlerResult {
        let mut heading = Heading { who: None, asked: "a button".to_owned(), environment: None, run: None };
        let found = self.app.audit.store.token(token).await;
        let stale = || Error::instead("This button is no longer known.", "Type the command instead.");
        let result = match found {
            Err(why) => Err(unrecorded(&why)),
            Ok(None) => Err(stale()),
            Ok(Some(token)) if !token.place.same_conversation(&incoming.place) => {
                tracing::warn!(
                    account = incoming.sender.account,
                    "button token used in another conversation"
                );
                Err(Error::user("This button belongs to another conversation. Nothing was done."))
            }
            Ok(Some(token)) => match token.purpose {
                offer @ TokenPurpose::RunCommand { .. } => return self.offered(incoming, offer).await,
                TokenPurpose::View { .. } => Err(stale()),
                TokenPurpose::Decision { run, verdict, card } => {
                    self.verdict(incoming, (run, verdict), (card, message), &mut heading).await
                }
            },
        };
        result.map(|()| None).map_err(|error| Rejection { heading, error })
    }

    async fn verdict(
        self: &Arc<Self>,
        incoming: &IncomingEvent,
        (run, verdict): (RunId, Decision),
        (card, message): (i64, &str),
        heading: &mut Heading,
    ) -> Result<()> {
        let person = self.identify(incoming).await?;
        heading.who = Some(person.clone());
        let store = &self.app.audit.store;
        let run = store.get(run).await.map_err(|why| unrecorded(&why))?;
        let run = run.ok_or_else(|| Error::user("This request is no longer known."))?;
        heading.run = Some(run.id);
        heading.asked = format!("{verdict:?}").to_lowercase();
        heading.environment =
            run.request.environment.as_deref().and_then(|name| self.app.environments.tag(name));
        let delivered = self.delivered(card, run.id).await?;
        if delivered.as_deref().is_some_and(|delivered| delivered != message) {
            return Err(Error::user("This message isn't the card that was delivered. Use the other one."));
        }
        if delivered.is_none() && verdict == Decision::Approve {
            return Err(Error::instead("This card isn't delivered yet.", "Click again in a moment."));
        }
        self.open_still(&run).await?;
        self.may_decide(&person, &run, verdict)?;
        if verdict != Decision::Withdraw
            && let Some(command) = self.app.catalog.find(&run.request.command)
        {
            let environment = run.request.environment.as_deref();
            let roles = self.app.access.roles_to_approve(&person, command, environment);
            self.narrowed(&incoming.sender, &roles).await?;
        }
        if verdict == Decision::Approve && !could_approve_then(&run, &person) {
            return Err(Error::instead(
                "You weren't an approver when this was requested, and a pending request gets no new approvers.",
                format!("`deny {}` ends it; then it can be requested again.", run.id),
            ));
        }
        self.decide((incoming, person), run, verdict).await
    }

    /// The message that a copy was delivered as. A click, or a look, can overtake the platform's answer to the posting.
    pub(super) async fn delivered(&self, card: i64, run: RunId) -> Result<Option<String>> {
        let until = tokio::time::Instant::now() + NOTED_WITHIN;
        loop {
            let posted = self.app.audit.store.card(card).await.map_err(|why| unrecorded(&why))?;
            let posted = posted.filter(|posted| posted.run == run);
            let noted = posted.as_ref().is_none_or(|posted| posted.message.is_some());
            if noted || tokio::time::Instant::now() >= until {
                return Ok(posted.and_then(|posted| posted.message));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Pending and in time; else who decided, and when.
    async fn open_still(self: &Arc<Self>, run: &Run) -> Result<()> {
        if run.state != RunState::Pending {
            let before = ["requested", "approval_added", "reminded"];
            let last = run.events.iter().find(|event| !before.contains(&event.kind.as_str()));
            let when = last.map_or(String::new(), |event| {
                let by = event.by.as_ref().map_or("Countersign", |person| person.id.as_str());
                format!(": {} by {by} at {}", event.kind.as_str(), moment(event.at))
            });
            self.refresh_soon(run.id);
            return Err(Error::instead(
                format!("This request is already decided{when}."),
                format!("`show {}` shows the details.", run.id),
            ));
        }
        let policy = self.app.catalog.find(&run.request.command).map(|command| self.policy_of(run, command));
        // A shorter time in the configuration counts from the request on.
        let until = policy.and_then(|policy| run.opened_at.checked_add(policy.wait).ok());
        if run.deadline.into_iter().chain(until).any(|deadline| deadline <= jiff::Timestamp::now()) {
            self.append_or_log(run, EventKind::Expired, EventDetails::default()).await;
            self.refresh_soon(run.id);
            return Err(Error::user(
                "This request has expired. Nothing was done. Request it again if it is still needed.",
            ));
        }
        Ok(())
    }

    fn may_decide(&self, person: &Person, run: &Run, verdict: Decision) -> Result<()> {
        let requester = person.id == run.request.requester.id;
        let environment = run.request.environment.as_deref();
        let command = self.app.catalog.find(&run.request.command);
        let may_approve =
            command.is_some_and(|command| self.app.access.may_approve(person, command, environment));
        match verdict {
            Decision::Withdraw if requester => Ok(()),
            Decision::Withdraw => {
                Err(Error::user(format!("Only {} can withdraw this request.", run.request.requester.id)))
            }
            Decision::Approve | Decision::Deny if requester => Err(Error::instead(
                "You requested this, so somebody else has to decide.",
                "You can withdraw it.",
            )),
            Decision::Approve if voters(run).iter().any(|voter| voter.person.id == person.id) => {
                Err(Error::instead(
                    "You have already approved this; it needs others' approval, too.",
                    format!("`deny {}` takes your approval back and ends the request.", run.id),
                ))
            }
            Decision::Approve | Decision::Deny if may_approve => Ok(()),
            Decision::Approve | Decision::Deny => {
                let place = environment.map_or(String::new(), |name| format!(" in {name}"));
                Err(Error::user(format!("You have no role that approves `{}`{place}.", run.request.command)))
            }
        }
    }

    async fn decide(
        self: &Arc<Self>,
        (incoming, person): (&IncomingEvent, Person),
        mut run: Run,
        verdict: Decision,
    ) -> Result<()> {
        let command = self.app.catalog.find(&run.request.command);
        let exempt = command.is_some_and(|command| command.header.while_frozen);
        loop {
            let needed = command.map_or(1, |command| self.policy_of(&run, command).approvers);
            let (happening, mut told) = self.said((&run, &person), verdict, needed);
            told.facts = said_from(incoming);
            let appended = match verdict {
                Decision::Approve if !exempt => {
                    self.app.audit.append_unless_frozen(&run, happening, told).await
                }
                _ => self.app.audit.append(&run, happening, told).await,
            };
            match appended {
                Err(why) => return Err(unrecorded(&why)),
                Ok(AppendOutcome::Frozen(frozen)) => return Err(frozen_error(&frozen)),
                Ok(AppendOutcome::ResourceBusy { resource, by }) => {
                    return Err(Error::user(format!("Run #{by} already holds the lock on {resource}.")));
                }
                // Somebody was faster: it may wait still, and what was said may count still.
                Ok(AppendOutcome::VersionConflict(now)) => {
                    self.open_still(&now).await?;
                    self.may_decide(&person, &now, verdict)?;
                    run = *now;
                }
                Ok(AppendOutcome::Done(run)) => {
                    self.refresh_soon(run.id);
                    return match happening {
                        EventKind::Approved => self.start(*run).await,
                        _ => Ok(()),
                    };
                }
            }
        }
    }

    /// What a verdict means for the run: of several who must approve, all but the last only agree.
    fn said(
        &self,
        (run, person): (&Run, &Person),
        verdict: Decision,
        needed: usize,
    ) -> (EventKind, EventDetails) {
        let told = EventDetails::by(person);
        match verdict {
            Decision::Deny => (EventKind::Denied, told),
            Decision::Withdraw => (EventKind::Withdrawn, told),
            Decision::Approve if voters(run).len() + 1 < needed => (EventKind::ApprovalAdded, told),
            Decision::Approve => {
                let command = self.app.catalog.find(&run.request.command);
                let lasts = command.map(|command| self.policy_of(run, command).start_within);
                (EventKind::Approved, EventDetails { lasts, ..told })
            }
        }
    }
}
