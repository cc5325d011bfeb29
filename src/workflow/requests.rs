//! Everything that opens a run which changes something: a write, a break-glass run, and a request for approval; and the dry run,
//! which opens none.

use super::authenticate::{Authenticator, USE_TERMINAL};
use super::card::{previews, render_card};
use super::executor::RunExecutor;
use super::intent::{Intent, Recipients, break_glass_rate_error};
use super::outbox::Outbox;
use super::replies::{Opened, frozen_error};
use super::webhook_notices::{self, BREAK_GLASS_USED};
use crate::actions::{self, Action};
use crate::app::App;
use crate::error::{Error, Result, User, contain_panic};
use crate::model::{Block, ChatEvent, Plan, Reply, Run, RunId, Severity};
use crate::platform::Freshness;
use crate::sql::fill;
use crate::store::OpenOutcome;
use std::sync::Arc;

const CARD_POSTED: &str = "Its card is in chat, where somebody else approves it. `show {run}` shows its state, \
                           `withdraw {run}` withdraws it.";
const CARD_PENDING: &str = "The chat platform can't be reached; the bot will send the card as soon as possible. `show {run}` \
                            shows its state.";

pub(super) struct Requests {
    pub app: Arc<App>,
    pub authenticator: Authenticator,
    pub outbox: Arc<Outbox>,
    pub executor: Arc<RunExecutor>,
}

impl Requests {
    /// Answers with the plan, and asks nobody.
    pub async fn dry_run(&self, intent: &Intent<'_>, action: &dyn Action) -> Result<Reply> {
        let plan = contain_panic(actions::plan(action, &intent.call(&self.app))).await?;
        let text = "Dry run: nothing was executed and no approval was requested.".into();
        let verdict = Block::Verdict { severity: Severity::Neutral, text };
        let mut reply = Reply::new(intent.heading(&self.app)).with(verdict);
        reply.blocks.extend(actions::plan_blocks(Some(intent.command), &plan));
        Ok(if intent.private { reply.ephemeral() } else { reply })
    }

    /// Passes if the person of a typed decision may approve that run: by a role, in the role's chat group if it has one, as for a
    /// click.
    ///
    /// # Errors
    /// [`Error::User`]
    pub async fn require_approver_role(&self, intent: &Intent<'_>, run: RunId) -> Result<()> {
        let Ok(Some(run)) = self.app.audit.store.get(run).await else { return Ok(()) };
        let Some(command) = self.app.catalog.find(&run.request.command) else { return Ok(()) };
        let environment = run.request.environment.as_deref();
        let roles = self.app.access.roles_to_approve(&intent.person, command, environment);
        self.authenticator.require_role_group(&intent.incoming.sender, &roles, Freshness::Current).await
    }

    /// Executes a write: recorded as started, run, closed. A long one posts a card of its own and edits it; then `None` is returned.
    ///
    /// # Errors
    /// [`Error::User`] when the run can't be opened: then nothing was done.
    pub async fn execute_now(&self, intent: &Intent<'_>, plan: Plan) -> Result<Option<Reply>> {
        // A terminal waits, and has no message that could be edited.
        let posts_card = (intent.command.header.posts_progress || intent.break_glass)
            && intent.incoming.conversation.platform.is_chat();
        if posts_card {
            self.require_open_conversation(intent).await?;
        }
        let recipients = if intent.break_glass {
            let environment = intent.environment.as_deref();
            let approvers = self.app.access.approvers(intent.command, environment, &intent.person);
            self.authenticator.recipients_of_request(intent, approvers)
        } else if posts_card {
            self.authenticator.recipients_of_write(intent)
        } else {
            Recipients::default()
        };
        let opened = self.open(intent, plan, recipients).await?;
        let Some(run) = opened.into_run()? else { return Ok(None) };
        if intent.break_glass {
            webhook_notices::notify(&self.app, &self.outbox.background, &run, BREAK_GLASS_USED);
        }
        if posts_card {
            let (outbox, id) = (Arc::clone(&self.outbox), run.id);
            let sending = async move { outbox.update_cards(id).await };
            // An emergency action doesn't wait for the chat.
            if intent.break_glass {
                self.outbox.background.spawn(sending);
            } else {
                sending.await;
            }
            self.executor.perform(run).await;
            return Ok(None);
        }
        if intent.break_glass {
            // From a terminal: the cards are in chat.
            self.outbox.spawn_update(run.id);
        }
        let run = self.executor.perform(run).await;
        let conversation = &intent.incoming.conversation;
        let reply = render_card(&self.app, &run, conversation.platform);
        let reply = Box::pin(self.outbox.next_steps.complete_card(conversation, reply)).await;
        Ok(Some(if intent.private { reply.ephemeral() } else { reply }))
    }

    /// Executes a write of the schedule to its end. The card of its outcome is recorded with the run.
    ///
    /// # Errors
    /// As [`Requests::execute_now`].
    pub async fn execute_start(&self, intent: &Intent<'_>, plan: Plan) -> Result<Opened> {
        let recipients = self.authenticator.recipients_of_start(intent);
        let opened = self.open(intent, plan, recipients).await?;
        if let Opened::New(run) = &opened {
            self.executor.perform((**run).clone()).await;
        }
        Ok(opened)
    }

