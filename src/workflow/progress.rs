//! Progress on cards: what they show besides the record, which is how far the work is, and what is observed of an interrupted run.

use super::card::render_card;
use super::outbox::Outbox;
use crate::model::{CardKind, RunId};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// A run's progress is polled this often.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A card that is being sent is tried again after this.
const IN_FLIGHT_POLL_INTERVAL: Duration = Duration::from_millis(200);

impl Outbox {
    /// Edits progress into the run's cards for as long as it is polled. All runs take turns, so that the platform's rate limit leaves
    /// room for what cards must say at once, which waits for no turn.
    pub(super) async fn show_progress(&self, run: RunId) -> Infallible {
        let app = self.app();
        let mut shown = None;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let progress = app.progress.get(run);
            if progress.is_none() || progress == shown {
                continue;
            }
            shown = progress;
            let cards = app.audit.store.cards_of(run).await.unwrap_or_default();
            let cards = cards.iter().filter(|card| card.kind == CardKind::Primary && !card.abandoned);
            for card in cards.filter(|card| card.message.is_some()) {
                self.progress_turns.turn(&format!("{:?}", card.place.platform)).await;
                // Read again: the turn may have come late.
                shown = app.progress.get(run);
                let Ok(Some(now)) = app.audit.store.get(run).await else { continue };
                let reply = render_card(app, &now, card.place.platform);
                if let Err(error) = self.send_card(card, &now, &reply).await {
                    tracing::debug!(run, card = card.id, %error, "editing progress failed");
                }
            }
        }
    }

    /// Sends a run's cards again, since they show something that isn't in the record.
    pub(super) async fn force_update(self: &Arc<Self>, run: RunId) {
        let cards = self.app().audit.store.cards_of(run).await.unwrap_or_default();
        for card in cards.iter().filter(|card| card.kind == CardKind::Primary && card.message.is_some()) {
            // The task that is sending it may have rendered it before the change.
            while !self.sending.begin(card.id) {
                tokio::time::sleep(IN_FLIGHT_POLL_INTERVAL).await;
            }
            let mut force = true;
            loop {
                if let Err(error) = self.deliver_now(card.id, force).await {
                    tracing::debug!(run, card = card.id, %error, "editing observed state failed");
                }
                force = false;
                if !self.sending.end(card.id) {
                    break;
                }
            }
        }
    }
}
