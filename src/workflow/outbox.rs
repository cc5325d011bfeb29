//! The copies of cards. Every copy that shows less than the record is rendered and sent again, after a restart too; while work
//! runs, its progress is edited in. What a card says is `cards`' business.

use super::Workflow;
use super::card::{VERDICTS, called, heading, render_card, waits_for};
use crate::audit::EventDetails;
use crate::model::{
    Block, Button, ButtonToken, Card, CardKind, Conversation, Decision, EventKind, PostedMessage, Reply, Run,
    RunId, RunState, TokenPurpose,
};
use crate::platform::SendError;
use crate::store::StoreResult;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two edits of a platform that show progress, whichever run's: Slack's third tier allows fifty a minute for all of a
/// workspace's messages. With twenty of ours, and another replica's, ten are left for what cards must say at once. Teams allows 1,800
/// an hour in a conversation, of which these are 1,200 at most.
pub(super) const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// The longest that sending one copy may take. A platform that hangs is tried for a minute, and may ask to wait for another, before
/// the conversation is known, and again before the message stands.
const SENT_WITHIN: Duration = Duration::from_secs(240);

/// How long the record is asked before the sending.
const FOUND_WITHIN: Duration = Duration::from_secs(100);

/// A claim outlives the sending, and the record's answers before and behind it, so that no replica sends what another still does. It ends
/// with its process.
const CLAIMED: Duration = Duration::from_secs(450);

/// So long before its claim ends a copy is let go of.
const SPARE: Duration = Duration::from_secs(15);

/// What can't be sent is tried again after a second, then after twice as long each time, up to this: a platform that answers too late may
/// have posted it, and one that is told too often to wait never has room.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

const NOTE_EVERY: Duration = Duration::from_millis(250);

/// What this process works at right now: copies that it sends, runs that it carries out; and whether it was asked for once more meanwhile.
#[derive(Default)]
pub struct InFlight(Mutex<HashMap<i64, bool>>);

impl InFlight {
    /// Whether it is to be begun; otherwise whoever is at it hears that it was asked for again.
    pub(super) fn begin(&self, id: i64) -> bool {
        match self.0.lock().entry(id) {
            Entry::Occupied(mut begun) => {
                begun.insert(true);
                false
            }
            Entry::Vacant(new) => {
                new.insert(false);
                true
            }
        }
    }
    /// Whether it was begun; nobody hears that it was asked for again.
    pub(super) fn leave(&self, id: i64) -> bool {
        self.0.lock().remove(&id).is_some()
    }
    /// Whether it is to be done again, and not ended.
    pub(super) fn end(&self, id: i64) -> bool {
        let mut desk = self.0.lock();
        let again = desk.remove(&id).unwrap_or_default();
        if again {
            desk.insert(id, false);
        }
        again
    }
    pub(super) fn all(&self) -> Vec<i64> {
        self.0.lock().keys().copied().collect()
    }
}

/// Copies that could not be sent: how often, and when the keeper tries again. What is new of a run is tried at once.
#[derive(Default)]
pub struct RetrySchedule(Mutex<HashMap<i64, (u32, Instant)>>);

impl RetrySchedule {
    fn put_off(&self, card: i64, now: Instant) {
        let mut all = self.0.lock();
        let times = all.get(&card).map_or(0, |(times, _)| *times);
        let wait = Duration::from_secs(1 << times.min(10)).min(LONGEST_WAIT);
        all.insert(card, (times + 1, now + wait));
    }
    fn settle(&self, card: i64) {
        self.0.lock().remove(&card);
    }
    pub(super) fn is_due(&self, card: i64, now: Instant) -> bool {
        let all = self.0.lock();
        all.get(&card).is_none_or(|(_, due)| *due <= now)
    }
}

/// Whether the run's newest events change what this copy says. Steps are progress, which the cards show anyway; a result waits
/// for the end, and nobody is told what they did themselves.
fn shows_more(card: &Card, run: &Run) -> bool {
    let shown = usize::try_from(card.shown_version).unwrap_or_default();
    let news = run.events.get(shown..).unwrap_or_default();
    match card.kind {
        CardKind::Primary | CardKind::Direct if card.message.is_none() => true,
        CardKind::Reminder => card.message.is_none() && run.state == RunState::Pending,
        CardKind::Primary | CardKind::Direct => news.iter().any(|event| event.kind != EventKind::Checkpoint),
        CardKind::Outcome => !run.state.is_open() && run.state != RunState::Withdrawn,
    }
}

/// Asks the record until it answers, or its time is over.
async fn insist<T, F: Future<Output = StoreResult<T>>>(
    until: Instant,
    ask: impl Fn() -> F,
) -> StoreResult<T> {
    loop {
        match ask().await {
            Err(why) if Instant::now() < until => {
                tracing::warn!(%why, "audit store unavailable; retrying card update");
                tokio::time::sleep(NOTE_EVERY).await;
            }
            answer => return answer,
        }
    }
}

