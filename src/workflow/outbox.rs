//! The outbox: cards that are older than their run are sent again, also after a restart. `card` renders one, `delivery` sends it.

use super::delivery::CardSender;
use super::in_flight::{CardUpdate, CardsInFlight, RetrySchedule};
use super::next_steps::NextSteps;
use super::platforms::Platforms;
use super::refusals::RefusalQueue;
use super::replies::store_error;
use super::scheduled_start;
use super::webhook_notices::{self, WAITING};
use super::work_queue;
use crate::app::App;
use crate::audit::EventDetails;
use crate::error::Result;
use crate::incident::Incident;
use crate::model::{
    Card, CardKind, Conversation, EventKind, PlatformKind, PostedMessage, Run, RunId, RunState,
};
use crate::platform::{Platform, SendError};
use crate::shared_state::RateLimiter;
use crate::store::StoreResult;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Time between two edits that show progress, of all runs on one platform: at most 20 a minute. Slack allows 50 messages a minute in a
/// workspace, so that two processes that share no pace leave 10 for decisions and outcomes. Teams allows 1,800 an hour in a conversation;
/// progress takes 1,200 at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// Approvers' copies of cards that are sent at the same time, on one platform. Slack takes 50 edits a minute in a workspace: where each
/// of 50 approvers has a copy, the card in the incident channel must not wait for its turn among all of them.
const MAX_DIRECT_SENDS: usize = 3;

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

/// A card of a closed run that is still refused after this is given up.
const REFUSAL_PERIOD: Duration = Duration::from_secs(86_400);

const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Recording the message that a card was posted as takes at most this long, on a slow disk.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);

/// The store is polled for a delivery by another process, which may send no notification here.
const DELIVERY_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A run's progress is polled this often.
const PROGRESS_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Tells if the run's newest events change what this card says. Checkpoints are progress, which the cards show anyway; an outcome
/// card waits for the end, and nobody is notified of their own withdrawal, or of a window that went well.
fn needs_update(card: &Card, run: &Run) -> bool {
    let shown_version = usize::try_from(card.shown_version).unwrap_or_default();
    let new_events = run.events.get(shown_version..).unwrap_or_default();
    match card.kind {
        CardKind::Primary | CardKind::Direct if card.message.is_none() => true,
        CardKind::Reminder => {
            card.message.is_none() && (run.state == RunState::Pending || Incident::of(run).is_some())
        }
        CardKind::Primary | CardKind::Direct => {
            new_events.iter().any(|event| event.kind != EventKind::Checkpoint)
        }
        CardKind::Outcome => {
            !run.state.is_open() && run.state != RunState::Withdrawn && !scheduled_start::went_well(run)
        }
    }
}

