//! The outbox: cards that are older than their run are rendered and sent again, also after a restart. What a card says is in
//! `card`.

use super::card::{DECISION_BUTTONS, heading, pending_approvers_on, render_card, waiting_block};
use super::platforms::Platforms;
use super::replies::store_error;
use super::work_queue;
use crate::app::App;
use crate::audit::EventDetails;
use crate::ephemeral::RateLimiter;
use crate::error::Result;
use crate::model::{
    Block, Button, ButtonToken, Card, CardKind, Decision, EventKind, PlatformKind, PostedMessage, Reply, Run,
    RunId, RunState, TokenPurpose,
};
use crate::platform::{Platform, SendError};
use crate::store::StoreResult;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Time between two edits that show progress, of all runs on one platform: at most 20 a minute. Slack allows 50 messages a minute in a
/// workspace, so that two processes leave 10 for decisions and outcomes. Teams allows 1,800 an hour in a conversation; progress takes
/// 1,200 at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// The longest that sending one card may take. Finding the conversation and posting may each take a minute of attempts and a minute
/// of requested waiting.
const SEND_TIMEOUT: Duration = Duration::from_secs(240);

/// Time for which reading the card and its run is retried before the sending.
const LOAD_TIMEOUT: Duration = Duration::from_secs(100);

/// A claim outlives the sending, and the store's answers before and after it, so that no process sends what another is
/// sending. The claim of a dead process is void.
const CLAIM_PERIOD: Duration = Duration::from_secs(450);

/// A card is given up this long before its claim ends.
const CLAIM_RESERVE: Duration = Duration::from_secs(15);

/// The retries of a card come after a second, then after twice as long each time, up to this: a platform that answers too late may have
/// posted it, and one that is asked too often keeps asking to wait.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Recording the message that a card was posted as takes at most this long, on a slow disk.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);

/// The store is polled for a delivery by another process, which sends no notification here.
const DELIVERY_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A run's progress is polled this often.
const PROGRESS_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A card that is being sent is tried again after this.
const IN_FLIGHT_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The cards that this process is sending, or the runs that it is executing; with a mark on each that must be done once more.
#[derive(Default)]
pub(super) struct InFlight(Mutex<HashMap<i64, bool>>);

impl InFlight {
    /// Begins, unless it is in flight already; then it is marked to be done again.
    pub fn begin(&self, id: i64) -> bool {
        let mut in_flight = self.0.lock();
        let is_new = !in_flight.contains_key(&id);
        in_flight.insert(id, !is_new);
        is_new
    }

    /// Ends without regard to a mark; `false` if it was not in flight.
    pub fn remove(&self, id: i64) -> bool {
        self.0.lock().remove(&id).is_some()
    }

    /// Ends, unless it was marked to be done again; then it stays in flight, and the answer is `true`.
    pub fn end(&self, id: i64) -> bool {
        let mut in_flight = self.0.lock();
        let is_marked = in_flight.remove(&id).unwrap_or_default();
        if is_marked {
            in_flight.insert(id, false);
        }
        is_marked
    }

    pub fn all(&self) -> Vec<i64> {
        self.0.lock().keys().copied().collect()
    }
}

/// Cards that could not be sent, with the number of attempts and the time of the next. A new event of the run is sent at once.
#[derive(Default)]
struct RetrySchedule(Mutex<HashMap<i64, (u32, Instant)>>);

impl RetrySchedule {
    fn schedule_retry(&self, card: i64, now: Instant) {
        let mut schedule = self.0.lock();
        let attempts = schedule.get(&card).map_or(0, |(attempts, _)| *attempts);
        let wait = Duration::from_secs(1 << attempts.min(10)).min(MAX_RETRY_DELAY);
        schedule.insert(card, (attempts + 1, now + wait));
    }

    fn clear_retry(&self, card: i64) {
        self.0.lock().remove(&card);
    }

