//! The copies of cards. Every copy that shows less than the record is rendered and sent again, after a restart too; while work
//! runs, its progress is edited in. What a card says is `cards`' business.

use super::Flow;
use super::cards::{VERDICTS, called, card, heading, waits_for};
use crate::message::{Block, Button, Place, Posted, Reply, SendError};
use crate::runs::{Happening, Told};
use crate::store::{CardCopy, CopyKind, Meaning, Run, RunId, State, StoreResult, Token, Verdict};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What this process works at right now: copies that it sends, runs that it carries out.
#[derive(Default)]
pub struct Desk(Mutex<HashSet<i64>>);

impl Desk {
    pub(super) fn begin(&self, id: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }
    /// Whether it was begun.
    pub(super) fn end(&self, id: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
    pub(super) fn all(&self) -> Vec<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
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
                let cards = copies.into_iter().filter(|copy| copy.kind == CopyKind::Card);
                futures::future::join_all(cards.map(|copy| self.deliver(copy.id))).await;
            }
            Err(why) => tracing::warn!(run, %why, "cards wait for the record"),
        }
        self.refresh_soon(run);
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

    /// Sends one copy as the record has it now. What fails is tried again by the keeper.
    pub(super) async fn deliver(self: &Arc<Self>, copy: i64) {
        if !self.cards.begin(copy) {
            return;
        }
        if let Err(why) = self.deliver_now((copy, false)).await {
            tracing::warn!(copy, %why, "a card waits");
        }
        self.cards.end(copy);
    }

    /// `anew`: though it shows all that the record has.
    pub(super) async fn deliver_now(self: &Arc<Self>, (copy, anew): (i64, bool)) -> anyhow::Result<()> {
        let store = &self.app.runs.store;
        if !store.claim_copy(copy, jiff::Timestamp::now() + Duration::from_secs(30)).await? {
            return Ok(());
        }
        let Some(mut copy) = store.copy(copy).await? else { return Ok(()) };
        let Some(run) = store.get(copy.run).await? else { return Ok(()) };
        if copy.lost || (copy.message.is_some() && copy.shown >= run.version && !anew) {
            return Ok(store.update_copy(copy).await?);
        }
        if !anew && !shows_more(&copy, &run) {
            copy.lost = copy.kind == CopyKind::Reminder;
            copy.shown = run.version;
            return Ok(store.update_copy(copy).await?);
        }
        match self.deliver_as_it_is(&copy, &run).await? {
            Ok(posted) => {
                copy.place = posted.place;
                copy.message = Some(posted.message);
                copy.shown = run.version;
            }
            Err(SendError::Unavailable(why)) => {
                tracing::warn!(run = run.id, why, "a card waits for the chat platform");
            }
            Err(why) => {
                copy.lost = true;
                self.undeliverable(&run, (&copy, &why)).await;
            }
        }
        Ok(store.update_copy(copy).await?)
    }

    /// What the copy says now, in its place, which is found first where it is somebody's own.
    async fn deliver_as_it_is(
        &self,
        copy: &CardCopy,
        run: &Run,
    ) -> anyhow::Result<Result<Posted, SendError>> {
        let place = match self.place_of(copy).await {
            Ok(place) => place,
            Err(why) => return Ok(Err(why)),
        };
        if copy.place.account().is_some() && place.same_conversation(&run.request.place) {
            return Ok(Err(SendError::Refused("it was asked in that very conversation".to_owned())));
        }
        let copy = CardCopy { place, ..copy.clone() };
        let platform = copy.place.platform;
        let reply = match copy.kind {
            CopyKind::Reminder => Reply::new(heading(self, run)).with(waits_for(self, run, platform)),
            _ if run.state == State::Pending => {
                let buttons = Block::Buttons(self.verdict_buttons(run, (&copy, &|_| true)).await?);
                let view = self.token_of(&copy, Meaning::View { run: run.id, copy: copy.id })?;
                self.app.runs.store.put_tokens(vec![view.clone()]).await?;
                Reply { view: Some(view.token), ..card(self, run, platform).with(buttons) }
            }
            _ => card(self, run, platform),
        };
        Ok(self.send_copy(&copy, run, &reply).await)
    }

    async fn place_of(&self, copy: &CardCopy) -> Result<Place, SendError> {
        let Some(sender) = copy.place.account() else { return Ok(copy.place.clone()) };
        let platform = self.platform(sender.platform);
        platform.ok_or(SendError::Refused("no platform".to_owned()))?.direct(&sender).await
    }

    pub(super) async fn send_copy(&self, copy: &CardCopy, run: &Run, reply: &Reply) -> Result<Posted, SendError> {
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
        let others = self.app.runs.store.copies_of(run.id).await.unwrap_or_default();
        let mut others = others.iter().filter(|other| other.id != copy.id && other.kind == CopyKind::Card);
        if run.state == State::Pending && copy.kind == CopyKind::Card && !others.any(|other| !other.lost) {
            self.append_or_log(run, Happening::Voided, Told::why("its card could not be shown")).await;
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

    fn token_of(&self, copy: &CardCopy, meaning: Meaning) -> anyhow::Result<Token> {
        let token = crate::plan::random_token().ok_or_else(|| anyhow::anyhow!("there is no randomness"))?;
        Ok(Token { token, meaning, place: copy.place.clone() })
    }
}