/// Tells if a card is given up for this error. A message that is gone, and what is never sent, ends its card. A request's card, or a
/// copy of it, is not posted where the conversation or the content is refused. Any other refusal may pass: a decided card must not
/// keep its buttons, and an outcome must be told; after a day they are given up as well.
fn is_final(error: &SendError, card: &Card, run: &Run) -> bool {
    let is_refusal = !error.is_outage();
    match error {
        SendError::Gone | SendError::NoRoute | SendError::Unsendable(_) => true,
        SendError::ConversationRefused(_) | SendError::ThreadRefused(_) | SendError::ContentRefused(_)
            if card.message.is_none() && card.kind != CardKind::Outcome =>
        {
            true
        }
        _ => is_refusal && !run.state.is_open() && run.changed_at + REFUSAL_PERIOD < jiff::Timestamp::now(),
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
    pub sender: CardSender,
    pub next_steps: NextSteps,
    /// Tasks that the process waits for before it ends.
    pub background: TaskTracker,
    sending: CardsInFlight,
    retries: RetrySchedule,
    pub refusals: RefusalQueue,
    /// By platform.
    direct_turns: HashMap<PlatformKind, Arc<Semaphore>>,
    /// By platform.
    progress_limiter: RateLimiter,
    /// Notified when this process has recorded the message of a posted card.
    delivery_recorded: Notify,
}

impl Outbox {
    pub fn new(app: Arc<App>, platforms: Arc<Platforms>, background: TaskTracker) -> Arc<Outbox> {
        let next_steps = NextSteps { app: Arc::clone(&app), platforms: Arc::clone(&platforms) };
        let sender = CardSender {
            app: Arc::clone(&app),
            platforms: Arc::clone(&platforms),
            next_steps: next_steps.clone(),
        };
        let turns =
            |platform: &Arc<dyn Platform>| (platform.name(), Arc::new(Semaphore::new(MAX_DIRECT_SENDS)));
        let direct_turns = platforms.iter().map(turns).collect();
        let progress_limiter = RateLimiter::new("progress", PROGRESS_INTERVAL);
        progress_limiter.share(&app.shared);
        Arc::new(Outbox {
            next_steps,
            direct_turns,
            app,
            platforms,
            sender,
            background,
            sending: CardsInFlight::default(),
            retries: RetrySchedule::default(),
            refusals: RefusalQueue::default(),
            progress_limiter,
            delivery_recorded: Notify::new(),
        })
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// Brings the primary cards of a run, which has changed, up to date, and then, in the background, its other cards.
    pub async fn update_cards(self: &Arc<Self>, run: RunId) {
        work_queue::leave();
        // Another replica may be executing it, or sending a card of it.
        self.app.shared.announce_change();
        let cards = self.run_cards(run).await;
        let primary = cards.iter().filter(|card| card.kind == CardKind::Primary && !card.abandoned);
        futures::future::join_all(primary.map(|card| self.deliver(card.id, CardUpdate::IfOutdated))).await;
        let (primary, others) = cards.into_iter().partition(|card| card.kind == CardKind::Primary);
        self.spawn_deliveries(others, &primary);
    }

    async fn run_cards(&self, run: RunId) -> Vec<Card> {
        self.app.audit.store.run_cards(run).await.unwrap_or_else(|error| {
            tracing::warn!(run, %error, "reading cards failed; will retry");
            Vec::new()
        })
    }

    /// As [`Outbox::update_cards`], in the background.
    pub fn spawn_update(self: &Arc<Self>, run: RunId) {
        let outbox = Arc::clone(self);
        self.background.spawn(async move { outbox.update_cards(run).await });
    }

    /// Sends every card that shows less than the record and whose retry is due.
    ///
    /// # Errors
    /// When the store can't tell which they are.
    pub async fn send_outdated_cards(self: &Arc<Self>) -> StoreResult<()> {
        let outdated = self.app.audit.store.outdated_cards().await?;
        let now = Instant::now();
        let due = outdated.iter().filter(|card| self.retries.is_due(card.id, now)).cloned().collect();
        self.spawn_deliveries(due, &outdated);
        Ok(())
    }

    /// Sends cards, each in a task of its own: a platform that hangs must not hold up the record. Approvers' copies whose primary card
    /// is among `primary` and being sent are left for later.
    fn spawn_deliveries(self: &Arc<Self>, cards: Vec<Card>, primary: &[Card]) {
        let is_sent = |card: &&Card| card.kind == CardKind::Primary && self.sending.contains(card.id);
        let busy_runs: HashSet<RunId> = primary.iter().filter(is_sent).map(|card| card.run).collect();
        for card in cards.into_iter().filter(|card| !card.abandoned) {
            let is_copy = card.kind == CardKind::Direct;
            if is_copy && busy_runs.contains(&card.run) {
                continue;
            }
            let turns = self.direct_turns.get(&card.conversation.platform).filter(|_| is_copy).cloned();
            let outbox = Arc::clone(self);
            self.background.spawn(async move {
                outbox.deliver_in_turn(card.id, CardUpdate::IfOutdated, turns).await;
            });
        }
    }

    /// Sends one card as its run is now, and once more if the run changed meanwhile: a one-shot process has no supervisor that would
    /// do it later. A failed card is retried by the supervisor.
    pub async fn deliver(self: &Arc<Self>, card: i64, update: CardUpdate) {
        self.deliver_in_turn(card, update, None).await;
    }

    /// As [`Outbox::deliver`], each time after a turn of `turns`.
    async fn deliver_in_turn(self: &Arc<Self>, card: i64, update: CardUpdate, turns: Option<Arc<Semaphore>>) {
        let mut next = self.sending.begin(card, update).then_some(update);
        while let Some(update) = next {
            let _turn = match &turns {
                Some(turns) => Arc::clone(turns).acquire_owned().await.ok(),
                None => None,
            };
            if let Err(error) = self.claim_and_send(card, update).await {
                tracing::warn!(card, %error, "sending card failed; will retry");
            }
            next = self.sending.end(card);
        }
    }

    /// Claims the card, sends it if it is outdated or always to be sent, and records what was sent.
    async fn claim_and_send(self: &Arc<Self>, card: i64, update: CardUpdate) -> anyhow::Result<()> {
        let store = &self.app.audit.store;
        let now = Instant::now();
        if !store.claim_card(card, CLAIM_PERIOD).await? {
            return Ok(());
        }
        // A message that isn't recorded would be posted once more: recording is retried for as long as the claim lasts.
        let (load_until, record_until) = (now + LOAD_TIMEOUT, now + (CLAIM_PERIOD - CLAIM_RESERVE));
        let Some(mut card) = retry_until(load_until, || store.card(card)).await? else { return Ok(()) };
        let Some(run) = retry_until(load_until, || store.get(card.run)).await? else { return Ok(()) };
        let is_forced = card.message.is_some()
            && (update == CardUpdate::Always || (update == CardUpdate::IfClicked && card.abandoned));
        let is_current = card.message.is_some() && card.shown_version >= run.version;
        if is_forced || (!card.abandoned && !is_current && needs_update(&card, &run)) {
            let result = tokio::time::timeout(SEND_TIMEOUT, self.sender.render_and_send(&card, &run)).await;
            let result =
                result.unwrap_or_else(|_| Err(SendError::Unavailable("sending timed out".to_owned())));
            self.note_result(&mut card, &run, result).await;
        } else if !card.abandoned && !is_current {
            card.abandoned = card.kind == CardKind::Reminder;
            card.shown_version = run.version;
        }
        if !retry_until(record_until, || store.update_card(card.clone())).await? {
            tracing::error!(run = run.id, card = card.id, "claim of card lost; another process updates it");
            self.spawn_correction(card.id);
        }
        self.delivery_recorded.notify_waiters();
        // Whoever waits for the message, or found the card claimed.
        self.app.shared.announce_change();
        Ok(())
    }

    /// Sends a card again, in the background, whose claim was lost while this process sent it, as after a pause: the message may show an
    /// older state now than the other process has recorded.
    fn spawn_correction(self: &Arc<Self>, card: i64) {
        let outbox = Arc::clone(self);
        self.background.spawn(async move {
            let deadline = Instant::now() + CLAIM_PERIOD;
            while Instant::now() < deadline {
                if matches!(outbox.mark_outdated(card).await, Ok(true)) {
                    return outbox.deliver(card, CardUpdate::IfOutdated).await;
                }
                tokio::time::sleep(STORE_RETRY_INTERVAL).await;
            }
            tracing::error!(card, "card could not be sent again; it may show an older state");
        });
    }

    /// Records that a card shows nothing of its run. False while another process has claimed it.
    async fn mark_outdated(&self, card: i64) -> StoreResult<bool> {
        let store = &self.app.audit.store;
        if !store.claim_card(card, CLAIM_PERIOD).await? {
            return Ok(false);
        }
        let Some(card) = store.card(card).await? else { return Ok(true) };
        store.update_card(Card { shown_version: 0, ..card }).await
    }

    /// Notes the result of a sending on its card, which isn't recorded yet.
    async fn note_result(
        self: &Arc<Self>,
        card: &mut Card,
        run: &Run,
        result: Result<PostedMessage, SendError>,
    ) {
        let error = match result {
            Ok(posted) => {
                if card.message.is_none() && card.kind == CardKind::Primary {
                    self.notify_of_request(card, run).await;
                }
                card.conversation = posted.conversation;
                card.message = Some(posted.message);
                card.shown_version = run.version;
                card.abandoned = false;
                return self.retries.clear_retry(card.id);
            }
            Err(error) => error,
        };
        if is_final(&error, card, run) {
            card.abandoned = true;
            if let SendError::Unsendable(_) = error {
                card.shown_version = run.version;
            }
            self.retries.clear_retry(card.id);
            return self.abandon(run, card, &error).await;
        }
        let asked = match error {
            SendError::RateLimited(wait) => wait,
            _ => Duration::ZERO,
        };
        self.retries.schedule_retry(card.id, Instant::now(), asked);
        tracing::warn!(run = run.id, card = card.id, %error, "sending card failed; will retry");
    }

    /// Notifies the webhook once approvers can see the card of a pending request, and not again for another copy.
    async fn notify_of_request(&self, card: &Card, run: &Run) {
        let copies = self.run_cards(run.id).await;
        let is_posted = |other: &Card| other.kind == CardKind::Primary && other.message.is_some();
        if run.state == RunState::Pending
            && !copies.iter().any(|other| other.id != card.id && is_posted(other))
        {
            webhook_notices::notify(&self.app, &self.background, run, WAITING);
        }
    }

    /// The message that a card was posted as, `None` if it has none. A click can overtake the platform's answer to the posting:
    /// then this waits until the message is recorded.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn delivered_message(&self, card: i64, run: RunId) -> Result<Option<String>> {
        let deadline = Instant::now() + DELIVERY_TIMEOUT;
        let mut changes = self.app.shared.changes();
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
            tokio::select! {
                () = notification => {}
                () = changes.next() => {}
                () = tokio::time::sleep(remaining.min(DELIVERY_POLL_INTERVAL)) => {}
            }
        }
    }

    /// Gives up a card. A request without any primary card can't be approved, so it is invalidated.
    async fn abandon(self: &Arc<Self>, run: &Run, card: &Card, error: &SendError) {
        tracing::error!(run = run.id, card = card.id, %error, "delivering card failed; card abandoned");
        if card.kind == CardKind::Primary {
            Box::pin(self.tell_outcome_directly(run)).await;
        }
        let is_refused_copy = card.kind == CardKind::Direct && !matches!(error, SendError::Unsendable(_));
        if is_refused_copy {
            // The reminder would be the first that they hear.
            let _ = tokio::time::timeout(SEND_TIMEOUT, self.sender.call_to_card(run, card)).await;
        }
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
            match self.app.audit.append_to_current(run.id, EventKind::Invalidated, details).await {
                Ok(_) => self.spawn_update(run.id),
                Err(error) => tracing::error!(run = run.id, %error, "recording event failed"),
            }
        }
    }

    /// Adds a card with the outcome for a requester who would have read it on a card that is given up.
    async fn tell_outcome_directly(&self, run: &Run) {
        let Some(sender) = run.request.sender.as_ref().filter(|sender| sender.platform.is_chat()) else {
            return;
        };
        if self.run_cards(run.id).await.iter().any(|card| card.kind == CardKind::Outcome) {
            return;
        }
        let added =
            self.app.audit.store.add_card(run.id, Conversation::with(sender), CardKind::Outcome).await;
        if let Err(error) = added {
            tracing::error!(run = run.id, %error, "adding outcome card failed");
        }
    }

    /// Edits progress into the run's cards for as long as it is polled. The runs of a platform share one
    /// rate limit; other updates of cards aren't held back by it.
    pub async fn show_progress(self: &Arc<Self>, run: RunId) -> Infallible {
        let app = &self.app;
        let mut shown_progress = HashMap::new();
        let mut last = None;
        loop {
            tokio::time::sleep(PROGRESS_POLL_INTERVAL).await;
            let progress = app.progress.get(run);
            if progress.is_none() || progress == last {
                continue;
            }
            last.clone_from(&progress);
            for card in self.run_cards(run).await.iter().filter(|card| shows_progress(card)) {
                if shown_progress.get(&card.id) == Some(&progress) {
                    continue;
                }
                if self.sending.contains(card.id) {
                    // Edits don't pile up behind one that hangs: it is looked at again.
                    last = None;
                    continue;
                }
                self.progress_limiter.wait_turn(&format!("{:?}", card.conversation.platform)).await;
                shown_progress.insert(card.id, progress.clone());
                self.spawn_delivery(card.id, CardUpdate::Always);
            }
        }
    }

    /// Sends a run's cards again, since they show something that no event has.
    pub async fn force_update(self: &Arc<Self>, run: RunId) {
        for card in self.run_cards(run).await.iter().filter(|card| shows_progress(card)) {
            self.deliver(card.id, CardUpdate::Always).await;
        }
    }

    /// Sends one card again whatever is recorded of its message: somebody has clicked on it.
    pub fn spawn_delivery(self: &Arc<Self>, card: i64, update: CardUpdate) {
        let outbox = Arc::clone(self);
        self.background.spawn(async move { outbox.deliver(card, update).await });
    }
}

fn shows_progress(card: &Card) -> bool {
    card.kind == CardKind::Primary && card.message.is_some() && !card.abandoned
}
