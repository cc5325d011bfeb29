//! The straight line: a verified event → a person → a command → its values → access → the record → the act or the answer →
//! the record closed → a reply. The only caller of send. What a command does is in `actions` and `sql`; what a platform looks
//! like is in `chat`.

use crate::app::App;
use crate::audit::EventDetails;
use crate::ephemeral::{DuplicateFilter, RateLimiter};
use crate::error::Error;
use crate::model::{Event, EventKind, Heading, IncomingEvent, PlatformKind, Reply};
use crate::platform::{Platform, SendError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

mod authenticate;
mod break_glass;
mod card;
mod decisions;
mod executor;
mod intent;
mod outbox;
mod personal_view;
mod progress;
mod queries;
mod recipients;
mod reconciler;
mod reminders;
mod replies;
mod supervisor;
mod terminal_requests;

pub use replies::FIRST;

/// Platforms redeliver within minutes (Slack's last retry comes after five); the store remembers for ever.
const REMEMBER: Duration = Duration::from_secs(900);

/// How long an undelivered answer is tried again: as long as a `response_url` would have lived.
const KEEP_TRYING: Duration = Duration::from_secs(1_800);

/// Of the patience with what runs: a command is ended, its sessions are seen off, and the ledger is read.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// The line that every event runs along.
pub struct Workflow {
    pub app: App,
    platforms: HashMap<PlatformKind, Arc<dyn Platform>>,
    recent: DuplicateFilter,
    cards: outbox::InFlight,
    /// Copies that could not be sent.
    later: outbox::RetrySchedule,
    /// For edits that show progress, by platform.
    turns: RateLimiter,
    /// Runs that this process carries out.
    acting: outbox::InFlight,
    /// Interrupted runs whose cards show what this process sees of them.
    watching: outbox::InFlight,
    /// What goes on after an event was answered and is to be done before the process ends.
    after: TaskTracker,
}

/// How an event ended, for a door that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    Answered,
    /// The person can mend it.
    Refused,
    /// They can't.
    Failed,
}

impl Workflow {
    pub fn new(app: App, platforms: Vec<Arc<dyn Platform>>) -> Arc<Workflow> {
        let platforms = platforms.into_iter().map(|platform| (platform.name(), platform)).collect();
        let recent = DuplicateFilter::new(REMEMBER, 10_000);
        let [cards, acting, watching] = std::array::from_fn(|_| outbox::InFlight::default());
        let turns = RateLimiter::new(outbox::PROGRESS_EVERY);
        let after = TaskTracker::new();
        let later = outbox::RetrySchedule::default();
        Arc::new(Workflow { app, platforms, recent, cards, later, turns, acting, watching, after })
    }

    /// Whether this delivery is heard for the first time; from now on it isn't.
    pub fn first_time(&self, incoming: &IncomingEvent) -> bool {
        let first = self.recent.first_time(&incoming.delivery);
        if !first {
            tracing::debug!(delivery = incoming.delivery, "dropped duplicate delivery");
        }
        first
    }

    /// Handles one event to its end. Nothing is returned and nothing is lost: the sender is answered, and the record kept.
    pub async fn handle(self: &Arc<Self>, incoming: IncomingEvent) {
        // Boxed: a command's future is large, and taking an event on is to cost little.
        Box::pin(self.carry_out(incoming)).await;
    }

    /// As [`Workflow::handle`], for a process that ends then: waits until the record is closed too, or `patience` is over.
    pub async fn handle_wholly(self: &Arc<Self>, incoming: IncomingEvent, patience: Duration) -> Completion {
        let ending = Box::pin(self.carry_out(incoming)).await;
        self.after.close();
        if tokio::time::timeout(patience, self.after.wait()).await.is_err() {
            tracing::error!("closing runs timed out");
        }
        ending
    }

    /// Handles an event in the background; the process doesn't end before it is done, or [`Workflow::finish`] has waited for long enough.
    pub fn take_on(self: &Arc<Self>, incoming: IncomingEvent, room: OwnedSemaphorePermit) {
        let flow = Arc::clone(self);
        self.after.spawn(async move {
            flow.handle(incoming).await;
            drop(room);
        });
    }

