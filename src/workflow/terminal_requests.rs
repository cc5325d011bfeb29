//! Requests made in a terminal. Nobody else sees a terminal, so the card is posted in chat, in the channel that the configuration
//! names for it; the approval starts the run in the bot that serves the chat.

use super::card::render_card;
use super::intent::Intent;
use super::requests::Requests;
use crate::error::{Error, Result, User};
use crate::model::{Block, IncomingEvent, Plan, Reply};
use crate::sql::fill;

const CARD_POSTED: &str = "Its card is in chat, where somebody else approves it. `show {run}` shows its state, \
                           `withdraw {run}` withdraws it.";
const CARD_PENDING: &str = "The chat platform can't be reached; the bot will send the card as soon as possible. `show {run}` \
                            shows its state.";

impl Requests {
    /// Requests approval in chat, and answers in the terminal.
    ///
    /// # Errors
    /// As [`Requests::request_approval`], and [`Error::User`] when no channel is set for the card.
    pub(super) async fn request_from_terminal(
        &self,
        intent: &Intent<'_>,
        plan: Plan,
    ) -> Result<Option<Reply>> {
        let place = self.outbox.platforms.terminal_channel().ok_or_else(|| {
            Error::instead(
                "A second person has to approve this in chat, and no channel is set for its card.",
                "Request it in chat, or name a channel as `terminal_channel` in the configuration's `[slack]`.",
            )
        })?;
        self.outbox.platforms.require_card_conversation(&place).await.map_err(with_channel)?;
        let incoming = IncomingEvent { place, ..intent.incoming.clone() };
        let in_chat = Intent { incoming: &incoming, ..intent.clone() };
        let Some(run) = self.request_approval(&in_chat, plan).await? else { return Ok(None) };
        let store = &self.app.audit.store;
        let run = store.get(run.id).await.ok().flatten().unwrap_or(run);
        let cards = store.cards_of(run.id).await.unwrap_or_default();
        let mut reply = render_card(&self.app, &run, run.request.place.platform);
        // The terminal has no approval buttons.
        reply.indivisible = false;
        if run.state.is_open() {
            let is_posted = cards.iter().any(|card| card.message.is_some());
            let note = if is_posted { CARD_POSTED } else { CARD_PENDING };
            reply = reply.with(Block::Note(fill(note, &|_| Some(run.id.to_string()))));
        }
        Ok(Some(reply))
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
