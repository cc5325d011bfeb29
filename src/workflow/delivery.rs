//! Delivery of one card: its buttons, its conversation, and the other conversation where the first is refused.

use super::card::{
    DECISION_BUTTONS, heading, pending_approvers_on, render_card, render_incident_message, undelivered_copy,
    waiting_block,
};
use super::next_steps::NextSteps;
use super::platforms::Platforms;
use crate::app::App;
use crate::incident::IncidentMessage;
use crate::model::{
    Block, Button, ButtonToken, Card, CardKind, Conversation, Decision, EventKind, Person, PlatformKind,
    PostedMessage, Reply, Run, RunState, TokenPurpose,
};
use crate::platform::{Platform, SendError};
use std::sync::Arc;

/// Renders and sends cards.
pub(super) struct CardSender {
    pub app: Arc<App>,
    pub platforms: Arc<Platforms>,
    pub next_steps: NextSteps,
}

impl CardSender {
    /// Renders the card and sends it to its conversation. An outcome must be told: where its conversation is refused, it goes to
    /// another.
    pub async fn render_and_send(&self, card: &Card, run: &Run) -> Result<PostedMessage, SendError> {
        let error = match self.send_to(card, run, &card.conversation).await {
            Err(error) if card.message.is_none() && !error.is_outage() => error,
            sent => return sent,
        };
        match other_conversation(card, run) {
            Some(other) if !matches!(error, SendError::Unsendable(_)) => {
                tracing::warn!(run = run.id, card = card.id, %error, "card refused; sending it elsewhere");
                self.send_to(card, run, &other).await
            }
            _ => Err(error),
        }
    }

    /// Sends the card to a conversation; a direct one is looked up first.
    async fn send_to(&self, card: &Card, run: &Run, to: &Conversation) -> Result<PostedMessage, SendError> {
        let conversation = match to.account() {
            Some(account) => self.platform(account.platform)?.direct_conversation(&account).await?,
            None => to.clone(),
        };
        let is_card_direct = card.conversation.account().is_some() && to.account().is_some();
        if is_card_direct
            && conversation.same_conversation(&run.request.conversation)
            && self.has_primary_card(run).await
        {
            return Err(SendError::Unsendable("requested in that very conversation".to_owned()));
        }
        let card = Card { conversation, ..card.clone() };
        let reply = self.reply_of(&card, run).await?;
        self.send_card(&card, &reply, run.state == RunState::Pending).await
    }

    /// Calls an approver whose direct message is refused, by name in the thread of each card that the channel has.
    pub async fn call_to_card(&self, run: &Run, refused: &Card) {
        let Some(account) = refused.conversation.account() else { return };
        // The refusal may have taken long.
        let Ok(Some(run)) = self.app.audit.store.get(run.id).await else { return };
        if run.state != RunState::Pending {
            return;
        }
        let mut approvers = pending_approvers_on(&self.app, &run, account.platform).into_iter();
        let is_recipient = |approver: &Person| approver.account.as_ref() == Some(&account.account);
        let Some(approver) = approvers.find(is_recipient) else { return };
        let cards = self.app.audit.store.run_cards(run.id).await.unwrap_or_default();
        for card in cards.iter().filter(|card| card.kind == CardKind::Primary && !card.abandoned) {
            let (Some(conversation), Ok(platform)) =
                (card.thread(), self.platform(card.conversation.platform))
            else {
                continue;
            };
            let named = self.app.access.known_on(&approver, platform.name());
            let reply = Reply::new(heading(&self.app, &run)).with(undelivered_copy(&named));
            if let Err(error) = post(&**platform, &conversation, &reply).await {
                tracing::warn!(run = run.id, card = refused.id, %error, "calling the approver to the card failed");
            }
        }
    }

    async fn has_primary_card(&self, run: &Run) -> bool {
        let cards = self.app.audit.store.run_cards(run.id).await.unwrap_or_default();
        cards.iter().any(|card| card.kind == CardKind::Primary)
    }

    async fn reply_of(&self, card: &Card, run: &Run) -> Result<Reply, SendError> {
        let platform = card.conversation.platform;
        Ok(match card.kind {
            CardKind::Reminder if run.state == RunState::Pending => {
                Reply::new(heading(&self.app, run)).with(waiting_block(&self.app, run, platform, card.kind))
            }
            CardKind::Reminder => {
                let message = self.incident_message(card, run).await?;
                render_incident_message(&self.app, run, &message, platform)
            }
            _ if run.state == RunState::Pending => {
                let buttons = self.decision_buttons(run, card, &|_| true).await;
                let unavailable =
                    |error: anyhow::Error| SendError::Unavailable(format!("its buttons: {error}"));
                let buttons = Block::Buttons(buttons.map_err(unavailable)?);
                let view = self.view_token(run, card).await.map_err(unavailable)?;
                Reply { view: Some(view), ..render_card(&self.app, run, platform).with(buttons) }
            }
            _ if run.state.is_open() => render_card(&self.app, run, platform),
            _ => {
                let reply = render_card(&self.app, run, platform);
                Box::pin(self.next_steps.complete_card(&card.conversation, reply)).await
            }
        })
    }

