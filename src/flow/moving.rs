//! Cards that move: what they show besides the record, which is how far work is, and what is watched of an interrupted run.

use super::Flow;
use super::cards::card;
use crate::store::{CopyKind, RunId};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Two seconds between edits of one message: Slack's third tier allows fifty a minute for all of a workspace's.
const EDIT_EVERY: Duration = Duration::from_secs(2);

const TRY_EVERY: Duration = Duration::from_millis(200);

impl Flow {
    /// Edits progress into the run's copies for as long as it is polled.
    pub(super) async fn show_progress(&self, run: RunId) -> Infallible {
        let mut shown = None;
        loop {
            tokio::time::sleep(EDIT_EVERY).await;
            let share = self.app.progress.get(run);
            if share.is_none() || share == shown {
                continue;
            }
            shown = share;
            let (Ok(copies), Ok(Some(now))) =
                (self.app.runs.store.copies_of(run).await, self.app.runs.store.get(run).await)
            else {
                continue;
            };
            let cards = copies.iter().filter(|copy| copy.kind == CopyKind::Card && !copy.lost);
            for copy in cards.filter(|copy| copy.message.is_some()) {
                let reply = card(self, &now, copy.place.platform);
                if let Err(why) = self.send_copy(copy, &now, &reply).await {
                    tracing::debug!(run, %why, "progress could not be shown");
                }
            }
        }
    }

    /// Draws a run's cards anew, since they show something that isn't in the record.
    pub(super) async fn redraw(self: &Arc<Self>, run: RunId) {
        let copies = self.app.runs.store.copies_of(run).await.unwrap_or_default();
        for copy in copies.iter().filter(|copy| copy.kind == CopyKind::Card && copy.message.is_some()) {
            // Whoever sends it at this moment may not know yet what is to be shown.
            while !self.cards.begin(copy.id) {
                tokio::time::sleep(TRY_EVERY).await;
            }
            if let Err(why) = self.deliver_now((copy.id, true)).await {
                tracing::debug!(run, %why, "what is watched could not be shown");
            }
            self.cards.end(copy.id);
        }
    }
}
