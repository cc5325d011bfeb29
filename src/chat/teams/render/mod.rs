//! A neutral reply into an Adaptive Card 1.5, within Teams' limits: a pure function. What doesn't fit is cut at characters, and
//! the card says so. Text of a person or a database can neither ping, link nor format. Nothing is sent here.

mod action;
mod block;
mod table;
mod text_run;

use super::limits;
use crate::chat::render::budget::{MessageBudget, PartLimit, PlatformLimits, RenderedPart};
use crate::chat::render::text::{self, TextRules};
use crate::model::{Block, Button, Heading, Person, Reply};
use crate::platform::TooLarge;
use serde_json::{Value, json};
use text_run::TextStyle;

/// Whose eyes a card is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct View<'a> {
    /// The person who looks: buttons that are for others are left out. `None`: everyone's view, with no button that is for
    /// some only.
    pub viewer: Option<&'a Person>,
    /// Everyone's view alone: the ids (`29:…`) of those who are to see a view of their own, by `refresh`; at most 60.
    pub user_ids: &'a [String],
    /// The token that a view is asked for with, by `refresh` and by a button for those whom the 60 leave out. `None`: the
    /// card has no views.
    pub token: Option<&'a str>,
}

/// A card, ready to send.
#[derive(Debug, Clone, PartialEq)]
pub struct TeamsCard {
    /// The AdaptiveCard object.
    pub card: Value,
    /// What a notification says: who asked what of which environment, and the verdict. Plain.
    pub summary: String,
}

/// The reply as a card, cut where it must be.
pub fn render(reply: &Reply, view: &View<'_>) -> TeamsCard {
    let eyes = view.viewer.map_or(Viewer::Everyone, Viewer::One);
    let token = view.token.filter(|token| action::sendable(token));
    let mut frame = frame();
    if let Some(refresh) = token.and_then(|token| action::refresh(token, view.user_ids)) {
        frame["refresh"] = refresh;
    }
    let rest = token.filter(|_| view.viewer.is_none() && for_some(reply)).map(action::what_can_i_do);
    let room = limits::CARD_BYTES - weight(&frame) - rest.as_ref().map_or(0, weight);
    let mut draft = MessageBudget::of(reply, Cards { eyes, room }, heading(&reply.heading));
    draft.squeeze();
    let note = draft.dropped_note();
    let mut body = draft.heading.blocks;
    body.extend(draft.parts.into_iter().flat_map(|part| part.piece.blocks));
    body.extend(note.map(|note| text_run::line(&note, TextStyle::SMALL)));
    body.extend(rest);
    if body.is_empty() {
        body.push(text_run::line("-", TextStyle::PLAIN));
    }
    let mentions = text_run::take_mentions(&mut body);
    if !mentions.is_empty() {
        frame["msteams"]["entities"] = Value::Array(mentions);
    }
    frame["body"] = Value::Array(body);
    let (summary, _) = text_run::MANNER.shorten(&text::summary(reply), limits::SUMMARY_BYTES);
    let summary = if summary.trim().is_empty() { "-".to_owned() } else { summary };
    TeamsCard { card: frame, summary }
}

/// Whether the reply can be shown whole, in one message, whoever looks: with every button that it has for anybody, and room
/// for the views.
pub fn fits(reply: &Reply) -> Result<(), TooLarge> {
    let rest = weight(&action::what_can_i_do(&"0".repeat(limits::TOKEN_BYTES)));
    let room = limits::CARD_BYTES - weight(&frame()) - limits::VIEWS_BYTES - rest;
    MessageBudget::of(reply, Cards { eyes: Viewer::All, room }, heading(&reply.heading)).whole()
}

/// A card with nothing in it.
fn frame() -> Value {
    json!({
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.5",
        "msteams": { "width": "Full", "entities": [] },
        "body": [],
    })
}

/// What a value takes of a card, with the comma behind it.
fn weight(value: &Value) -> usize {
    value.to_string().len() + 1
}

/// Whether there are buttons that not everyone is shown.
fn for_some(reply: &Reply) -> bool {
    let some = |buttons: &[Button]| buttons.iter().any(|button| !button.visible_to.is_empty());
    reply.blocks.iter().any(|block| match block {
        Block::Buttons(buttons) => some(buttons),
        Block::Table(table) => table.rows.iter().any(|row| some(&row.buttons)),
        _ => false,
    })
}

/// Whose buttons a card shows.
#[derive(Debug, Clone, Copy)]
enum Viewer<'a> {
    /// Every button there is, to measure.
    All,
    Everyone,
    One(&'a Person),
}

impl Viewer<'_> {
    fn see(&self, button: &Button) -> bool {
        match self {
            Viewer::All => true,
            Viewer::Everyone => button.visible_to.is_empty(),
            Viewer::One(viewer) => {
                button.visible_to.is_empty() || button.visible_to.iter().any(|person| person.id == viewer.id)
            }
        }
    }
}

/// Teams' form of a reply's parts.
struct Cards<'a> {
    eyes: Viewer<'a>,
    /// What the body may take.
    room: usize,
}

impl PlatformLimits for Cards<'_> {
    const MANNER: TextRules = text_run::MANNER;
    const UNIT: &'static str = "bytes";
    const BLOCKS: usize = limits::ELEMENTS;
    const SPARE: usize = 240;
    const NOTE: usize = 200;
    const TABLE_COLUMNS: usize = limits::TABLE_COLUMNS;
    const TABLE_TEXT: usize = limits::CARD_BYTES;

    fn room(&self) -> usize {
        self.room
    }

    fn widest(&self, block: &Block) -> PartLimit {
        block::widest(block)
    }

    fn render(&self, block: &Block, cap: PartLimit) -> RenderedPart {
        block::render(block, cap, &self.eyes)
    }

    fn size(&self, block: &Value) -> usize {
        weight(block)
    }
}

/// "ana requested `kill 4711` on 🔴 PRODUCTION · #128", on red where it is production.
fn heading(heading: &Heading) -> RenderedPart {
    let mut piece = RenderedPart::default();
    let (spans, cut) = text_run::MANNER.heading(heading);
    piece.cut_if(cut, || format!("the command has more than {} bytes", text::grouped(text::HEADING_TEXT)));
    if !spans.is_empty() {
        let production = heading.environment.as_ref().is_some_and(|environment| environment.production);
        let style = if production { "attention" } else { "emphasis" };
        let items = vec![text_run::rich(text_run::runs(&spans, TextStyle::PLAIN))];
        piece.blocks.push(json!({ "type": "Container", "style": style, "bleed": true, "items": items }));
    }
    piece
}