impl Workflow {
    /// Adds a copy of the run's card in a place and sends it.
    ///
    /// # Errors
    /// When the copy can't be noted: then it is never sent.
    pub(super) async fn post_card(self: &Arc<Self>, run: &Run, place: &Conversation) -> StoreResult<()> {
        let card = self.app.audit.store.add_card(run.id, place.clone(), CardKind::Primary).await?;
        self.deliver(card).await;
        Ok(())
    }

    /// Sends the card of a new run, and then, in the background, everything else that its copies say.
    pub(super) async fn show(self: &Arc<Self>, run: RunId) {
        match self.app.audit.store.cards_of(run).await {
            Ok(cards) => {
                let (cards, others): (Vec<_>, Vec<_>) =
                    cards.into_iter().partition(|card| card.kind == CardKind::Primary);
                futures::future::join_all(cards.iter().map(|card| self.deliver(card.id))).await;
                let flow = Arc::clone(self);
                self.after.spawn(async move {
                    futures::future::join_all(others.iter().map(|card| flow.deliver(card.id))).await;
                });
            }
            Err(why) => tracing::warn!(run, %why, "reading cards failed; will retry"),
        }
    }

    /// Brings all copies of a run's card up to its record.
    pub(super) async fn refresh(self: &Arc<Self>, run: RunId) {
        match self.app.audit.store.cards_of(run).await {
            Ok(cards) => {
                let behind = cards.into_iter().filter(|card| !card.abandoned);
                futures::future::join_all(behind.map(|card| self.deliver(card.id))).await;
            }
            Err(why) => tracing::warn!(run, %why, "reading cards failed; will retry"),
        }
    }

    pub(super) fn refresh_soon(self: &Arc<Self>, run: RunId) {
        let flow = Arc::clone(self);
        self.after.spawn(async move { flow.refresh(run).await });
    }

    /// Sends one copy as the record has it now, and once more if that moved on meanwhile: a process that ends soon has no keeper. What
    /// fails is tried again by the keeper.
    pub(super) async fn deliver(self: &Arc<Self>, card: i64) {
        let mut due = self.cards.begin(card);
        while due {
            if let Err(why) = self.deliver_now((card, false)).await {
                tracing::warn!(card, %why, "sending card failed; will retry");
            }
            due = self.cards.end(card);
        }
    }

    /// `anew`: though it shows all that the record has.
    pub(super) async fn deliver_now(self: &Arc<Self>, (card, anew): (i64, bool)) -> anyhow::Result<()> {
        let store = &self.app.audit.store;
        let now = Instant::now();
        if !store.claim_card(card, jiff::Timestamp::now() + CLAIMED).await? {
            return Ok(());
        }
        // What isn't written down would be posted once more: it is tried for as long as the claim is ours.
        let (found, noted) = (now + FOUND_WITHIN, now + (CLAIMED - SPARE));
        let Some(mut card) = insist(found, || store.card(card)).await? else { return Ok(()) };
        let Some(run) = insist(found, || store.get(card.run)).await? else { return Ok(()) };
        if card.abandoned || (card.message.is_some() && card.shown_version >= run.version && !anew) {
            return Ok(insist(noted, || store.update_card(card.clone())).await?);
        }
        if !anew && !shows_more(&card, &run) {
            card.abandoned = card.kind == CardKind::Reminder;
            card.shown_version = run.version;
            return Ok(insist(noted, || store.update_card(card.clone())).await?);
        }
        let sent = tokio::time::timeout(SENT_WITHIN, self.deliver_as_it_is(&card, &run)).await;
        match sent.unwrap_or_else(|_| Err(SendError::Unavailable("it took too long".to_owned()))) {
            Ok(posted) => {
                card.place = posted.place;
                card.message = Some(posted.message);
                card.shown_version = run.version;
                self.later.settle(card.id);
            }
            Err(SendError::Unavailable(why)) => {
                self.later.put_off(card.id, Instant::now());
                tracing::warn!(run = run.id, why, "chat platform unavailable; will retry card");
            }
            Err(why) => {
                card.abandoned = true;
                self.later.settle(card.id);
                self.undeliverable(&run, (&card, &why)).await;
            }
        }
        Ok(insist(noted, || store.update_card(card.clone())).await?)
    }

