//! Acting: the record first, then the effect, then the record's end. A run is claimed by exactly one writer of "started";
//! whoever didn't write it does nothing.

use super::Workflow;
use super::authenticate::ELSEWHERE;
use super::intent::Intent;
use super::recipients::{Recipients, voters};
use super::reminders::{ALONE, WAITING};
use crate::access::{Policy, could_approve_then};
use crate::actions::{self, Execution, Implementation, Outcome};
use crate::audit::EventDetails;
use crate::catalog::Command;
use crate::error::{Error, Result};
use crate::model::{Block, Conversation, EventKind, Plan, Reply, Run, RunId, Severity, Text};
use crate::platform::Platform;
use crate::store::AppendOutcome;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How soon a run hears that it is to stop.
const HEED_EVERY: Duration = Duration::from_secs(1);

impl Workflow {
    /// A write: recorded as started, run, closed. A long one posts a message of its own and edits it.
    pub(super) async fn act_now(self: &Arc<Self>, intent: &Intent<'_>, plan: Plan) -> Result<Option<Reply>> {
        // A terminal waits, and holds no message that could be edited.
        let posts = (intent.command.header.posts_progress || intent.break_glass)
            && intent.incoming.place.platform.is_chat();
        if posts {
            self.may_post(intent).await?;
        }
        let concerned = match (intent.break_glass, posts) {
            (true, _) => {
                let environment = intent.environment.as_deref();
                let could = self.app.access.approvers(intent.command, environment, &intent.person);
                self.concerned(intent, could)
            }
            (false, true) => self.followed(intent),
            (false, false) => Recipients::default(),
        };
        let Some(run) = self.open(intent, (plan, concerned)).await? else { return Ok(None) };
        if intent.break_glass {
            self.page(&run, ALONE);
        }
        if posts {
            let (flow, id) = (Arc::clone(self), run.id);
            let shown = async move { flow.show(id).await };
            // What is done in need doesn't wait for the chat.
            match intent.break_glass {
                true => drop(self.after.spawn(shown)),
                false => shown.await,
            }
            self.perform(run).await;
            return Ok(None);
        }
        if intent.break_glass {
            // From a terminal.
            self.refresh_soon(run.id);
        }
        let run = self.perform(run).await;
        let reply = super::card::render_card(self, &run, intent.incoming.place.platform);
        Ok(Some(if intent.private { reply.privately() } else { reply }))
    }

    /// A message that everyone in the place can read stands there for long.
    async fn may_post(&self, intent: &Intent<'_>) -> Result<()> {
        let platform = self.platform(intent.incoming.place.platform);
        let platform = platform.ok_or_else(|| Error::user("There is no chat to post in."))?;
        // A place that the bot isn't in gets nothing: its asker is told directly.
        match platform.conversation(&intent.incoming.place).await {
            Ok(place) if !(intent.private || place.shared && place.bot_is_in) => Ok(()),
            Ok(_) => Err(Error::instead(
                "The card of this command is a message that everyone here can read.",
                "Ask in a channel of your own organisation, or in the conversation with Countersign, without `--private`.",
            )),
            Err(_) => Err(Error::instead(
                "The chat platform can't be reached, so the card can't be posted. Nothing was done.",
                ELSEWHERE,
            )),
        }
    }

    /// A danger: asked of others, with a card that shows the whole plan, where the intent's place is. `None` if it was
    /// asked before.
    pub(super) async fn ask(self: &Arc<Self>, intent: &Intent<'_>, plan: Plan) -> Result<Option<Run>> {
        let could = self.could_approve(intent).await?;
        let platform = self.platform(intent.incoming.place.platform);
        let platform = platform.ok_or_else(|| Error::user("There is no chat to ask in."))?;
        may_hold_a_card(&**platform, &intent.incoming.place).await?;
        let preview = super::card::preview(self, intent, (&plan, &could));
        // A card can stand in the other chat, too: the smallest message counts.
        let fit = self.platforms.values().try_for_each(|platform| platform.fits(&preview));
        if let Err(too_large) = fit {
            return Err(Error::instead(
                format!("The plan doesn't fit into one message: {}.", too_large.why),
                "An approver must see the whole plan. Request less at once, or split a long custom command into several files.",
            ));
        }
        let concerned = self.concerned(intent, could);
        let Some(run) = self.open(intent, (plan, concerned)).await? else { return Ok(None) };
        self.show(run.id).await;
        self.page(&run, WAITING);
        Ok(Some(run))
    }

