//! One part of a reply into blocks, within a cap. What had to be left out is said in the blocks, and remembered in the piece.

use super::{rich_text, table};
use crate::chat::render::budget::{PartLimit, RenderedPart};
use crate::chat::slack::limits::{self, length};
use crate::chat::slack::parse::ACTION_PREFIX;
use crate::model::{Block, Button, ButtonStyle, Span, Text, bar};
use serde_json::{Value, json};

/// All text that Slack shows of a block.
pub(super) fn text_size(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) if key == "text" => length(text),
                nested => text_size(nested),
            })
            .sum(),
        Value::Array(values) => values.iter().map(text_size).sum(),
        _ => 0,
    }
}

/// The widest cap of a part.
pub(super) fn widest(block: &Block) -> PartLimit {
    let all = |rows: usize| PartLimit { rows, text: limits::MESSAGE_TEXT };
    match block {
        Block::Table(table) => table::cap(table),
        Block::Facts(facts) => all(facts.len().min(MOST_FACTS)),
        Block::Buttons(buttons) => all(buttons.len().min(limits::BLOCKS * limits::ACTIONS)),
        _ => all(1),
    }
}

/// A line each, since section fields would stack label and value on a phone; nobody reads more than three screens.
const MOST_FACTS: usize = 60;

/// Renders what the cap allows. `native` says that this table is the message's one native table.
pub(super) fn render(block: &Block, cap: PartLimit, native: bool) -> RenderedPart {
    let mut piece = RenderedPart::default();
    match block {
        Block::Verdict { tone, text } => {
            let mark = rich_text::mark(*tone);
            let mut elements: Vec<Value> =
                Some(mark).filter(|mark| !mark.is_empty()).map(rich_text::plain).into_iter().collect();
            paragraph(text, cap.text, true, &mut elements, &mut piece);
        }
        Block::Text(text) => paragraph(text, cap.text, false, &mut Vec::new(), &mut piece),
        Block::Facts(facts) => self::facts(facts, cap, &mut piece),
        Block::Table(table) => return table::render(table, cap, native),
        Block::Code { title, text } => code(title.as_deref(), text, cap, &mut piece),
        Block::Progress { percent, label } => progress(*percent, label, cap, &mut piece),
        Block::Buttons(buttons) => {
            let shown: Vec<&Button> = buttons.iter().take(cap.rows).collect();
            piece.cut_if(shown.len() < buttons.len(), || {
                format!("it has {} buttons", rich_text::grouped(buttons.len()))
            });
            button_rows(&shown, &mut piece);
        }
        Block::Note(text) => note(text, cap, &mut piece),
    }
    piece
}

fn paragraph(text: &Text, max: usize, strong: bool, elements: &mut Vec<Value>, piece: &mut RenderedPart) {
    let (spans, missing) = rich_text::spans(text, max, strong);
    piece.cut_if(missing > 0, || too_long(text));
    elements.extend(spans);
    if !elements.is_empty() {
        piece.blocks.push(rich_text::rich(vec![rich_text::section(std::mem::take(elements))]));
    }
}

fn too_long(text: &Text) -> String {
    let characters = rich_text::grouped(length(&text.words()));
    format!(
        "a text has {characters} characters; a message holds {}",
        rich_text::grouped(limits::MESSAGE_TEXT)
    )
}

/// Small print: a context takes no rich text, so only plain words go there.
fn note(text: &Text, cap: PartLimit, piece: &mut RenderedPart) {
    let words = rich_text::clean(&text.words());
    let styled = text.0.iter().any(|span| matches!(span, Span::Code(_) | Span::Ping(_)));
    if styled || words.trim().is_empty() || length(&words) > cap.text.min(limits::SECTION_TEXT) {
        paragraph(text, cap.text, false, &mut Vec::new(), piece);
    } else {
        piece.blocks.push(rich_text::context(&words));
    }
}