    /// Lets what runs come to its end, when nothing new comes in any more. What can't outlive the process is told to end a moment
    /// before `patience` is over, and says so; what takes longer is marked in the record: nobody will know what became of it, until
    /// PostgreSQL is looked at again.
    pub async fn finish(&self, patience: Duration) {
        self.after.close();
        let last = LAST_MOMENT.min(patience / 2);
        if tokio::time::timeout(patience - last, self.after.wait()).await.is_ok() {
            return;
        }
        self.app.shutdown.cancel();
        if tokio::time::timeout(last, self.after.wait()).await.is_ok() {
            return;
        }
        for run in self.acting.all() {
            tracing::warn!(run, "run did not end before shutdown");
            let told = EventDetails::why(crate::actions::support::recovery::TOLD_TO_END);
            if let Err(why) = self.app.audit.note(run, EventKind::Interrupted, told).await {
                tracing::error!(run, %why, "recording event failed");
            }
        }
    }

    async fn carry_out(self: &Arc<Self>, incoming: IncomingEvent) -> Completion {
        let handled = match &incoming.event {
            Event::Command { line } => self.command(&incoming, line).await,
            Event::Button { token, message }
                if incoming.handle.as_ref().is_some_and(|handle| handle.card) =>
            {
                self.clicked(&incoming, (token, message)).await
            }
            Event::Button { token, message } => self.button(&incoming, (token, message)).await,
            Event::View { token, message } => self.view(&incoming, (token, message)).await,
        };
        match handled {
            Ok(reply) => {
                if let Some(reply) = reply {
                    self.answer(&incoming, reply).await;
                }
                Completion::Answered
            }
            Err(refused) => {
                self.answer(&incoming, replies::refusal(&refused)).await;
                match refused.error {
                    Error::User(_) => Completion::Refused,
                    Error::Internal(_) => Completion::Failed,
                }
            }
        }
    }

    fn platform(&self, name: PlatformKind) -> Option<&Arc<dyn Platform>> {
        self.platforms.get(&name)
    }

    /// Sends an answer; while the platform can't be reached, tries again in the background.
    async fn answer(self: &Arc<Self>, incoming: &IncomingEvent, reply: Reply) {
        let Some(platform) = self.platform(incoming.sender.platform).cloned() else { return };
        let reply = self.discreet(incoming, reply).await;
        match platform.answer(incoming, &reply).await {
            Ok(()) => {}
            Err(SendError::Unavailable(why)) => {
                tracing::warn!(why, "chat platform unavailable; retrying answer");
                let incoming = incoming.clone();
                tokio::spawn(async move { keep_answering(&*platform, &incoming, &reply).await });
            }
            Err(why) => tracing::error!(%why, "delivering answer failed"),
        }
    }

    /// In a conversation shared with another organisation, and where that can't be known, only the asker is answered.
    async fn discreet(&self, incoming: &IncomingEvent, reply: Reply) -> Reply {
        let Some(platform) = self.platform(incoming.place.platform) else { return reply };
        match platform.conversation(&incoming.place).await {
            Ok(conversation) if !conversation.shared => reply,
            _ => reply.privately(),
        }
    }
}

async fn keep_answering(platform: &dyn Platform, incoming: &IncomingEvent, reply: &Reply) {
    let until = tokio::time::Instant::now() + KEEP_TRYING;
    let mut pause = Duration::from_secs(1);
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
        match platform.answer(incoming, reply).await {
            Err(SendError::Unavailable(_)) => {}
            Ok(()) => return,
            Err(why) => {
                tracing::error!(%why, "delivering answer failed");
                return;
            }
        }
    }
    tracing::error!("dropped answer: chat platform unavailable for 30 min");
}

/// An error and the heading that its answer begins with.
struct Rejection {
    heading: Heading,
    error: Error,
}

type HandlerResult = Result<Option<Reply>, Rejection>;
