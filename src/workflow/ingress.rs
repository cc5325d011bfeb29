//! Ingress: an event comes in, its handler is called, and the answer goes out. A typed line or an offer becomes an intent, and that
//! goes to the queries or the requests; a click on a decision goes to the decisions.

use super::Workflow;
use super::card::render_card;
use super::decisions::Click;
use super::eligibility::pending_approvers;
use super::forms::{Offer, Submission};
use super::home::HOME_COMMAND;
use super::intent::Intent;
use super::replies::{self, HandlerResult, OVERLOADED, Rejection, store_error};
use crate::actions::{self, Action, Implementation};
use crate::error::{Error, Result, contain_panic};
use crate::model::{
    Block, Card, ChatEvent, ChatEventKind, Decision, FormDraft, FormInput, Heading, Reply, Risk, Run,
    RunState, TokenPurpose, TypedText,
};
use crate::redact;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// A client waits for the answer of a click for ten seconds or so, and a person for less.
const CLICK_TIMEOUT: Duration = Duration::from_secs(3);

/// The result of handling an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    Answered,
    /// The person can correct it.
    Refused,
    /// An internal error.
    Failed,
}

impl Workflow {
    pub(super) async fn dispatch(&self, incoming: ChatEvent) -> Completion {
        if self.homes.is_fresh(&incoming) {
            return Completion::Answered;
        }
        let incoming = self.homes.in_direct_conversation(self.forms.at_origin(incoming).await).await;
        let handled = match contain_panic(async { Ok(Box::pin(self.handler_result(&incoming)).await) }).await
        {
            Ok(handled) => handled,
            Err(error) => Err(Rejection { heading: anonymous("a request"), error }),
        };
        if incoming.event == ChatEventKind::Home {
            return self.show_home(&incoming, handled).await;
        }
        match handled {
            Ok(None) => Completion::Answered,
            Ok(Some(reply)) => {
                self.executor.outbox.answer(&incoming, reply).await;
                Completion::Answered
            }
            Err(rejection) => {
                let mut reply = replies::refusal(&rejection);
                match Box::pin(self.forms.offer(&incoming, &rejection)).await {
                    Offer::Opened => return Completion::Answered,
                    Offer::Button(button) => reply.blocks.push(Block::Buttons(vec![button])),
                    Offer::Nothing => {}
                }
                self.executor.outbox.refuse(&incoming, reply).await;
                completion_of(&rejection)
            }
        }
    }

    /// Shows on the sender's home what it was asked for, or why there is no answer.
    async fn show_home(&self, incoming: &ChatEvent, handled: HandlerResult) -> Completion {
        let (reply, completion) = match handled {
            Ok(None) => return Completion::Answered,
            Ok(Some(reply)) => (reply, Completion::Answered),
            Err(rejection) => {
                let next_steps = &self.executor.outbox.next_steps;
                let reply = next_steps.complete_refusal(incoming, replies::refusal(&rejection)).await;
                (reply, completion_of(&rejection))
            }
        };
        self.homes.publish(incoming, &reply).await;
        completion
    }

    /// Tells the sender of an event that there is no room for it, together with their other refusals.
    pub fn decline(&self, incoming: ChatEvent) {
        let heading = match &incoming.event {
            ChatEventKind::Command(typed) => anonymous(&typed_command(typed)),
            ChatEventKind::Button { .. } => anonymous("a button"),
            ChatEventKind::View { .. } => anonymous("a card"),
            ChatEventKind::FormSubmission(_) | ChatEventKind::FormQuery { .. } => anonymous("a form"),
            // It still shows what it was last given.
            ChatEventKind::Home => return,
        };
        let reply = replies::refusal(&Rejection { heading, error: Error::user(OVERLOADED) });
        let outbox = Arc::clone(&self.executor.outbox);
        self.background.spawn(async move { outbox.refuse(&incoming, reply).await });
    }