/// Labels and values side by side. Fields take no rich text: where a value needs it, all go into lines.
fn facts(facts: &[(String, Text)], cap: PartLimit, piece: &mut RenderedPart) {
    let shown = &facts[..cap.rows.min(facts.len())];
    let mut elements = Vec::new();
    for (at, (label, value)) in shown.iter().enumerate() {
        let (label, cut) = rich_text::shorten(label, limits::FIELD_TEXT.min(cap.text));
        let (spans, missing) = rich_text::spans(value, cap.text, false);
        piece.cut_if(cut || missing > 0, || too_long(value));
        elements.extend((at > 0).then(|| rich_text::plain("\n")));
        elements.push(rich_text::bold(&format!("{label} ")));
        elements.extend(spans);
    }
    if !elements.is_empty() {
        piece.blocks.push(rich_text::rich(vec![rich_text::section(elements)]));
    }
    if shown.len() < facts.len() {
        piece.blocks.push(rich_text::context(&format!(
            "{} of {} facts",
            shown.len(),
            rich_text::grouped(facts.len())
        )));
        piece.cut_if(true, || format!("it has {} facts", rich_text::grouped(facts.len())));
    }
}

/// Slack's three escapes, for the places that parse mrkdwn.
/// Source: <https://api.slack.com/reference/surfaces/formatting#escaping>.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn code(title: Option<&str>, text: &str, cap: PartLimit, piece: &mut RenderedPart) {
    let mut elements = Vec::new();
    if let Some(title) = title.filter(|title| !title.is_empty()) {
        let (title, cut) = rich_text::shorten(title, limits::BUTTON_TEXT * 2);
        piece.cut_if(cut, || "a title is too long".to_owned());
        elements.push(rich_text::section(vec![rich_text::bold(&title)]));
    }
    let (kept, left) = rich_text::MANNER.beginning(text, cap.text);
    piece.cut_if(left > 0, || {
        format!(
            "a text has {} characters; a message holds {}",
            rich_text::grouped(length(text)),
            rich_text::grouped(limits::MESSAGE_TEXT)
        )
    });
    elements.push(match (kept.trim().is_empty(), left) {
        (_, 1..) => {
            rich_text::preformatted(format!("{kept}\n{}", rich_text::left_out(left)).trim_start_matches('\n'))
        }
        (true, 0) => rich_text::preformatted("-"),
        (false, 0) => rich_text::preformatted(&kept),
    });
    piece.blocks.push(rich_text::rich(elements));
}

/// "▓▓▓▓▓░░░░░ 48 % · 2 minutes left": the same on a phone and to a screen reader.
fn progress(percent: Option<u8>, label: &str, cap: PartLimit, piece: &mut RenderedPart) {
    let (label, cut) = rich_text::shorten(label, cap.text);
    piece.cut_if(cut, || "a progress label is too long".to_owned());
    let bar = percent.map(|percent| bar(percent.into()));
    let words = [bar.as_deref(), Some(label.as_str()).filter(|label| !label.is_empty())];
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    if !words.is_empty() {
        piece.blocks.push(rich_text::rich(vec![rich_text::section(vec![rich_text::plain(&words)])]));
    }
}

/// Rows of buttons. The `action_id`s are numbered once the whole message stands.
pub(super) fn button_rows(buttons: &[&Button], piece: &mut RenderedPart) {
    let sendable =
        |button: &&Button| !button.token.is_empty() && length(&button.token) <= limits::BUTTON_VALUE;
    let (good, bad): (Vec<_>, Vec<_>) = buttons.iter().copied().partition(sendable);
    piece.cut_if(!bad.is_empty(), || "a button's token is not one".to_owned());
    for row in good.chunks(limits::ACTIONS) {
        let elements: Vec<Value> = row.iter().map(|button| element(button)).collect();
        piece.blocks.push(json!({ "type": "actions", "elements": elements }));
    }
}

fn element(button: &Button) -> Value {
    let label = if button.label.trim().is_empty() { "-" } else { button.label.as_str() };
    let (label, _) = rich_text::shorten(label, limits::BUTTON_TEXT);
    let mut element = json!({
        "type": "button",
        "action_id": ACTION_PREFIX,
        "text": rich_text::plain_text(&label),
        "value": button.token,
    });
    match button.style {
        ButtonStyle::Plain => {}
        ButtonStyle::Primary => element["style"] = json!("primary"),
        ButtonStyle::Danger => element["style"] = json!("danger"),
    }
    element
}