    /// An approved run: everyone concerned is checked once more, the run is claimed, and only then it acts.
    ///
    /// # Errors
    /// [`Error::User`] for the approver, when the claim can't be recorded: the approval is taken back as soon as that can be.
    pub(super) async fn start(self: &Arc<Self>, run: Run) -> Result<()> {
        if let Err(why) = self.still_allowed(&run).await {
            let told = EventDetails::why(&why);
            self.append_or_log(&run, EventKind::Revoked, told).await;
            self.refresh(run.id).await;
            return Ok(());
        }
        let Some(command) = self.app.catalog.find(&run.request.command) else { return Ok(()) };
        if run.deadline.is_some_and(|deadline| deadline <= jiff::Timestamp::now()) {
            self.append_or_log(&run, EventKind::Expired, EventDetails::default()).await;
            self.refresh(run.id).await;
            return Ok(());
        }
        let told =
            EventDetails { facts: json!({ "command_sha256": command.hash }), ..EventDetails::default() };
        let runs = &self.app.audit;
        let claimed = match command.header.while_frozen {
            true => runs.append(&run, EventKind::Started, told).await,
            false => runs.append_unless_frozen(&run, EventKind::Started, told).await,
        };
        match claimed {
            Ok(AppendOutcome::Done(run)) => {
                self.refresh_soon(run.id);
                self.perform(*run).await;
            }
            Ok(AppendOutcome::VersionConflict(_) | AppendOutcome::ResourceBusy { .. }) => {}
            Ok(AppendOutcome::Frozen(frozen)) => {
                let why = format!("{} froze all changes before it started", frozen.by.id);
                self.append_or_log(&run, EventKind::Revoked, EventDetails::why(&why)).await;
                self.refresh(run.id).await;
            }
            Err(why) => {
                tracing::error!(run = run.id, %why, "claiming approved run failed; it did not start");
                self.take_back(run, EventKind::Revoked, "its start could not be recorded in time");
                return Err(super::intent::unrecorded(&why));
            }
        }
        Ok(())
    }

    /// In the background: a run that didn't start ends, as soon as the record takes it.
    fn take_back(self: &Arc<Self>, run: Run, happening: EventKind, why: &'static str) {
        let flow = Arc::clone(self);
        self.after.spawn(async move {
            flow.close(&run, happening, EventDetails::why(why)).await;
            flow.refresh(run.id).await;
        });
    }

    /// The stricter of the policy that a run was asked under and the configuration's of now.
    pub(super) fn policy_of(&self, run: &Run, command: &Command) -> Policy {
        let now = self.app.access.policy(command, run.request.environment.as_deref());
        now.with_recorded(run.events.first().and_then(|event| event.facts.get("policy")))
    }

    /// Requester and approvers, as they are now.
    async fn still_allowed(&self, run: &Run) -> Result<(), String> {
        let environment = run.request.environment.as_deref();
        let command = self.app.catalog.find(&run.request.command).ok_or("the command no longer exists")?;
        if command.hash != run.request.command_hash {
            return Err("the command's file has changed since the request".to_owned());
        }
        let requester = match &run.request.sender {
            Some(sender) => {
                let person = self.identify_now(sender, &run.request.place).await;
                person.map_err(|_| "the requester's account is no longer accepted or can't be confirmed")?
            }
            None => run.request.requester.clone(),
        };
        if requester.id != run.request.requester.id {
            return Err("the requester's account belongs to somebody else now".to_owned());
        }
        let roles = self.app.access.roles_to_run(&requester, command, environment);
        let there = match &run.request.sender {
            Some(sender) => self.group_of(sender, &roles).await == Some(true),
            None => !roles.is_empty(),
        };
        if !there {
            return Err("the requester may no longer run it".to_owned());
        }
        let voters = voters(run);
        if voters.len() < self.policy_of(run, command).approvers {
            return Err("it needs more approvals now".to_owned());
        }
        for voter in voters {
            let roles = self.app.access.roles_to_approve(voter.person, command, environment);
            let counts = match &voter.sender {
                // As the requester: whoever agreed first did so a while ago.
                Some(sender) => {
                    let person = self.identify_now(sender, &voter.place).await;
                    person.is_ok_and(|person| person.id == voter.person.id)
                        && self.group_of(sender, &roles).await == Some(true)
                }
                None => !roles.is_empty(),
            };
            let other = voter.person.id != requester.id && could_approve_then(run, voter.person);
            if !other || !counts {
                return Err(format!("{} may no longer approve it or can't be confirmed", voter.person.id));
            }
        }
        Ok(())
    }