    fn is_due(&self, card: i64, now: Instant) -> bool {
        self.0.lock().get(&card).is_none_or(|(_, due)| *due <= now)
    }
}

/// Tells if the run's newest events change what this card says. Checkpoints are progress, which the cards show anyway; an outcome
/// card waits for the end, and nobody is notified of their own withdrawal.
fn needs_update(card: &Card, run: &Run) -> bool {
    let shown_version = usize::try_from(card.shown_version).unwrap_or_default();
    let new_events = run.events.get(shown_version..).unwrap_or_default();
    match card.kind {
        CardKind::Primary | CardKind::Direct if card.message.is_none() => true,
        CardKind::Reminder => card.message.is_none() && run.state == RunState::Pending,
        CardKind::Primary | CardKind::Direct => {
            new_events.iter().any(|event| event.kind != EventKind::Checkpoint)
        }
        CardKind::Outcome => !run.state.is_open() && run.state != RunState::Withdrawn,
    }
}

/// Queries the store until it answers, or until the deadline.
async fn retry_until<T, F: Future<Output = StoreResult<T>>>(
    deadline: Instant,
    query: impl Fn() -> F,
) -> StoreResult<T> {
    loop {
        match query().await {
            Err(error) if Instant::now() < deadline => {
                tracing::warn!(%error, "audit store unavailable; retrying card update");
                tokio::time::sleep(STORE_RETRY_INTERVAL).await;
            }
            answer => return answer,
        }
    }
}

/// Sends cards, edits them, retries, and gives up.
pub(super) struct Outbox {
    app: Arc<App>,
    pub platforms: Arc<Platforms>,
    /// Tasks that the process waits for before it ends.
    pub background: TaskTracker,
    sending: InFlight,
    retries: RetrySchedule,
    /// By platform.
    progress_limiter: RateLimiter,
    /// Notified when this process has recorded the message of a posted card.
    delivery_recorded: Notify,
}