    /// Passes if a card that everyone in the conversation can read may be posted there.
    async fn require_open_conversation(&self, intent: &Intent<'_>) -> Result<()> {
        let platform = self.outbox.platforms.get(intent.incoming.conversation.platform);
        let platform = platform.ok_or_else(|| Error::user("There is no chat to post in."))?;
        // In a conversation without the bot nothing is posted: its requester is answered directly.
        match platform.conversation(&intent.incoming.conversation).await {
            Ok(info) if !(intent.private || info.is_shared && info.is_bot_member) => Ok(()),
            Ok(_) => Err(Error::instead(
                "The card of this command is a message that everyone here can read.",
                "Request it in a channel of your own organisation, or in the conversation with Countersign, without `--private`.",
            )),
            Err(_) => Err(Error::instead(
                "The chat platform can't be reached, so the card can't be posted. Nothing was done.",
                USE_TERMINAL,
            )),
        }
    }

    /// Requests approval with a card that shows the whole plan, in the intent's conversation. `None` if this delivery was recorded
    /// before.
    ///
    /// # Errors
    /// [`Error::User`] when nobody can be asked, or the run can't be opened: then nothing was done.
    pub async fn request_approval(&self, intent: &Intent<'_>, plan: Plan) -> Result<Option<Run>> {
        self.open_request(intent, plan).await?.into_run()
    }

    /// As [`Requests::request_approval`], for whoever waits for another run.
    ///
    /// # Errors
    /// As [`Requests::request_approval`], unless another run works on the same.
    pub async fn open_request(&self, intent: &Intent<'_>, plan: Plan) -> Result<Opened> {
        let approvers = self.authenticator.eligible_approvers(intent).await?;
        self.outbox.platforms.require_card_conversation(&intent.incoming.conversation).await?;
        let recipients = self.authenticator.recipients_of_request(intent, approvers);
        let draft = intent.new_run(&self.app, Some(plan.clone()), recipients.clone());
        if let Err(too_large) =
            self.outbox.platforms.check_sizes(|platform| previews(&self.app, &draft, platform))
        {
            return Err(Error::instead(
                format!("The plan doesn't fit into one message: {}.", too_large.reason),
                "An approver must see the whole plan. Request less at once, or split a long custom command into several files.",
            ));
        }
        let opened = self.open(intent, plan, recipients).await?;
        if let Opened::New(run) = &opened {
            self.outbox.update_cards(run.id).await;
        }
        Ok(opened)
    }

    /// Requests approval in chat, in the channel that the configuration names for it, and answers in the terminal: nobody else
    /// sees that. The approval starts the run in the bot that serves the chat.
    ///
    /// # Errors
    /// As [`Requests::request_approval`], and [`Error::User`] when no channel is set for the card.
    pub async fn request_from_terminal(&self, intent: &Intent<'_>, plan: Plan) -> Result<Option<Reply>> {
        let conversation = self.outbox.platforms.terminal_conversation().ok_or_else(|| {
            Error::instead(
                "A second person has to approve this in chat, and no channel is set for its card.",
                "Request it in chat, or name a channel as `terminal_channel` in the configuration's `[slack]`.",
            )
        })?;
        self.outbox.platforms.require_card_conversation(&conversation).await.map_err(with_channel)?;
        let incoming = ChatEvent { conversation, ..intent.incoming.clone() };
        let in_chat = Intent { incoming: &incoming, ..intent.clone() };
        let Some(run) = self.request_approval(&in_chat, plan).await? else { return Ok(None) };
        let store = &self.app.audit.store;
        let run = store.get(run.id).await.ok().flatten().unwrap_or(run);
        let cards = store.run_cards(run.id).await.unwrap_or_default();
        let mut reply = render_card(&self.app, &run, run.request.conversation.platform);
        // The terminal has no approval buttons.
        reply.indivisible = false;
        if run.state.is_open() {
            let is_posted = cards.iter().any(|card| card.message.is_some());
            let note = if is_posted { CARD_POSTED } else { CARD_PENDING };
            reply = reply.with(Block::Note(fill(note, &|_| Some(run.id.to_string()))));
        }
        Ok(Some(reply))
    }

    /// Opens the run of an intent, with its cards.
    async fn open(&self, intent: &Intent<'_>, plan: Plan, recipients: Recipients) -> Result<Opened> {
        match self.app.audit.open(intent.new_run(&self.app, Some(plan), recipients)).await {
            Ok(OpenOutcome::New(run)) => Ok(Opened::New(run)),
            Ok(OpenOutcome::Duplicate(run)) => {
                tracing::info!(run, "dropped recorded delivery");
                Ok(Opened::Duplicate)
            }
            Ok(OpenOutcome::ResourceBusy { resource, by }) => Ok(Opened::Busy { resource, by }),
            Ok(OpenOutcome::Frozen(frozen)) => Err(frozen_error(&frozen)),
            Ok(OpenOutcome::RateLimited(last)) => Err(break_glass_rate_error(&self.app, &last)),
            Err(error) => Ok(Opened::Unrecorded(error)),
        }
    }
}

/// Names the channel in an error about it, for somebody who isn't there.
fn with_channel(error: Error) -> Error {
    match error {
        Error::User(User { problem, instead }) => {
            let problem = format!("The channel for requests from terminals can't take the card. {problem}");
            Error::User(User { problem, instead })
        }
        other => other,
    }
}
