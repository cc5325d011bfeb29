//! Requests made in a terminal. Nobody else sees what stands there, so the card stands in chat, in the place that the
//! configuration names for it; whoever approves there starts the run in the bot that serves the chat.

use super::Workflow;
use super::executor::may_hold_a_card;
use super::intent::Intent;
use crate::error::{Error, Result, User};
use crate::model::{Block, IncomingEvent, Plan, Reply};
use crate::sql::fill;
use std::sync::Arc;

const STANDS: &str = "Its card is in chat, where somebody else approves it. `show {run}` shows its state, \
                      `withdraw {run}` withdraws it.";
const WAITS: &str = "The chat platform can't be reached; the bot will send the card as soon as possible. `show {run}` shows \
                     its state.";

impl Workflow {
    /// Asks in chat, and says so where it was typed.
    ///
    /// # Errors
    /// As [`Workflow::ask`], and [`Error::User`] when there is no place for the card.
    pub(super) async fn ask_elsewhere(
        self: &Arc<Self>,
        intent: &Intent<'_>,
        plan: Plan,
    ) -> Result<Option<Reply>> {
        let place = self.place_for_others().ok_or_else(|| {
            Error::instead(
                "A second person has to approve this in chat, and no channel is set for its card.",
                "Request it in chat, or name a channel as `terminal_channel` in the configuration's `[slack]`.",
            )
        })?;
        if let Some(platform) = self.platform(place.platform) {
            may_hold_a_card(&**platform, &place).await.map_err(there)?;
        }
        let incoming = IncomingEvent { place, ..intent.incoming.clone() };
        let asked = Intent { incoming: &incoming, ..intent.clone() };
        let Some(run) = self.ask(&asked, plan).await? else { return Ok(None) };
        let store = &self.app.audit.store;
        let run = store.get(run.id).await.ok().flatten().unwrap_or(run);
        let cards = store.cards_of(run.id).await.unwrap_or_default();
        let mut reply = super::card::render_card(self, &run, run.request.place.platform);
        // Nothing is approved here.
        reply.whole = false;
        if run.state.is_open() {
            let shown = cards.iter().any(|card| card.message.is_some());
            let note = fill(if shown { STANDS } else { WAITS }, &|_| Some(run.id.to_string()));
            reply = reply.with(Block::Note(note));
        }
        Ok(Some(reply))
    }
}

/// What is wrong with the card's place, told to somebody who isn't there.
fn there(error: Error) -> Error {
    match error {
        Error::User(User { problem, instead }) => {
            let problem = format!("The channel for requests from terminals can't take the card. {problem}");
            Error::User(User { problem, instead })
        }
        other => other,
    }
}