impl Outbox {
    pub fn new(app: Arc<App>, platforms: Arc<Platforms>, background: TaskTracker) -> Arc<Outbox> {
        Arc::new(Outbox {
            app,
            platforms,
            background,
            sending: InFlight::default(),
            retries: RetrySchedule::default(),
            progress_limiter: RateLimiter::new(PROGRESS_INTERVAL),
            delivery_recorded: Notify::new(),
        })
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// Sends the primary cards of a new run, and then, in the background, its other cards.
    pub async fn send_cards(self: &Arc<Self>, run: RunId) {
        let cards = self.run_cards(run).await.into_iter();
        let (primary, others) = cards.partition(|card| card.kind == CardKind::Primary);
        self.deliver_all(primary).await;
        let outbox = Arc::clone(self);
        self.background.spawn(async move { outbox.deliver_all(others).await });
    }

    /// Brings all cards of a run up to date.
    pub async fn update_cards(self: &Arc<Self>, run: RunId) {
        let mut cards = self.run_cards(run).await;
        cards.retain(|card| !card.abandoned);
        self.deliver_all(cards).await;
    }

    async fn run_cards(&self, run: RunId) -> Vec<Card> {
        self.app.audit.store.run_cards(run).await.unwrap_or_else(|error| {
            tracing::warn!(run, %error, "reading cards failed; will retry");
            Vec::new()
        })
    }

    async fn deliver_all(self: &Arc<Self>, cards: Vec<Card>) {
        work_queue::leave();
        futures::future::join_all(cards.iter().map(|card| self.deliver(card.id))).await;
    }

    /// As [`Outbox::update_cards`], in the background.
    pub fn spawn_update(self: &Arc<Self>, run: RunId) {
        let outbox = Arc::clone(self);
        self.background.spawn(async move { outbox.update_cards(run).await });
    }

    /// Sends every card that shows less than the record and whose retry is due, each in a task of its own: a platform that hangs
    /// must not hold up the record.
    ///
    /// # Errors
    /// When the store can't tell which they are.
    pub async fn send_outdated_cards(self: &Arc<Self>) -> StoreResult<()> {
        let outdated = self.app.audit.store.outdated_cards().await?;
        let now = Instant::now();
        for card in outdated.into_iter().filter(|card| self.retries.is_due(card.id, now)) {
            let outbox = Arc::clone(self);
            tokio::spawn(async move { outbox.deliver(card.id).await });
        }
        Ok(())
    }

    /// Sends one card as its run is now, and once more if the run changed meanwhile: a one-shot process has no supervisor that would
    /// do it later. A failed card is retried by the supervisor.
    pub async fn deliver(self: &Arc<Self>, card: i64) {
        let mut send_again = self.sending.begin(card);
        while send_again {
            if let Err(error) = self.claim_and_send(card, false).await {
                tracing::warn!(card, %error, "sending card failed; will retry");
            }
            send_again = self.sending.end(card);
        }
    }

    /// Claims the card, sends it if it is outdated or `force` is set, and records what was sent.
    async fn claim_and_send(self: &Arc<Self>, card: i64, force: bool) -> anyhow::Result<()> {
        let store = &self.app.audit.store;
        let now = Instant::now();
        if !store.claim_card(card, jiff::Timestamp::now() + CLAIM_PERIOD).await? {
            return Ok(());
        }
        // A message that isn't recorded would be posted once more: recording is retried for as long as the claim lasts.
        let (load_until, record_until) = (now + LOAD_TIMEOUT, now + (CLAIM_PERIOD - CLAIM_RESERVE));
        let Some(mut card) = retry_until(load_until, || store.card(card)).await? else { return Ok(()) };
        let Some(run) = retry_until(load_until, || store.get(card.run)).await? else { return Ok(()) };
        if card.abandoned || (card.message.is_some() && card.shown_version >= run.version && !force) {
            return Ok(retry_until(record_until, || store.update_card(card.clone())).await?);
        }
        if !force && !needs_update(&card, &run) {
            card.abandoned = card.kind == CardKind::Reminder;
            card.shown_version = run.version;
            return Ok(retry_until(record_until, || store.update_card(card.clone())).await?);
        }
        let result = tokio::time::timeout(SEND_TIMEOUT, self.render_and_send(&card, &run)).await;
        match result.unwrap_or_else(|_| Err(SendError::Unavailable("sending timed out".to_owned()))) {
            Ok(posted) => {
                card.conversation = posted.conversation;
                card.message = Some(posted.message);
                card.shown_version = run.version;
                self.retries.clear_retry(card.id);
            }
            Err(SendError::Unavailable(error)) => {
                self.retries.schedule_retry(card.id, Instant::now());
                let (run, card) = (run.id, card.id);
                tracing::warn!(run, card, error, "chat platform unavailable; will retry card");
            }
            Err(error) => {
                card.abandoned = true;
                self.retries.clear_retry(card.id);
                self.abandon(&run, &card, &error).await;
            }
        }
        retry_until(record_until, || store.update_card(card.clone())).await?;
        self.delivery_recorded.notify_waiters();
        Ok(())
    }

    /// The message that a card was posted as, `None` if it has none. A click can overtake the platform's answer to the posting:
    /// then this waits until the message is recorded.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn delivered_message(&self, card: i64, run: RunId) -> Result<Option<String>> {
        let deadline = Instant::now() + DELIVERY_TIMEOUT;
        loop {
            let mut notification = pin!(self.delivery_recorded.notified());
            // Before the store is read, so that no notification in between is missed.
            notification.as_mut().enable();
            let card = self.app.audit.store.card(card).await.map_err(|error| store_error(&error))?;
            let card = card.filter(|card| card.run == run);
            let is_posted = card.as_ref().is_none_or(|card| card.message.is_some());
            let remaining = deadline.saturating_duration_since(Instant::now());
            if is_posted || remaining.is_zero() {
                return Ok(card.and_then(|card| card.message));
            }
            let _ = tokio::time::timeout(remaining.min(DELIVERY_POLL_INTERVAL), notification).await;
        }
    }