    /// Runs a claimed run to its end and closes it, whatever happens.
    pub(super) async fn perform(self: &Arc<Self>, run: Run) -> Run {
        self.acting.begin(run.id);
        let outcome = {
            let (flow, run_id, run) = (Arc::clone(self), run.id, run.clone());
            let stop = CancellationToken::new();
            if run.event(EventKind::StopRequested).is_some() {
                stop.cancel(); // asked of the process that is gone
            }
            let asked = stop.clone();
            // A task of its own: a panic in an action must not take the record's end with it.
            let acting = tokio::spawn(async move { flow.act(&run, &asked).await });
            tokio::select! {
                outcome = acting => outcome,
                never = self.show_progress(run_id) => match never {},
                never = self.heed_stop(run_id, &stop) => match never {},
            }
        };
        let outcome = outcome.unwrap_or_else(|_| {
            Outcome::new(
                EventKind::Interrupted,
                "The run failed inside Countersign: its outcome is unknown. Check the database before you request it again.",
            )
        });
        self.app.progress.clear(run.id);
        let run = self.close(&run, outcome.kind, outcome.details()).await;
        self.refresh(run.id).await;
        self.acting.leave(run.id);
        run
    }

    /// Tells the action when the record says that somebody asked the run to stop, through whichever replica.
    async fn heed_stop(&self, run: RunId, stop: &CancellationToken) -> Infallible {
        loop {
            tokio::time::sleep(HEED_EVERY).await;
            let asked = self.app.audit.store.get(run).await;
            if let Ok(Some(run)) = asked
                && run.event(EventKind::StopRequested).is_some()
            {
                stop.cancel();
                return std::future::pending().await;
            }
        }
    }

    async fn act(&self, run: &Run, stop: &CancellationToken) -> Outcome {
        let nothing = |why: &str| Outcome::new(EventKind::Invalidated, format!("{why} Nothing was done."));
        let Some(command) = self.app.catalog.find(&run.request.command) else {
            return nothing("The command no longer exists.");
        };
        let Some(Implementation::Action(act)) = actions::find(command) else {
            return nothing("The command no longer changes anything.");
        };
        let stored = run.text("plan").unwrap_or_default();
        let Some(plan) = Plan::read(stored) else { return nothing("The plan can't be read.") };
        let recorded = run.events.first().and_then(|event| event.facts.get("plan_sha256"));
        if recorded.and_then(|digest| digest.as_str()) != Some(&plan.digest()) {
            return nothing("The plan is no longer the one that was shown.");
        }
        let asker = format!("countersign #{} {}", run.id, run.request.requester.id);
        act.act(&Execution { app: &self.app, command, run, plan: &plan, asker, stop }).await
    }

    /// Writes the end of a run. The effect is done: this is tried until the store takes it.
    pub(super) async fn close(&self, run: &Run, happening: EventKind, told: EventDetails) -> Run {
        let mut pause = Duration::from_millis(200);
        let mut run = run.clone();
        loop {
            match self.app.audit.append(&run, happening, told.clone()).await {
                Ok(AppendOutcome::Done(closed)) => return *closed,
                Ok(AppendOutcome::VersionConflict(now))
                    if now.version == run.version || !now.state.is_open() =>
                {
                    return *now;
                }
                Ok(AppendOutcome::VersionConflict(now)) => run = *now,
                Ok(AppendOutcome::Frozen(_) | AppendOutcome::ResourceBusy { .. }) => {}
                Err(why) => tracing::error!(run = run.id, %why, "recording run outcome failed; will retry"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }

    pub(super) async fn append_or_log(&self, run: &Run, happening: EventKind, told: EventDetails) {
        if let Err(why) = self.app.audit.append(run, happening, told).await {
            tracing::error!(run = run.id, %why, event = happening.word(), "recording event failed");
        }
    }
}

/// A card with buttons stands only where others can see it, and nobody of another organisation.
pub(super) async fn may_hold_a_card(platform: &dyn Platform, place: &Conversation) -> Result<()> {
    match platform.conversation(place).await {
        Ok(place) if place.direct => Err(Error::instead(
            "Only you would see the request here, but somebody else has to approve it.",
            "Request it in a channel where an approver is.",
        )),
        // Before what is shared: what the bot can't see counts as shared.
        Ok(place) if !place.bot_is_in => Err(Error::instead(
            "Countersign isn't in this conversation, so the card can't be posted here.",
            "Invite it, then request again.",
        )),
        Ok(place) if place.shared => {
            Err(Error::user("Requests can't be posted in a conversation shared with another organisation."))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(Error::instead(
            "The chat platform can't be reached, so no approver can be asked. Nothing was done.",
            "Try again in a moment.",
        )),
    }
}

/// The blocks of a run that has ended.
pub(super) fn outcome_blocks(run: &Run) -> Vec<Block> {
    let stored =
        run.text("outcome").and_then(|stored| serde_json::from_str::<(Text, Vec<Block>)>(stored).ok());
    let Some((verdict, mut blocks)) = stored else { return Vec::new() };
    let tone = match run.state {
        crate::model::RunState::Succeeded => Severity::Ok,
        crate::model::RunState::Invalidated
        | crate::model::RunState::Stopped
        | crate::model::RunState::Partial => Severity::Warning,
        _ => Severity::Critical,
    };
    blocks.insert(0, Block::Verdict { tone, text: verdict });
    blocks
}