    async fn handler_result(&self, incoming: &ChatEvent) -> HandlerResult {
        match &incoming.event {
            ChatEventKind::Command(typed) => Box::pin(self.command(incoming, typed)).await,
            ChatEventKind::Button { token, message }
                if incoming.handle.as_ref().is_some_and(|handle| handle.replaces_card) =>
            {
                self.click_on_card(incoming, token, message).await
            }
            ChatEventKind::Button { token, message } => Box::pin(self.button(incoming, token, message)).await,
            ChatEventKind::View { token, message } => self.view(incoming, token, message).await,
            ChatEventKind::FormSubmission(input) => Box::pin(self.form(incoming, input)).await,
            // Its client is answered by `Workflow::form_choices`.
            ChatEventKind::FormQuery { .. } => Ok(None),
            ChatEventKind::Home => self.command(incoming, &HOME_COMMAND.into()).await,
        }
    }

    /// A submitted form: the next one, or its command, as if it had been typed.
    async fn form(&self, incoming: &ChatEvent, input: &FormInput) -> HandlerResult {
        let mut heading = anonymous("a form");
        match self.submitted(incoming, input, &mut heading).await {
            Ok(Some(intent)) => Box::pin(self.dispatch_intent(&intent)).await,
            Ok(None) => Ok(None),
            Err(error) => Err(Rejection { heading, error }),
        }
    }

