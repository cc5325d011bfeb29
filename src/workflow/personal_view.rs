//! A card as one person sees it, on platforms that show each person their own: with their buttons, and with what was refused to
//! them. The card's client asks for it, and a click is answered with it.

use super::authenticate::Authenticator;
use super::card::render_card;
use super::eligibility::pending_approvers;
use super::outbox::Outbox;
use super::replies::{self, HandlerResult, Rejection, store_error};
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::{Block, Card, Decision, Heading, IncomingEvent, Reply, Run, RunState, TokenPurpose};
use std::sync::Arc;

/// Renders personal views.
pub(super) struct PersonalViews {
    pub app: Arc<App>,
    pub authenticator: Authenticator,
    pub outbox: Arc<Outbox>,
}

impl PersonalViews {
    /// The card of a token as the event's sender sees it.
    pub async fn view(&self, incoming: &IncomingEvent, token: &str, message: &str) -> HandlerResult {
        let heading = Heading { who: None, asked: "a card".to_owned(), environment: None, run: None };
        let view = self.card_of(incoming, token, message).await;
        view.map(Some).map_err(|error| Rejection { heading, error })
    }

    async fn card_of(&self, incoming: &IncomingEvent, token: &str, message: &str) -> Result<Reply> {
        let store = &self.app.audit.store;
        let token = store.token(token).await.map_err(|error| store_error(&error))?;
        let unknown =
            || Error::instead("This card is no longer known.", "`pending` shows the open requests.");
        let token =
            token.filter(|token| token.place.same_conversation(&incoming.place)).ok_or_else(unknown)?;
        let (TokenPurpose::Decision { run, card, .. } | TokenPurpose::View { run, card }) = token.purpose
        else {
            return Err(unknown());
        };
        // Its readers' clients ask as soon as it is posted, before the platform has answered the bot.
        let delivered = self.outbox.delivered_message(card, run).await?;
        if delivered.is_some_and(|delivered| delivered != message) {
            return Err(unknown());
        }
        let card = store.card(card).await.map_err(|error| store_error(&error))?;
        let card = card.filter(|card| card.run == run);
        let run = store.get(run).await.map_err(|error| store_error(&error))?;
        let (card, run) = card.zip(run).ok_or_else(unknown)?;
        self.render(&run, &card, incoming).await
    }

    /// Renders the card with those of its buttons that this person may click.
    async fn render(&self, run: &Run, card: &Card, incoming: &IncomingEvent) -> Result<Reply> {
        let mut reply = render_card(&self.app, run, card.place.platform);
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
        let mut buttons = self.outbox.decision_buttons(run, card, &is_theirs).await?;
        buttons.iter_mut().for_each(|button| button.visible_to = vec![person.clone()]);
        if !buttons.is_empty() {
            reply = reply.with(Block::Buttons(buttons));
        }
        Ok(reply)
    }
}

/// Puts a refusal into a card, above the buttons, where the clicker looks: a plan can be longer than a screen.
pub(super) fn with_refusal(mut view: Reply, rejection: &Rejection) -> Reply {
    let refusal = replies::refusal(rejection).blocks;
    let index = view.blocks.iter().rposition(|block| matches!(block, Block::Buttons(_))).unwrap_or(0);
    view.blocks.splice(index..index, refusal);
    // The refusal is the clicker's, and the conversation has the whole plan.
    view.indivisible = false;
    view.ephemeral()
}
