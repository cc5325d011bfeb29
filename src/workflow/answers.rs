//! Answers to events. An answer that the platform can't take now is retried in the background; it is lost with the process.

use super::outbox::Outbox;
use super::work_queue;
use crate::model::{ButtonToken, ChatEvent, Reply, TokenPurpose};
use crate::platform::{Platform, SendError};
use std::time::Duration;
use tokio::time::Instant;

/// An undelivered answer is retried for as long as a `response_url` would have lived.
const RETRY_TIMEOUT: Duration = Duration::from_secs(1_800);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

impl Outbox {
    /// Sends an answer; while the platform can't be reached, retries in the background.
    pub(super) async fn answer(&self, incoming: &ChatEvent, reply: Reply) {
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
        match platform.answer(incoming, &reply).await {
            Ok(()) => {}
            Err(SendError::Unavailable(error)) => {
                tracing::warn!(error, "chat platform unavailable; retrying answer");
                let incoming = incoming.clone();
                tokio::spawn(async move { retry(&*platform, &incoming, &reply).await });
            }
            Err(error) => tracing::error!(%error, "delivering answer failed"),
        }
    }

    /// Stores the commands behind an answer's buttons. On `false` the buttons have no meaning and must not be shown.
    pub(super) async fn store_offers(
        &self,
        incoming: &ChatEvent,
        offers: Vec<(String, TokenPurpose)>,
    ) -> bool {
        if offers.is_empty() {
            return true;
        }
        let conversation = &incoming.conversation;
        let tokens = offers.into_iter().map(|(token, purpose)| ButtonToken {
            token,
            purpose,
            conversation: conversation.clone(),
        });
        self.app().audit.store.put_tokens(tokens.collect()).await.is_ok()
    }
}

async fn retry(platform: &dyn Platform, incoming: &ChatEvent, reply: &Reply) {
    let until = Instant::now() + RETRY_TIMEOUT;
    let mut pause = FIRST_RETRY;
    while Instant::now() < until {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_RETRY);
        match platform.answer(incoming, reply).await {
            Err(SendError::Unavailable(_)) => {}
            Ok(()) => return,
            Err(error) => return tracing::error!(%error, "delivering answer failed"),
        }
    }
    tracing::error!("dropped answer: chat platform unavailable for 30 min");
}
