//! The copies of cards. Every copy that shows less than the record is rendered and sent again, after a restart too; while work
//! runs, its progress is edited in. What a card says is `cards`' business.

use super::Flow;
use super::card::{VERDICTS, called, card, heading, waits_for};
use crate::audit::{Happening, Told};
use crate::message::{Block, Button, Place, Posted, Reply, SendError};
use crate::store::{CardCopy, CopyKind, Meaning, Run, RunId, State, StoreResult, Token, Verdict};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
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
pub struct Desk(Mutex<HashMap<i64, bool>>);

impl Desk {
    /// Whether it is to be begun; otherwise whoever is at it hears that it was asked for again.
    pub(super) fn begin(&self, id: i64) -> bool {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id) {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).is_some()
    }
    /// Whether it is to be done again, and not ended.
    pub(super) fn end(&self, id: i64) -> bool {
        let mut desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = desk.remove(&id).unwrap_or_default();
        if again {
            desk.insert(id, false);
        }
        again
    }
    pub(super) fn all(&self) -> Vec<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

/// Copies that could not be sent: how often, and when the keeper tries again. What is new of a run is tried at once.
#[derive(Default)]
pub struct Later(Mutex<HashMap<i64, (u32, Instant)>>);

impl Later {
    fn put_off(&self, copy: i64, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.get(&copy).map_or(0, |(times, _)| *times);
        let wait = Duration::from_secs(1 << times.min(10)).min(LONGEST_WAIT);
        all.insert(copy, (times + 1, now + wait));
    }
    fn settle(&self, copy: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&copy);
    }
    pub(super) fn is_due(&self, copy: i64, now: Instant) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&copy).is_none_or(|(_, due)| *due <= now)
    }
}

/// Whether the run's newest events change what this copy says. Steps are progress, which the cards show anyway; a result waits
/// for the end, and nobody is told what they did themselves.
fn shows_more(copy: &CardCopy, run: &Run) -> bool {
    let shown = usize::try_from(copy.shown).unwrap_or_default();
    let news = run.events.get(shown..).unwrap_or_default();
    match copy.kind {
        CopyKind::Card | CopyKind::Direct if copy.message.is_none() => true,
        CopyKind::Reminder => copy.message.is_none() && run.state == State::Pending,
        CopyKind::Card | CopyKind::Direct => news.iter().any(|event| event.kind != Happening::Step.word()),
        CopyKind::Result => !run.state.is_open() && run.state != State::Withdrawn,
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
                tracing::warn!(%why, "a card waits for the record");
                tokio::time::sleep(NOTE_EVERY).await;
            }
            answer => return answer,
        }
    }
}

impl Flow {
    /// Adds a copy of the run's card in a place and sends it.
    ///
    /// # Errors
    /// When the copy can't be noted: then it is never sent.
    pub(super) async fn post_card(self: &Arc<Self>, run: &Run, place: &Place) -> StoreResult<()> {
        let copy = self.app.runs.store.add_copy(run.id, place.clone(), CopyKind::Card).await?;
        self.deliver(copy).await;
        Ok(())
    }

    /// Sends the card of a new run, and then, in the background, everything else that its copies say.
    pub(super) async fn show(self: &Arc<Self>, run: RunId) {
        match self.app.runs.store.copies_of(run).await {
            Ok(copies) => {
                let (cards, others): (Vec<_>, Vec<_>) =
                    copies.into_iter().partition(|copy| copy.kind == CopyKind::Card);
                futures::future::join_all(cards.iter().map(|copy| self.deliver(copy.id))).await;
                let flow = Arc::clone(self);
                self.after.spawn(async move {
                    futures::future::join_all(others.iter().map(|copy| flow.deliver(copy.id))).await;
                });
            }
            Err(why) => tracing::warn!(run, %why, "cards wait for the record"),
        }
    }

