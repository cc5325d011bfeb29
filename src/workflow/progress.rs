//! Cards that move: what they show besides the record, which is how far work is, and what is watched of an interrupted run.

use super::Workflow;
use super::card::render_card;
use crate::model::{CardKind, RunId};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How often a run's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

const TRY_EVERY: Duration = Duration::from_millis(200);

impl Workflow {
    /// Edits progress into the run's copies for as long as it is polled. All runs take turns, so that the platform's limit is left to
    /// what cards must say at once, which waits for no turn.
    pub(super) async fn show_progress(&self, run: RunId) -> Infallible {
        let mut shown = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let share = self.app.progress.get(run);
            if share.is_none() || share == shown {
                continue;
            }
            shown = share;
            let cards = self.app.audit.store.cards_of(run).await.unwrap_or_default();
            let cards = cards.iter().filter(|card| card.kind == CardKind::Primary && !card.abandoned);
            for card in cards.filter(|card| card.message.is_some()) {
                self.turns.turn(&format!("{:?}", card.place.platform)).await;
                // As it is by now: the turn may have come late.
                shown = self.app.progress.get(run);
                let Ok(Some(now)) = self.app.audit.store.get(run).await else { continue };
                let reply = render_card(self, &now, card.place.platform);
                if let Err(why) = self.send_copy(card, &now, &reply).await {
                    tracing::debug!(run, %why, "editing progress failed");
                }
            }
        }
    }

    /// Draws a run's cards anew, since they show something that isn't in the record.
    pub(super) async fn redraw(self: &Arc<Self>, run: RunId) {
        let cards = self.app.audit.store.cards_of(run).await.unwrap_or_default();
        for card in cards.iter().filter(|card| card.kind == CardKind::Primary && card.message.is_some()) {
            // Whoever sends it at this moment may not know yet what is to be shown.
            while !self.cards.begin(card.id) {
                tokio::time::sleep(TRY_EVERY).await;
            }
            let mut anew = true;
            loop {
                if let Err(why) = self.deliver_now((card.id, anew)).await {
                    tracing::debug!(run, %why, "editing watched state failed");
                }
                anew = false;
                if !self.cards.end(card.id) {
                    break;
                }
            }
        }
    }
}
