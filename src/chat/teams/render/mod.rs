//! A neutral reply into an Adaptive Card 1.5, within Teams' limits: a pure function. What doesn't fit is cut at characters, and
//! the card says so. Text of a person or a database can neither ping, link nor format. Nothing is sent here.

mod action;
mod table;
mod text_run;

use super::limits;
use crate::chat::render::budget::MessageBudget;
use crate::chat::render::part::{LineStyle, MessageFormat, ParagraphStyle, RenderedPart};
use crate::chat::render::table::TableLayout;
use crate::chat::render::text::{self, TextRules, mark};
use crate::model::{Button, Person, Reply, Severity, Span, Text};
use crate::platform::TooLarge;
use serde_json::{Value, json};
use text_run::TextStyle;

/// The person or the people that a card is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct View<'a> {
    /// The person who looks: buttons for others are left out. `None`: the view for everyone, without buttons for some.
    pub viewer: Option<&'a Person>,
    /// In the view for everyone, the ids (`29:…`) of those who are shown a view of their own, by `refresh`; at most 60.
    pub user_ids: &'a [String],
    /// The token that requests a view, by `refresh` and by a button for those whom the 60 leave out. `None`: the card has no
    /// views.
    pub token: Option<&'a str>,
}

/// A card, ready to send.
#[derive(Debug, Clone, PartialEq)]
pub struct TeamsCard {
    /// The AdaptiveCard object.
    pub card: Value,
    /// Text of notifications: who asked what of which environment, and the verdict. Plain.
    pub summary: String,
}

/// Renders the reply as a card, cut where it must be.
pub fn render(reply: &Reply, view: &View<'_>) -> TeamsCard {
    let viewer = view.viewer.map_or(Viewer::Everyone, Viewer::One);
    let token = view.token.filter(|token| AdaptiveCard::is_token(token));
    let mut frame = frame();
    if let Some(refresh) = token.and_then(|token| action::refresh(token, view.user_ids)) {
        frame["refresh"] = refresh;
    }
    let has_buttons_for_some = reply.buttons().any(|button| !button.visible_to.is_empty());
    let view_button =
        token.filter(|_| view.viewer.is_none() && has_buttons_for_some).map(action::view_button);
    let room = limits::CARD_BYTES - size(&frame) - view_button.as_ref().map_or(0, size);
    let mut budget = MessageBudget::new(reply, AdaptiveCard { viewer, room });
    budget.squeeze();
    let mut body = budget.into_blocks();
    body.extend(view_button);
    if body.is_empty() {
        body.push(text_run::line("-", TextStyle::PLAIN));
    }
    let mentions = text_run::take_mentions(&mut body);
    if !mentions.is_empty() {
        frame["msteams"]["entities"] = Value::Array(mentions);
    }
    frame["body"] = Value::Array(body);
    let (summary, _) = text_run::RULES.shorten(&text::summary(reply), limits::SUMMARY_BYTES);
    let summary = if summary.trim().is_empty() { "-".to_owned() } else { summary };
    TeamsCard { card: frame, summary }
}

/// Checks that the reply fits into one message, whoever looks: with the buttons for everybody, and room for the views.
pub fn fits(reply: &Reply) -> Result<(), TooLarge> {
    let view_button = size(&action::view_button(&"0".repeat(limits::TOKEN_BYTES)));
    let room = limits::CARD_BYTES - size(&frame()) - limits::VIEWS_BYTES - view_button;
    MessageBudget::new(reply, AdaptiveCard { viewer: Viewer::All, room }).fits()
}

fn frame() -> Value {
    json!({
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.5",
        "msteams": { "width": "Full", "entities": [] },
        "body": [],
    })
}

/// Bytes that a value takes of a card, with the comma behind it.
fn size(value: &Value) -> usize {
    value.to_string().len() + 1
}

/// The person or the people whose buttons a card shows.
#[derive(Debug, Clone, Copy)]
enum Viewer<'a> {
    /// All buttons, to measure.
    All,
    Everyone,
    One(&'a Person),
}