    /// Brings all copies of a run's card up to its record.
    pub(super) async fn refresh(self: &Arc<Self>, run: RunId) {
        match self.app.runs.store.copies_of(run).await {
            Ok(copies) => {
                let behind = copies.into_iter().filter(|copy| !copy.lost);
                futures::future::join_all(behind.map(|copy| self.deliver(copy.id))).await;
            }
            Err(why) => tracing::warn!(run, %why, "cards wait for the record"),
        }
    }

    pub(super) fn refresh_soon(self: &Arc<Self>, run: RunId) {
        let flow = Arc::clone(self);
        self.after.spawn(async move { flow.refresh(run).await });
    }

    /// Sends one copy as the record has it now, and once more if that moved on meanwhile: a process that ends soon has no keeper. What
    /// fails is tried again by the keeper.
    pub(super) async fn deliver(self: &Arc<Self>, copy: i64) {
        let mut due = self.cards.begin(copy);
        while due {
            if let Err(why) = self.deliver_now((copy, false)).await {
                tracing::warn!(copy, %why, "a card waits");
            }
            due = self.cards.end(copy);
        }
    }

    /// `anew`: though it shows all that the record has.
    pub(super) async fn deliver_now(self: &Arc<Self>, (copy, anew): (i64, bool)) -> anyhow::Result<()> {
        let store = &self.app.runs.store;
        let now = Instant::now();
        if !store.claim_copy(copy, jiff::Timestamp::now() + CLAIMED).await? {
            return Ok(());
        }
        // What isn't written down would be posted once more: it is tried for as long as the claim is ours.
        let (found, noted) = (now + FOUND_WITHIN, now + (CLAIMED - SPARE));
        let Some(mut copy) = insist(found, || store.copy(copy)).await? else { return Ok(()) };
        let Some(run) = insist(found, || store.get(copy.run)).await? else { return Ok(()) };
        if copy.lost || (copy.message.is_some() && copy.shown >= run.version && !anew) {
            return Ok(insist(noted, || store.update_copy(copy.clone())).await?);
        }
        if !anew && !shows_more(&copy, &run) {
            copy.lost = copy.kind == CopyKind::Reminder;
            copy.shown = run.version;
            return Ok(insist(noted, || store.update_copy(copy.clone())).await?);
        }
        let sent = tokio::time::timeout(SENT_WITHIN, self.deliver_as_it_is(&copy, &run)).await;
        match sent.unwrap_or_else(|_| Err(SendError::Unavailable("it took too long".to_owned()))) {
            Ok(posted) => {
                copy.place = posted.place;
                copy.message = Some(posted.message);
                copy.shown = run.version;
                self.later.settle(copy.id);
            }
            Err(SendError::Unavailable(why)) => {
                self.later.put_off(copy.id, Instant::now());
                tracing::warn!(run = run.id, why, "a card waits for the chat platform");
            }
            Err(why) => {
                copy.lost = true;
                self.later.settle(copy.id);
                self.undeliverable(&run, (&copy, &why)).await;
            }
        }
        Ok(insist(noted, || store.update_copy(copy.clone())).await?)
    }

    /// What the copy says now, in its place, which is found first where it is somebody's own.
    async fn deliver_as_it_is(&self, copy: &CardCopy, run: &Run) -> Result<Posted, SendError> {
        let place = self.place_of(copy).await?;
        if copy.place.account().is_some() && place.same_conversation(&run.request.place) {
            return Err(SendError::Refused("it was asked in that very conversation".to_owned()));
        }
        let copy = CardCopy { place, ..copy.clone() };
        let platform = copy.place.platform;
        let reply = match copy.kind {
            CopyKind::Reminder => Reply::new(heading(self, run)).with(waits_for(self, run, platform)),
            _ if run.state == State::Pending => {
                let buttons = self.verdict_buttons(run, (&copy, &|_| true)).await;
                let view = self.view_token(run, &copy).await;
                let (buttons, view) = buttons
                    .and_then(|buttons| Ok((buttons, view?)))
                    .map_err(|why| SendError::Unavailable(format!("its buttons: {why}")))?;
                Reply { view: Some(view), ..card(self, run, platform).with(Block::Buttons(buttons)) }
            }
            _ => card(self, run, platform),
        };
        self.send_copy(&copy, run, &reply).await
    }