    /// Renders the card and sends it to its conversation; a direct one is looked up first.
    async fn render_and_send(&self, card: &Card, run: &Run) -> Result<PostedMessage, SendError> {
        let conversation = match card.conversation.account() {
            Some(sender) => self.platform(sender.platform)?.direct_conversation(&sender).await?,
            None => card.conversation.clone(),
        };
        if card.conversation.account().is_some() && conversation.same_conversation(&run.request.conversation)
        {
            return Err(SendError::Refused("requested in that very conversation".to_owned()));
        }
        let card = Card { conversation, ..card.clone() };
        let platform = card.conversation.platform;
        let reply = match card.kind {
            CardKind::Reminder => {
                Reply::new(heading(&self.app, run)).with(waiting_block(&self.app, run, platform))
            }
            _ if run.state == RunState::Pending => {
                let buttons = self.decision_buttons(run, &card, &|_| true).await;
                let unavailable =
                    |error: anyhow::Error| SendError::Unavailable(format!("its buttons: {error}"));
                let buttons = Block::Buttons(buttons.map_err(unavailable)?);
                let view = self.view_token(run, &card).await.map_err(unavailable)?;
                Reply { view: Some(view), ..render_card(&self.app, run, platform).with(buttons) }
            }
            _ => render_card(&self.app, run, platform),
        };
        self.send_card(&card, run, &reply).await
    }

    fn platform(&self, name: PlatformKind) -> Result<&Arc<dyn Platform>, SendError> {
        self.platforms.get(name).ok_or_else(|| SendError::Refused("no platform".to_owned()))
    }

    async fn send_card(&self, card: &Card, run: &Run, reply: &Reply) -> Result<PostedMessage, SendError> {
        let platform = self.platform(card.conversation.platform)?;
        if let Some(message) = &card.message {
            let posted = PostedMessage { conversation: card.conversation.clone(), message: message.clone() };
            return platform.edit(&posted, reply).await.map(|()| posted);
        }
        match (platform.post(&card.conversation, reply).await, &run.request.sender) {
            // A card of a request is never sent elsewhere; an outcome may be sent directly to the requester.
            (Err(SendError::NotInConversation), Some(sender))
                if run.event(EventKind::Requested).is_none() =>
            {
                platform.send_direct(sender, reply).await
            }
            (result, _) => result,
        }
    }

    /// Gives up a card. A request without any primary card can't be approved, so it is invalidated.
    async fn abandon(&self, run: &Run, card: &Card, error: &SendError) {
        tracing::error!(run = run.id, card = card.id, %error, "delivering card failed; card abandoned");
        if run.state != RunState::Pending || card.kind != CardKind::Primary {
            return;
        }
        let cards = match self.app.audit.store.run_cards(run.id).await {
            Ok(cards) => cards,
            Err(error) => {
                return tracing::warn!(run = run.id, %error, "reading cards failed; run not invalidated");
            }
        };
        let mut others = cards.iter().filter(|other| other.id != card.id && other.kind == CardKind::Primary);
        if !others.any(|other| !other.abandoned) {
            let details = EventDetails::with_reason("its card could not be shown");
            if let Err(error) =
                self.app.audit.append_to_current(run.id, EventKind::Invalidated, details).await
            {
                tracing::error!(run = run.id, %error, "recording event failed");
            }
        }
    }