    /// The incident's message that a card of its thread is for: the cards are added in the order of the messages.
    async fn incident_message(&self, card: &Card, run: &Run) -> Result<IncidentMessage, SendError> {
        let cards = self.app.audit.store.run_cards(run.id).await;
        let cards = cards.map_err(|error| SendError::Unavailable(format!("its messages: {error}")))?;
        let mut cards: Vec<&Card> = cards.iter().filter(|other| other.kind == CardKind::Reminder).collect();
        cards.sort_by_key(|card| card.id);
        let index = cards.iter().position(|other| other.id == card.id).unwrap_or(usize::MAX);
        let message = IncidentMessage::later_of(run).into_iter().nth(index);
        message.ok_or_else(|| SendError::Unsendable("there is no message for it".to_owned()))
    }

    fn platform(&self, name: PlatformKind) -> Result<&Arc<dyn Platform>, SendError> {
        self.platforms.get(name).ok_or_else(|| SendError::Unsendable("no platform".to_owned()))
    }

    async fn send_card(
        &self,
        card: &Card,
        reply: &Reply,
        is_pending: bool,
    ) -> Result<PostedMessage, SendError> {
        let platform = self.platform(card.conversation.platform)?;
        if let Some(message) = &card.message {
            let posted = PostedMessage { conversation: card.conversation.clone(), message: message.clone() };
            let mut edited = platform.edit(&posted, reply).await;
            if let Some(text) = text_alone(reply, &edited) {
                edited = platform.edit(&posted, &text).await;
            }
            return edited.map(|()| posted);
        }
        match post(&**platform, &card.conversation, reply).await {
            // A request's reminder without its thread would say nothing.
            Err(SendError::ThreadRefused(_)) if card.kind != CardKind::Reminder || !is_pending => {
                let conversation = Conversation { thread: None, ..card.conversation.clone() };
                post(&**platform, &conversation, reply).await
            }
            posted => posted,
        }
    }

    /// Builds a button for each of the selected decisions, each with a new token that is valid on this card alone.
    pub async fn decision_buttons(
        &self,
        run: &Run,
        card: &Card,
        is_selected: &(dyn Fn(Decision) -> bool + Sync),
    ) -> anyhow::Result<Vec<Button>> {
        let platform = card.conversation.platform;
        let app = &self.app;
        let requester = app.access.known_on(&run.request.requester, platform);
        let approvers = pending_approvers_on(app, run, platform);
        let mut buttons = Vec::new();
        let mut tokens = Vec::new();
        for (label, decision, style) in DECISION_BUTTONS.into_iter().filter(|button| is_selected(button.1)) {
            let purpose = TokenPurpose::Decision { run: run.id, decision, card: card.id };
            let token = new_token(card, purpose)?;
            let visible_to = match decision {
                Decision::Withdraw => vec![requester.clone()],
                Decision::Approve | Decision::Deny => approvers.clone(),
            };
            buttons.push(Button { visible_to, ..Button::new(label, token.token.clone(), style) });
            tokens.push(token);
        }
        app.audit.store.put_tokens(tokens).await?;
        Ok(buttons)
    }

    async fn view_token(&self, run: &Run, card: &Card) -> anyhow::Result<String> {
        let token = new_token(card, TokenPurpose::View { run: run.id, card: card.id })?;
        self.app.audit.store.put_tokens(vec![token.clone()]).await?;
        Ok(token.token)
    }
}

async fn post(
    platform: &dyn Platform,
    conversation: &Conversation,
    reply: &Reply,
) -> Result<PostedMessage, SendError> {
    let posted = platform.post(conversation, reply).await;
    match text_alone(reply, &posted) {
        Some(text) => platform.post(conversation, &text).await,
        None => posted,
    }
}

/// The conversation for a card whose own one is refused. A request's card is never sent elsewhere.
fn other_conversation(card: &Card, run: &Run) -> Option<Conversation> {
    let request = &run.request;
    let requester = request.sender.as_ref().filter(|sender| sender.platform.is_chat());
    let directly = requester.map(Conversation::with);
    match card.kind {
        CardKind::Outcome if card.conversation.account().is_some() => {
            Some(request.conversation.clone()).filter(|conversation| conversation.platform.is_chat())
        }
        CardKind::Outcome => directly,
        CardKind::Primary if run.event(EventKind::Requested).is_none() => directly,
        CardKind::Primary | CardKind::Direct | CardKind::Reminder => None,
    }
}

fn new_token(card: &Card, purpose: TokenPurpose) -> anyhow::Result<ButtonToken> {
    let token = crate::model::random_token()
        .ok_or_else(|| anyhow::anyhow!("the operating system returned no random bytes"))?;
    Ok(ButtonToken { token, purpose, conversation: card.conversation.clone() })
}

/// The text of a reply alone, if its content was refused. A plan is shown whole or not at all.
pub(super) fn text_alone<T>(reply: &Reply, sent: &Result<T, SendError>) -> Option<Reply> {
    let Err(SendError::ContentRefused(code)) = sent else { return None };
    if reply.indivisible || reply.text_only {
        return None;
    }
    tracing::error!(run = reply.heading.run, code, "content refused; sending its text alone");
    Some(Reply { text_only: true, view: None, ..reply.clone() })
}
