//! What one person sees of a card, on platforms that show each their own: their buttons, and what was refused to them. It is asked
//! for by the card's client, and given in the answer of a click.

use super::card::render_card;
use super::intent::unrecorded;
use super::{HandlerResult, Rejection, Workflow, replies};
use crate::error::{Error, Result};
use crate::model::{Block, Card, Decision, Heading, IncomingEvent, Reply, Run, RunState, TokenPurpose};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// A click's client waits for ten seconds or so, and a person for less.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

impl Workflow {
    /// A click whose client waits for the card: it is answered as soon as the click is decided, whatever follows from that.
    pub(super) async fn clicked(
        self: &Arc<Self>,
        incoming: &IncomingEvent,
        (token, message): (&str, &str),
    ) -> HandlerResult {
        let mut deciding = pin!(self.button(incoming, (token, message)));
        match tokio::time::timeout(ANSWER_WITHIN, &mut deciding).await {
            Ok(Ok(None)) => self.view(incoming, (token, message)).await,
            Ok(Ok(Some(reply))) => Ok(Some(reply)),
            Ok(Err(refused)) => match self.view(incoming, (token, message)).await {
                Ok(Some(seen)) => Ok(Some(beside(seen, &refused))),
                _ => Err(refused),
            },
            Err(_) => {
                // What was decided goes on meanwhile.
                let seen = async {
                    if let Ok(Some(seen)) = self.view(incoming, (token, message)).await {
                        self.answer(incoming, seen).await;
                    }
                };
                futures::join!(seen, deciding).1
            }
        }
    }

    /// A card as its sender is to see it.
    pub(super) async fn view(
        &self,
        incoming: &IncomingEvent,
        (token, message): (&str, &str),
    ) -> HandlerResult {
        let seen = self.seen_by(incoming, (token, message)).await;
        let heading = Heading { who: None, asked: "a card".to_owned(), environment: None, run: None };
        seen.map(Some).map_err(|error| Rejection { heading, error })
    }

    async fn seen_by(&self, incoming: &IncomingEvent, (token, message): (&str, &str)) -> Result<Reply> {
        let store = &self.app.audit.store;
        let token = store.token(token).await.map_err(|why| unrecorded(&why))?;
        let gone = || Error::instead("This card is no longer known.", "`pending` shows the open requests.");
        let token = token.filter(|token| token.place.same_conversation(&incoming.place)).ok_or_else(gone)?;
        let (TokenPurpose::Decision { run, card, .. } | TokenPurpose::View { run, card }) = token.purpose
        else {
            return Err(gone());
        };
        // As soon as it stands its readers' clients ask, before the bot has heard that it does.
        let delivered = self.delivered(card, run).await?;
        let card = store.card(card).await.map_err(|why| unrecorded(&why))?;
        let card = card.filter(|_| delivered.as_deref().is_none_or(|delivered| delivered == message));
        let card = card.filter(|card| card.run == run);
        let run = store.get(run).await.map_err(|why| unrecorded(&why))?;
        let (card, run) = card.zip(run).ok_or_else(gone)?;
        self.view_of((&run, &card), incoming).await
    }

    /// The card, with those of its buttons that are this person's.
    async fn view_of(&self, (run, card): (&Run, &Card), incoming: &IncomingEvent) -> Result<Reply> {
        let mut reply = render_card(self, run, card.place.platform);
        // Whoever isn't known sees what everyone sees.
        let Ok(person) = self.identify(incoming).await else { return Ok(reply) };
        if run.state != RunState::Pending {
            return Ok(reply);
        }
        let called = self.still_called(run).iter().any(|called| called.id == person.id);
        let asked = run.request.requester.id == person.id;
        let theirs = |verdict| match verdict {
            Decision::Withdraw => asked,
            Decision::Approve | Decision::Deny => called,
        };
        let mut buttons = self.verdict_buttons(run, (card, &theirs)).await?;
        buttons.iter_mut().for_each(|button| button.who = vec![person.clone()]);
        if !buttons.is_empty() {
            reply = reply.with(Block::Buttons(buttons));
        }
        Ok(reply)
    }
}

/// The card, and in it what was refused: above the buttons, where whoever clicked looks. A plan is longer than a screen.
fn beside(mut seen: Reply, refused: &Rejection) -> Reply {
    let told = replies::refusal(refused).blocks;
    let at = seen.blocks.iter().rposition(|block| matches!(block, Block::Buttons(_))).unwrap_or(0);
    seen.blocks.splice(at..at, told);
    // The refusal is the clicker's, and the plan stands in the conversation.
    seen.whole = false;
    seen.privately()
}