    /// Builds a button for each of the selected decisions, each with a new token that is valid on this card alone.
    pub async fn decision_buttons(
        &self,
        run: &Run,
        card: &Card,
        is_selected: &(dyn Fn(Decision) -> bool + Sync),
    ) -> anyhow::Result<Vec<Button>> {
        let platform = card.conversation.platform;
        let requester = self.app.access.known_on(&run.request.requester, platform);
        let approvers = pending_approvers_on(&self.app, run, platform);
        let mut buttons = Vec::new();
        let mut tokens = Vec::new();
        for (label, decision, style) in DECISION_BUTTONS.into_iter().filter(|button| is_selected(button.1)) {
            let purpose = TokenPurpose::Decision { run: run.id, decision, card: card.id };
            let token = new_token(card, purpose)?;
            let visible_to = match decision {
                Decision::Withdraw => vec![requester.clone()],
                Decision::Approve | Decision::Deny => approvers.clone(),
            };
            buttons.push(Button { visible_to, ..Button::new(label, token.token.clone(), style) });
            tokens.push(token);
        }
        self.app.audit.store.put_tokens(tokens).await?;
        Ok(buttons)
    }

    /// Edits progress into the run's cards for as long as it is polled. The runs of a platform share one
    /// rate limit; other updates of cards aren't held back by it.
    pub async fn show_progress(&self, run: RunId) -> Infallible {
        let app = &self.app;
        let mut shown_progress = None;
        loop {
            tokio::time::sleep(PROGRESS_POLL_INTERVAL).await;
            let progress = app.progress.get(run);
            if progress.is_none() || progress == shown_progress {
                continue;
            }
            shown_progress = progress;
            let cards = app.audit.store.run_cards(run).await.unwrap_or_default();
            let is_shown = |card: &&Card| card.kind == CardKind::Primary && card.message.is_some();
            for card in cards.iter().filter(is_shown).filter(|card| !card.abandoned) {
                self.progress_limiter.wait_turn(&format!("{:?}", card.conversation.platform)).await;
                // Read again: the turn may have come late.
                shown_progress = app.progress.get(run);
                let Ok(Some(current)) = app.audit.store.get(run).await else { continue };
                let reply = render_card(app, &current, card.conversation.platform);
                if let Err(error) = self.send_card(card, &current, &reply).await {
                    tracing::debug!(run, card = card.id, %error, "editing progress failed");
                }
            }
        }
    }

    /// Sends a run's cards again, since they show something that no event has.
    pub async fn force_update(self: &Arc<Self>, run: RunId) {
        let cards = self.app.audit.store.run_cards(run).await.unwrap_or_default();
        for card in cards.iter().filter(|card| card.kind == CardKind::Primary && card.message.is_some()) {
            // The task that is sending it may have rendered it before the change.
            while !self.sending.begin(card.id) {
                tokio::time::sleep(IN_FLIGHT_POLL_INTERVAL).await;
            }
            let mut force = true;
            loop {
                if let Err(error) = self.claim_and_send(card.id, force).await {
                    tracing::debug!(run, card = card.id, %error, "editing observed state failed");
                }
                force = false;
                if !self.sending.end(card.id) {
                    break;
                }
            }
        }
    }

    async fn view_token(&self, run: &Run, card: &Card) -> anyhow::Result<String> {
        let token = new_token(card, TokenPurpose::View { run: run.id, card: card.id })?;
        self.app.audit.store.put_tokens(vec![token.clone()]).await?;
        Ok(token.token)
    }
}

fn new_token(card: &Card, purpose: TokenPurpose) -> anyhow::Result<ButtonToken> {
    let token = crate::model::random_token()
        .ok_or_else(|| anyhow::anyhow!("the operating system returned no random bytes"))?;
    Ok(ButtonToken { token, purpose, conversation: card.conversation.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_wait_longer_each_time_up_to_a_limit() {
        let (retries, mut now) = (RetrySchedule::default(), Instant::now());
        assert!(retries.is_due(1, now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            retries.schedule_retry(1, now);
            assert!(!retries.is_due(1, now) && retries.is_due(2, now));
            now += Duration::from_secs(seconds);
            let just_before = now - Duration::from_millis(1);
            assert!(!retries.is_due(1, just_before) && retries.is_due(1, now), "{seconds} s");
        }
        retries.schedule_retry(1, now);
        retries.clear_retry(1);
        assert!(retries.is_due(1, now));
    }
}