    async fn submitted<'a>(
        &'a self,
        incoming: &'a ChatEvent,
        input: &FormInput,
        heading: &mut Heading,
    ) -> Result<Option<Intent<'a>>> {
        let person = self.authenticator.identify(incoming).await?;
        heading.requester = Some(person.clone());
        let checked = self.forms.check(incoming, input).await.map_err(|mistakes| {
            let lines: Vec<String> = mistakes.into_iter().map(|mistake| mistake.message).collect();
            Error::user(lines.join(" "))
        })?;
        match checked {
            Submission::Next(draft) => {
                self.forms.take(input).await?;
                self.forms.open(incoming, &person, &draft).await?;
                Ok(None)
            }
            Submission::Complete(parsed) => {
                heading.command.clone_from(&parsed.command.name);
                self.forms.take(input).await?;
                let intent = self.authenticator.authorize(incoming, person, parsed, heading).await?;
                heading.command = intent.request_text();
                Ok(Some(intent))
            }
        }
    }

    async fn open_form(&self, incoming: &ChatEvent, draft: &FormDraft, heading: &mut Heading) -> Result<()> {
        let person = self.authenticator.identify(incoming).await?;
        heading.requester = Some(person.clone());
        heading.command.clone_from(&draft.command);
        self.forms.open(incoming, &person, draft).await
    }

    async fn command(&self, incoming: &ChatEvent, typed: &TypedText) -> HandlerResult {
        let mut heading = anonymous(&typed_command(typed));
        match self.authenticator.parse_line(incoming, typed, &mut heading).await {
            Ok(Some(intent)) => Box::pin(self.dispatch_intent(&intent)).await,
            Ok(None) => self.menu(incoming, heading).await,
            Err(error) => Err(Rejection { heading, error }),
        }
    }

    async fn menu(&self, incoming: &ChatEvent, heading: Heading) -> HandlerResult {
        let heading = Heading { command: "help".to_owned(), ..heading };
        let may_run = |name: &&str| {
            let command = self.app.catalog.find(name);
            let person = heading.requester.as_ref();
            command
                .zip(person)
                .is_some_and(|(command, person)| self.app.access.may_run(person, command, None))
        };
        let commands: Vec<&str> = replies::FIRST_COMMANDS.into_iter().filter(may_run).collect();
        let (mut reply, offers) = replies::menu(heading, &commands);
        if !self.executor.outbox.next_steps.store_offers(&incoming.conversation, offers).await {
            reply.blocks.retain(|block| !matches!(block, Block::Buttons(_)));
        }
        Ok(Some(reply))
    }

    /// A click whose client waits for the card: answered as soon as the click is decided, whatever follows from that.
    async fn click_on_card(&self, incoming: &ChatEvent, token: &str, message: &str) -> HandlerResult {
        let mut deciding = pin!(self.button(incoming, token, message));
        match tokio::time::timeout(CLICK_TIMEOUT, &mut deciding).await {
            Ok(Ok(None)) => self.view(incoming, token, message).await,
            Ok(Err(rejection)) => match self.view(incoming, token, message).await {
                Ok(Some(view)) => Ok(Some(with_refusal(view, &rejection))),
                _ => Err(rejection),
            },
            Ok(answered) => answered,
            Err(_) => {
                // The decision continues meanwhile.
                let answer = async {
                    if let Ok(Some(view)) = self.view(incoming, token, message).await {
                        self.executor.outbox.answer(incoming, view).await;
                    }
                };
                futures::join!(answer, deciding).1
            }
        }
    }

    /// A click on a button: the token says what it means, and is valid in its conversation only.
    async fn button(&self, incoming: &ChatEvent, token: &str, message: &str) -> HandlerResult {
        let mut heading = anonymous("a button");
        let unknown = || Error::instead("This button is no longer known.", "Type the command instead.");
        let result = match self.app.audit.store.token(token).await {
            Err(error) => Err(store_error(&error)),
            Ok(None) => Err(unknown()),
            Ok(Some(token)) if !token.conversation.same_conversation(&incoming.conversation) => {
                let account = &incoming.sender.account;
                tracing::warn!(account, "button token used in another conversation");
                Err(Error::user("This button belongs to another conversation. Nothing was done."))
            }
            Ok(Some(token)) => match token.purpose {
                offer @ TokenPurpose::RunCommand { .. } => {
                    match self.authenticator.parse_offer(incoming, offer, &mut heading).await {
                        Ok(Some(intent)) => return Box::pin(self.dispatch_intent(&intent)).await,
                        other => other.map(|_| ()),
                    }
                }
                TokenPurpose::View { .. } | TokenPurpose::Form { .. } => Err(unknown()),
                TokenPurpose::OpenForm { draft } => self.open_form(incoming, &draft, &mut heading).await,
                TokenPurpose::Decision { run, decision, card } => {
                    let click = Click { run, decision, card, message };
                    self.executor.decide(incoming, &click, &mut heading).await
                }
            },
        };
        result.map(|()| None).map_err(|error| Rejection { heading, error })
    }

    async fn dispatch_intent(&self, intent: &Intent<'_>) -> HandlerResult {
        let reply = match actions::find(intent.command) {
            Some(Implementation::Action(action)) if intent.dry_run => {
                self.requests.dry_run(intent, action).await.map(Some)
            }
            Some(Implementation::Action(action)) => self.execute_or_request(intent, action).await,
            _ if intent.dry_run => {
                Err(Error::user(format!("`{}` only reads: it has no dry run.", intent.command.name)))
            }
            _ => self.queries.read(intent).await,
        };
        reply.map_err(|error| Rejection { heading: intent.heading(&self.app), error })
    }

    /// A write runs now; danger needs an approval.
    async fn execute_or_request(
        &self,
        intent: &Intent<'_>,
        action: &'static dyn Action,
    ) -> Result<Option<Reply>> {
        let plan = contain_panic(actions::plan(action, &intent.call(&self.app))).await?;
        if let Some(run) = action.decided_run(&plan) {
            self.requests.require_approver_role(intent, run).await?;
        }
        match intent.policy.risk {
            _ if intent.break_glass => self.requests.execute_now(intent, plan).await,
            Risk::Danger if !intent.incoming.conversation.platform.is_chat() => {
                self.requests.request_from_terminal(intent, plan).await
            }
            // The card is the answer.
            Risk::Danger => self.requests.request_approval(intent, plan).await.map(|_| None),
            Risk::Read | Risk::Write => self.requests.execute_now(intent, plan).await,
        }
    }

    /// The card of a token as the event's sender sees it.
    async fn view(&self, incoming: &ChatEvent, token: &str, message: &str) -> HandlerResult {
        let view = self.card_of(incoming, token, message).await;
        view.map(Some).map_err(|error| Rejection { heading: anonymous("a card"), error })
    }

    async fn card_of(&self, incoming: &ChatEvent, token: &str, message: &str) -> Result<Reply> {
        let store = &self.app.audit.store;
        let token = store.token(token).await.map_err(|error| store_error(&error))?;
        let unknown =
            || Error::instead("This card is no longer known.", "`pending` shows the open requests.");
        let token = token
            .filter(|token| token.conversation.same_conversation(&incoming.conversation))
            .ok_or_else(unknown)?;
        let (TokenPurpose::Decision { run, card, .. } | TokenPurpose::View { run, card }) = token.purpose
        else {
            return Err(unknown());
        };
        // Its readers' clients ask as soon as it is posted, before the platform has answered the bot.
        let delivered = self.executor.outbox.delivered_message(card, run).await?;
        if delivered.is_some_and(|delivered| delivered != message) {
            return Err(unknown());
        }
        let card =
            store.card(card).await.map_err(|error| store_error(&error))?.filter(|card| card.run == run);
        let run = store.get(run).await.map_err(|error| store_error(&error))?;
        let (card, run) = card.zip(run).ok_or_else(unknown)?;
        self.render_view(&run, &card, incoming).await
    }

    /// Renders the card with those of its buttons that this person may click.
    async fn render_view(&self, run: &Run, card: &Card, incoming: &ChatEvent) -> Result<Reply> {
        let mut reply = render_card(&self.app, run, card.conversation.platform);
        if !run.state.is_open() {
            let next_steps = &self.executor.outbox.next_steps;
            return Ok(Box::pin(next_steps.complete_card(&card.conversation, reply)).await);
        }
        // An unknown person sees what everyone sees.
        let Ok(person) = self.authenticator.identify(incoming).await else { return Ok(reply) };
        if run.state != RunState::Pending {
            return Ok(reply);
        }
        let may_approve = pending_approvers(&self.app, run).iter().any(|approver| approver.id == person.id);
        let is_requester = run.request.requester.id == person.id;
        let is_theirs = |decision| match decision {
            Decision::Withdraw => is_requester,
            Decision::Approve | Decision::Deny => may_approve,
        };
        let mut buttons = self.executor.outbox.sender.decision_buttons(run, card, &is_theirs).await?;
        buttons.iter_mut().for_each(|button| button.visible_to = vec![person.clone()]);
        if !buttons.is_empty() {
            reply = reply.with(Block::Buttons(buttons));
        }
        Ok(reply)
    }
}

fn completion_of(rejection: &Rejection) -> Completion {
    match rejection.error {
        Error::User(_) => Completion::Refused,
        Error::Internal(_) => Completion::Failed,
    }
}

/// The typed line, to be quoted before it is understood.
fn typed_command(typed: &TypedText) -> String {
    redact::name(&crate::suggest::shown(typed.words().trim()))
}

fn anonymous(command: &str) -> Heading {
    Heading { requester: None, command: command.to_owned(), environment: None, run: None }
}

/// Puts a refusal into a card, above the buttons, where the clicker looks: a plan can be longer than a screen.
fn with_refusal(mut view: Reply, rejection: &Rejection) -> Reply {
    let refusal = replies::refusal(rejection).blocks;
    let index = view.blocks.iter().rposition(|block| matches!(block, Block::Buttons(_))).unwrap_or(0);
    view.blocks.splice(index..index, refusal);
    // The refusal is the clicker's, and the conversation has the whole plan.
    view.indivisible = false;
    view.ephemeral()
}