struct AdaptiveCard<'a> {
    viewer: Viewer<'a>,
    /// Bytes that the body may take.
    room: usize,
}

impl MessageFormat for AdaptiveCard<'_> {
    const RULES: TextRules = text_run::RULES;
    const UNIT: &'static str = "bytes";
    const MAX_BLOCKS: usize = limits::ELEMENTS;
    const MAX_TEXT: usize = limits::CARD_BYTES;
    const MAX_LABEL: usize = 150;
    const MAX_BUTTONS: usize = 60;
    /// More makes no card that anyone scrolls through.
    const MAX_ROWS: usize = 100;
    const MAX_COLUMNS: usize = limits::TABLE_COLUMNS;
    const MAX_TABLE_TEXT: usize = limits::CARD_BYTES;
    const PART_OVERHEAD: usize = 240;
    const NOTE_SIZE: usize = 200;

    fn room(&self) -> usize {
        self.room
    }

    fn size(&self, block: &Value) -> usize {
        size(block)
    }

    /// On red where it is production.
    fn heading(spans: &[Span], is_production: bool) -> Value {
        let style = if is_production { "attention" } else { "emphasis" };
        let items = vec![text_run::block(text_run::runs(spans, TextStyle::PLAIN))];
        json!({ "type": "Container", "style": style, "bleed": true, "items": items })
    }

    fn paragraph(text: &Text, max: usize, style: ParagraphStyle) -> (Vec<Value>, usize) {
        let (tone, style) = match style {
            ParagraphStyle::Verdict(tone) => (tone, TextStyle { tone, ..TextStyle::BOLD }),
            ParagraphStyle::Plain => (Severity::Neutral, TextStyle::PLAIN),
            ParagraphStyle::Note => (Severity::Neutral, TextStyle::SMALL),
        };
        let (spans, missing) = text_run::RULES.spans(text, max);
        (text_run::paragraph(&spans, mark(tone), style), missing)
    }

    fn line(text: &str, style: LineStyle) -> Value {
        let style = match style {
            LineStyle::Plain => TextStyle::PLAIN,
            LineStyle::Bold => TextStyle::BOLD,
            LineStyle::Small => TextStyle::SMALL,
        };
        text_run::line(text, style)
    }

    fn code(title: Option<&str>, text: &str) -> Vec<Value> {
        let title = title.map(|title| text_run::line(title, TextStyle::BOLD));
        let lines = text_run::line(&text_run::indented(text), TextStyle::CODE);
        let lines = json!({ "type": "Container", "style": "emphasis", "items": [lines] });
        title.into_iter().chain([lines]).collect()
    }

    /// No `FactSet`, which would read its values as Markdown.
    fn facts(facts: Vec<(String, Vec<Span>)>) -> Vec<Value> {
        let mut spans = Vec::new();
        for (label, value) in facts {
            let new_line = if spans.is_empty() { "" } else { "\n" };
            spans.push(Span::Strong(format!("{new_line}{label} ")));
            spans.extend(value);
        }
        let block = text_run::block(text_run::runs(&spans, TextStyle::PLAIN));
        [block].into_iter().chain(text_run::mentions(&spans)).collect()
    }

    fn shows(&self, button: &Button) -> bool {
        match self.viewer {
            Viewer::All => true,
            Viewer::Everyone => button.visible_to.is_empty(),
            Viewer::One(viewer) => {
                button.visible_to.is_empty() || button.visible_to.iter().any(|person| person.id == viewer.id)
            }
        }
    }

    fn is_token(token: &str) -> bool {
        let is_plain = token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        is_plain && !token.is_empty() && token.len() <= limits::TOKEN_BYTES
    }

    fn buttons(buttons: &[&Button]) -> Vec<Value> {
        action::rows(buttons)
    }

    fn table(layout: &TableLayout<'_, Self>, part: &mut RenderedPart) -> usize {
        table::render(layout, part);
        layout.rows.len()
    }
}
