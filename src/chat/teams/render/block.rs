//! One part of a reply into elements, within a cap. What had to be left out is said in them, and remembered in the piece.

use super::text_run::{self, MANNER, TextStyle};
use super::{Viewer, action, table};
use crate::chat::render::budget::{PartLimit, RenderedPart};
use crate::chat::render::text::{grouped, left_out, mark};
use crate::chat::teams::limits;
use crate::model::{Block, Text, bar};
use serde_json::{Value, json};

/// A line each: a `FactSet` would read its values as Markdown, and stack them on a phone; nobody reads more than three screens.
const MOST_FACTS: usize = 60;
/// Buttons of one part.
const MOST_BUTTONS: usize = 60;
/// A title, in bytes.
pub(super) const TITLE: usize = 150;

/// The widest cap of a part.
pub(super) fn widest(block: &Block) -> PartLimit {
    let all = |rows: usize| PartLimit { rows, text: limits::CARD_BYTES };
    match block {
        Block::Table(table) => table::cap(table),
        Block::Facts(facts) => all(facts.len().min(MOST_FACTS)),
        Block::Buttons(buttons) => all(buttons.len().min(MOST_BUTTONS)),
        _ => all(1),
    }
}

/// Renders what the cap allows, for those eyes.
pub(super) fn render(block: &Block, cap: PartLimit, eyes: &Viewer<'_>) -> RenderedPart {
    let mut piece = RenderedPart::default();
    match block {
        Block::Verdict { tone, text } => {
            let look = TextStyle { tone: *tone, ..TextStyle::BOLD };
            paragraph(text, cap, (mark(*tone), look), &mut piece);
        }
        Block::Text(text) => paragraph(text, cap, ("", TextStyle::PLAIN), &mut piece),
        Block::Facts(facts) => self::facts(facts, cap, &mut piece),
        Block::Table(table) => return table::render(table, cap, eyes),
        Block::Code { title, text } => code(title.as_deref(), text, cap, &mut piece),
        Block::Progress { percent, label } => progress(*percent, label, cap, &mut piece),
        Block::Buttons(buttons) => {
            piece.cut_if(cap.rows < buttons.len(), || format!("it has {} buttons", grouped(buttons.len())));
            action::rows(buttons.iter().take(cap.rows), eyes, &mut piece);
        }
        Block::Note(text) => paragraph(text, cap, ("", TextStyle::SMALL), &mut piece),
    }
    piece
}

fn paragraph(text: &Text, cap: PartLimit, style: (&str, TextStyle), piece: &mut RenderedPart) {
    let (blocks, missing) = text_run::paragraph(text, cap.text, style);
    piece.cut_if(missing > 0, || too_long(&text.words()));
    piece.blocks.extend(blocks);
}

fn too_long(text: &str) -> String {
    let (bytes, most) = (grouped(MANNER.length(text)), grouped(limits::CARD_BYTES));
    format!("a text has {bytes} bytes; a message holds {most}")
}

/// "server pg-1", a line each.
fn facts(facts: &[(String, Text)], cap: PartLimit, piece: &mut RenderedPart) {
    let shown = &facts[..cap.rows.min(facts.len())];
    let mut inlines = Vec::new();
    let mut pings = Vec::new();
    for (at, (label, value)) in shown.iter().enumerate() {
        let (label, cut) = MANNER.shorten(label, TITLE.min(cap.text));
        let (spans, missing) = MANNER.spans(value, cap.text);
        piece.cut_if(cut || missing > 0, || too_long(&value.words()));
        let new_line = if at > 0 { "\n" } else { "" };
        inlines.push(text_run::run(&format!("{new_line}{label} "), TextStyle::BOLD));
        inlines.extend(text_run::runs(&spans, TextStyle::PLAIN));
        pings.extend(spans);
    }
    if !inlines.is_empty() {
        piece.blocks.push(text_run::rich(inlines));
    }
    piece.blocks.extend(text_run::mentions(&pings));
    if shown.len() < facts.len() {
        let (some, all) = (shown.len(), grouped(facts.len()));
        piece.blocks.push(text_run::line(&format!("{some} of {all} facts"), TextStyle::SMALL));
        piece.cut_if(true, || format!("it has {all} facts"));
    }
}

fn code(title: Option<&str>, text: &str, cap: PartLimit, piece: &mut RenderedPart) {
    if let Some(title) = title.filter(|title| !title.is_empty()) {
        let (title, cut) = MANNER.shorten(title, TITLE);
        piece.cut_if(cut, || "a title is too long".to_owned());
        piece.blocks.push(text_run::line(&title, TextStyle::BOLD));
    }
    let (kept, left) = MANNER.beginning(text, cap.text);
    piece.cut_if(left > 0, || too_long(text));
    piece.blocks.push(match (kept.trim().is_empty(), left) {
        (_, 1..) => preformatted(format!("{kept}\n{}", left_out(left)).trim_start_matches('\n')),
        (true, 0) => preformatted("-"),
        (false, 0) => preformatted(&kept),
    });
}

/// Lines in a fixed-width font, on a ground of their own.
pub(super) fn preformatted(text: &str) -> Value {
    json!({ "type": "Container", "style": "emphasis", "items": [text_run::line(&text_run::indented(text), TextStyle::CODE)] })
}

/// "▓▓▓▓▓░░░░░ 48 % · 2 minutes left": the same on a phone and to a screen reader.
fn progress(percent: Option<u8>, label: &str, cap: PartLimit, piece: &mut RenderedPart) {
    let (label, cut) = MANNER.shorten(label, cap.text);
    piece.cut_if(cut, || "a progress label is too long".to_owned());
    let bar = percent.map(|percent| bar(percent.into()));
    let words = [bar.as_deref(), Some(label.as_str()).filter(|label| !label.is_empty())];
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    if !words.is_empty() {
        piece.blocks.push(text_run::line(&words, TextStyle::PLAIN));
    }
}