    async fn place_of(&self, copy: &CardCopy) -> Result<Place, SendError> {
        let Some(sender) = copy.place.account() else { return Ok(copy.place.clone()) };
        let platform = self.platform(sender.platform);
        platform.ok_or(SendError::Refused("no platform".to_owned()))?.direct(&sender).await
    }

    pub(super) async fn send_copy(
        &self,
        copy: &CardCopy,
        run: &Run,
        reply: &Reply,
    ) -> Result<Posted, SendError> {
        let platform =
            self.platform(copy.place.platform).ok_or(SendError::Refused("no platform".to_owned()))?;
        if let Some(message) = &copy.message {
            let posted = Posted { place: copy.place.clone(), message: message.clone() };
            return platform.edit(&posted, reply).await.map(|()| posted);
        }
        match (platform.post(&copy.place, reply).await, &run.request.sender) {
            // A plan is shown where it was asked for or not at all; a result may go to its asker.
            (Err(SendError::NotThere), Some(sender)) if run.event("requested").is_none() => {
                platform.tell(sender, reply).await
            }
            (result, _) => result,
        }
    }

    /// A plan that nobody can be shown can't be approved.
    async fn undeliverable(&self, run: &Run, (copy, why): (&CardCopy, &SendError)) {
        tracing::error!(run = run.id, %why, "a card could not be delivered");
        if run.state != State::Pending || copy.kind != CopyKind::Card {
            return;
        }
        let others = match self.app.runs.store.copies_of(run.id).await {
            Ok(others) => others,
            Err(why) => return tracing::warn!(run = run.id, %why, "whether it has another card isn't known"),
        };
        let mut others = others.iter().filter(|other| other.id != copy.id && other.kind == CopyKind::Card);
        if !others.any(|other| !other.lost) {
            let told = Told::why("its card could not be shown");
            if let Err(why) = self.app.runs.note(run.id, Happening::Voided, told).await {
                tracing::error!(run = run.id, %why, "an event could not be recorded");
            }
        }
    }

    /// Buttons for those verdicts, each with a new token that counts on this copy alone.
    pub(super) async fn verdict_buttons(
        &self,
        run: &Run,
        (copy, wanted): (&CardCopy, &(dyn Fn(Verdict) -> bool + Sync)),
    ) -> anyhow::Result<Vec<Button>> {
        let platform = copy.place.platform;
        let asker = self.app.access.known_on(&run.request.requester, platform);
        let called = called(self, run, platform);
        let mut buttons = Vec::new();
        let mut tokens = Vec::new();
        for (label, verdict, style) in VERDICTS.into_iter().filter(|(_, verdict, _)| wanted(*verdict)) {
            let token = self.token_of(copy, Meaning::Verdict { run: run.id, verdict, copy: copy.id })?;
            let who = match verdict {
                Verdict::Withdraw => vec![asker.clone()],
                Verdict::Approve | Verdict::Deny => called.clone(),
            };
            buttons.push(Button { who, ..Button::new(label, token.token.clone(), style) });
            tokens.push(token);
        }
        self.app.runs.store.put_tokens(tokens).await?;
        Ok(buttons)
    }

    async fn view_token(&self, run: &Run, copy: &CardCopy) -> anyhow::Result<String> {
        let token = self.token_of(copy, Meaning::View { run: run.id, copy: copy.id })?;
        self.app.runs.store.put_tokens(vec![token.clone()]).await?;
        Ok(token.token)
    }

    fn token_of(&self, copy: &CardCopy, meaning: Meaning) -> anyhow::Result<Token> {
        let token = crate::plan::random_token().ok_or_else(|| anyhow::anyhow!("there is no randomness"))?;
        Ok(Token { token, meaning, place: copy.place.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_waits_longer_each_time_and_no_longer_than_that() {
        let (later, mut now) = (Later::default(), Instant::now());
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
