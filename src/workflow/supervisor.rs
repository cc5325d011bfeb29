//! What time and crashes leave behind: requests that expired, runs whose process is gone, cards that show less than the
//! record, connections that should be warm, uploads that nobody finished. It observes and closes; what it lets go on, a purge, goes
//! on from its noted steps.

use super::Workflow;
use crate::audit::EventDetails;
use crate::model::{EventKind, Risk, RunState};
use crate::store::StoreResult;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

const TICK: Duration = Duration::from_secs(1);
const WARM_EVERY: u32 = 30;
/// A reminder may be some seconds late.
const REMIND_EVERY: u32 = 5;
/// How often PostgreSQL is asked what became of interrupted runs.
const LOOK_EVERY: u32 = 10;
/// What is left of an upload counts as abandoned after a day: an hour more or less doesn't matter.
const CLEAR_EVERY: u32 = 3_600;

impl Workflow {
    /// Runs until the process ends.
    pub async fn keep(self: Arc<Self>) {
        let mut tick = 0_u32;
        let mut looking: Option<AbortOnDropHandle<()>> = None;
        loop {
            if tick.is_multiple_of(WARM_EVERY) {
                let flow = Arc::clone(&self);
                tokio::spawn(async move { flow.app.environments.keep_warm().await });
            }
            if tick.is_multiple_of(CLEAR_EVERY) {
                let storage = self.app.storage.clone();
                tokio::spawn(async move {
                    if let Err(why) = storage.clear_abandoned().await {
                        tracing::warn!(%why, "removing abandoned uploads failed");
                    }
                });
            }
            if let Err(why) = self.tidy().await {
                tracing::warn!(%why, "background tick skipped: audit store unavailable");
            }
            if tick.is_multiple_of(REMIND_EVERY)
                && let Err(why) = self.remind().await
            {
                tracing::warn!(%why, "reminders skipped: audit store unavailable");
            }
            if tick.is_multiple_of(LOOK_EVERY) && looking.as_ref().is_none_or(|task| task.is_finished()) {
                let flow = Arc::clone(&self);
                looking = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                    if let Err(why) = flow.reconcile().await {
                        tracing::warn!(%why, "reconciliation skipped: audit store unavailable");
                    }
                })));
            }
            tick = tick.wrapping_add(1);
            tokio::time::sleep(TICK).await;
        }
    }

    /// One round: orphans, overdue requests, cards behind.
    pub async fn tidy(self: &Arc<Self>) -> StoreResult<()> {
        for run in self.app.audit.store.orphans().await? {
            let (happening, why) = match run.state {
                RunState::Running if run.request.risk == Risk::Read => {
                    (EventKind::Stopped, "Countersign was interrupted")
                }
                RunState::Running => (EventKind::Interrupted, "Countersign was interrupted during the run"),
                _ => (EventKind::Revoked, "Countersign was interrupted before it started"),
            };
            self.append_or_log(&run, happening, EventDetails::why(why)).await;
        }
        for run in self.app.audit.store.overdue(jiff::Timestamp::now()).await? {
            self.append_or_log(&run, EventKind::Expired, EventDetails::default()).await;
        }
        let behind = self.app.audit.store.cards_behind().await?;
        let now = tokio::time::Instant::now();
        for card in behind.into_iter().filter(|card| self.later.is_due(card.id, now)) {
            // A platform that hangs must not hold up the record: each copy is sent by one task at a time.
            let flow = Arc::clone(self);
            tokio::spawn(async move { flow.deliver(card.id).await });
        }
        Ok(())
    }
}
