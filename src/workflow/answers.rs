//! Answers to events. Every way is tried, the best first; what no way delivers is retried. The outcome of a run that changed something
//! is then left to the outbox, which outlives the process; any other answer is lost with it.

use super::delivery::text_alone;
use super::in_flight::CardUpdate;
use super::outbox::Outbox;
use super::work_queue;
use crate::model::{Audience, CardKind, ChatEvent, Conversation, EventKind, Reply, Risk, RunId};
use crate::platform::{Platform, Route, SendError};
use crate::store::StoreResult;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An undelivered answer is retried for as long as a `response_url` would have lived.
const RETRY_TIMEOUT: Duration = Duration::from_secs(1_800);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The ways of an answer, best first.
const ROUTES: [Route; 4] = [Route::Handle, Route::Thread, Route::Conversation, Route::Direct];

/// Rounds in which a way that can't be reached holds up the others: a message that was taken although its answer was lost would come
/// twice.
const PATIENT_ROUNDS: usize = 3;

impl Outbox {
    /// Sends an answer; while no way delivers it, retries in the background.
    pub(super) async fn answer(self: &Arc<Self>, incoming: &ChatEvent, reply: Reply) {
        work_queue::leave();
        let Some(platform) = self.platforms.get(incoming.sender.platform).cloned() else { return };
        // For the requester alone in a conversation that is shared with another organisation, and in one of which that isn't known.
        let reply = match self.platforms.get(incoming.conversation.platform) {
            Some(platform) => match platform.conversation(&incoming.conversation).await {
                Ok(info) if !info.is_shared => reply,
                _ => reply.ephemeral(),
            },
            None => reply,
        };
        let Err(error) = try_routes(&*platform, incoming, &reply, 0).await else { return };
        tracing::warn!(run = reply.heading.run, %error, "delivering answer failed; will retry");
        match self.leave_to_outbox(incoming, &reply).await {
            Ok(true) => {}
            Ok(false) => self.spawn_retry(platform, incoming.clone(), reply, error),
            Err(store_error) => {
                tracing::warn!(run = reply.heading.run, error = %store_error, "adding outcome card failed");
                self.spawn_retry(platform, incoming.clone(), reply, error);
            }
        }
    }

    /// Answers a refused event, together with others of the same person in the same conversation if there are any.
    pub(super) async fn refuse(self: &Arc<Self>, incoming: &ChatEvent, reply: Reply) {
        // A client that waits for its card can't be answered by another event's answer.
        if incoming.handle.as_ref().is_some_and(|handle| handle.replaces_card) {
            return self.answer(incoming, reply).await;
        }
        let Some(mut sending) = self.refusals.begin(incoming, &reply) else { return };
        self.answer(incoming, self.next_steps.complete_refusal(incoming, reply).await).await;
        while let Some((incoming, reply)) = sending.followers().together() {
            self.answer(&incoming, self.next_steps.complete_refusal(&incoming, reply).await).await;
        }
    }

    /// Adds a card for the outcome of a run that changed something, where the answer should have been. `false` if the answer is none.
    async fn leave_to_outbox(self: &Arc<Self>, incoming: &ChatEvent, reply: &Reply) -> StoreResult<bool> {
        let store = &self.app().audit.store;
        let Some(id) = reply.heading.run else { return Ok(false) };
        let Some(run) = store.get(id).await? else { return Ok(false) };
        let is_outcome = run.request.risk != Risk::Read && run.event(EventKind::Requested).is_none();
        if !is_outcome || run.state.is_open() {
            return Ok(false);
        }
        let conversation = match reply.audience {
            Audience::Everyone => incoming.conversation.clone(),
            Audience::Asker => Conversation::with(&incoming.sender),
        };
        let card = store.add_card(id, conversation, CardKind::Outcome).await?;
        let outbox = Arc::clone(self);
        self.background.spawn(async move { outbox.deliver(card, CardUpdate::IfOutdated).await });
        Ok(true)
    }

    /// Retries in the background. The end of the process waits for an attempt, but not for the pause before the next.
    fn spawn_retry(
        self: &Arc<Self>,
        platform: Arc<dyn Platform>,
        incoming: ChatEvent,
        reply: Reply,
        error: SendError,
    ) {
        let background = self.background.clone();
        tokio::spawn(async move {
            let (mut error, mut pause, mut round) = (error, FIRST_RETRY, 0);
            let mut until = Instant::now() + RETRY_TIMEOUT;
            while Instant::now() < until {
                let asked = match error {
                    SendError::RateLimited(wait) => wait,
                    _ => Duration::ZERO,
                };
                until += asked;
                tokio::time::sleep(pause.max(asked)).await;
                pause = (pause * 2).min(LONGEST_RETRY);
                round += 1;
                match background.track_future(try_routes(&*platform, &incoming, &reply, round)).await {
                    Ok(()) | Err(SendError::Unsendable(_)) => return,
                    Err(again) => error = again,
                }
            }
            tracing::error!(run = reply.heading.run, %error, "dropped answer: not delivered within 30 min");
        });
    }
}

/// Tries every way, the best first. The error is the last one's.
async fn try_routes(
    platform: &dyn Platform,
    incoming: &ChatEvent,
    reply: &Reply,
    round: usize,
) -> Result<(), SendError> {
    let mut last = SendError::NoRoute;
    for route in ROUTES {
        let mut sent = platform.answer(incoming, reply, route).await;
        if let Some(text) = text_alone(reply, &sent) {
            sent = platform.answer(incoming, &text, route).await;
        }
        let error = match sent {
            Ok(()) => return Ok(()),
            Err(SendError::NoRoute) => continue,
            Err(error @ (SendError::Unsendable(_) | SendError::RateLimited(_))) if route != Route::Handle => {
                return Err(error);
            }
            Err(error @ SendError::Unavailable(_)) if route != Route::Handle && round < PATIENT_ROUNDS => {
                return Err(error);
            }
            Err(error) => error,
        };
        let run: Option<RunId> = reply.heading.run;
        tracing::warn!(run, ?route, %error, "delivering answer by one way failed");
        last = error;
    }
    Err(last)
}