    /// What the copy says now, in its place, which is found first where it is somebody's own.
    async fn deliver_as_it_is(&self, card: &Card, run: &Run) -> Result<PostedMessage, SendError> {
        let place = self.place_of(card).await?;
        if card.place.account().is_some() && place.same_conversation(&run.request.place) {
            return Err(SendError::Refused("it was asked in that very conversation".to_owned()));
        }
        let card = Card { place, ..card.clone() };
        let platform = card.place.platform;
        let reply = match card.kind {
            CardKind::Reminder => Reply::new(heading(self, run)).with(waits_for(self, run, platform)),
            _ if run.state == RunState::Pending => {
                let buttons = self.verdict_buttons(run, (&card, &|_| true)).await;
                let view = self.view_token(run, &card).await;
                let (buttons, view) = buttons
                    .and_then(|buttons| Ok((buttons, view?)))
                    .map_err(|why| SendError::Unavailable(format!("its buttons: {why}")))?;
                Reply { view: Some(view), ..render_card(self, run, platform).with(Block::Buttons(buttons)) }
            }
            _ => render_card(self, run, platform),
        };
        self.send_copy(&card, run, &reply).await
    }

    async fn place_of(&self, card: &Card) -> Result<Conversation, SendError> {
        let Some(sender) = card.place.account() else { return Ok(card.place.clone()) };
        let platform = self.platform(sender.platform);
        platform.ok_or(SendError::Refused("no platform".to_owned()))?.direct(&sender).await
    }

    pub(super) async fn send_copy(
        &self,
        card: &Card,
        run: &Run,
        reply: &Reply,
    ) -> Result<PostedMessage, SendError> {
        let platform =
            self.platform(card.place.platform).ok_or(SendError::Refused("no platform".to_owned()))?;
        if let Some(message) = &card.message {
            let posted = PostedMessage { place: card.place.clone(), message: message.clone() };
            return platform.edit(&posted, reply).await.map(|()| posted);
        }
        match (platform.post(&card.place, reply).await, &run.request.sender) {
            // A plan is shown where it was asked for or not at all; a result may go to its asker.
            (Err(SendError::NotThere), Some(sender)) if run.event(EventKind::Requested).is_none() => {
                platform.tell(sender, reply).await
            }
            (result, _) => result,
        }
    }

    /// A plan that nobody can be shown can't be approved.
    async fn undeliverable(&self, run: &Run, (card, why): (&Card, &SendError)) {
        tracing::error!(run = run.id, %why, "delivering card failed; card abandoned");
        if run.state != RunState::Pending || card.kind != CardKind::Primary {
            return;
        }
        let others = match self.app.audit.store.cards_of(run.id).await {
            Ok(others) => others,
            Err(why) => {
                return tracing::warn!(run = run.id, %why, "reading cards failed; run not invalidated");
            }
        };
        let mut others = others.iter().filter(|other| other.id != card.id && other.kind == CardKind::Primary);
        if !others.any(|other| !other.abandoned) {
            let told = EventDetails::why("its card could not be shown");
            if let Err(why) = self.app.audit.note(run.id, EventKind::Invalidated, told).await {
                tracing::error!(run = run.id, %why, "recording event failed");
            }
        }
    }

    /// Buttons for those verdicts, each with a new token that counts on this copy alone.
    pub(super) async fn verdict_buttons(
        &self,
        run: &Run,
        (card, wanted): (&Card, &(dyn Fn(Decision) -> bool + Sync)),
    ) -> anyhow::Result<Vec<Button>> {
        let platform = card.place.platform;
        let asker = self.app.access.known_on(&run.request.requester, platform);
        let called = called(self, run, platform);
        let mut buttons = Vec::new();
        let mut tokens = Vec::new();
        for (label, verdict, style) in VERDICTS.into_iter().filter(|(_, verdict, _)| wanted(*verdict)) {
            let token =
                self.token_of(card, TokenPurpose::Decision { run: run.id, verdict, card: card.id })?;
            let who = match verdict {
                Decision::Withdraw => vec![asker.clone()],
                Decision::Approve | Decision::Deny => called.clone(),
            };
            buttons.push(Button { who, ..Button::new(label, token.token.clone(), style) });
            tokens.push(token);
        }
        self.app.audit.store.put_tokens(tokens).await?;
        Ok(buttons)
    }

    async fn view_token(&self, run: &Run, card: &Card) -> anyhow::Result<String> {
        let token = self.token_of(card, TokenPurpose::View { run: run.id, card: card.id })?;
        self.app.audit.store.put_tokens(vec![token.clone()]).await?;
        Ok(token.token)
    }

    fn token_of(&self, card: &Card, purpose: TokenPurpose) -> anyhow::Result<ButtonToken> {
        let token = crate::model::random_token().ok_or_else(|| anyhow::anyhow!("there is no randomness"))?;
        Ok(ButtonToken { token, purpose, place: card.place.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_waits_longer_each_time_and_no_longer_than_that() {
        let (later, mut now) = (RetrySchedule::default(), Instant::now());
        assert!(later.is_due(1, now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            later.put_off(1, now);
            assert!(!later.is_due(1, now) && later.is_due(2, now));
            now += Duration::from_secs(seconds);
            assert!(!later.is_due(1, now - Duration::from_millis(1)) && later.is_due(1, now), "{seconds} s");
        }
        later.put_off(1, now);
        later.settle(1);
        assert!(later.is_due(1, now));
    }
}
