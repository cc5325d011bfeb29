//! A neutral reply into Block Kit, within Slack's limits: a pure function. What doesn't fit is cut at characters, and the
//! message says so. Text of a person or a database can neither ping, link nor format. Nothing is sent here.

mod rich_text;
mod table;

use super::limits::{self, length};
use super::parse::ACTION_PREFIX;
use crate::chat::render::budget::MessageBudget;
use crate::chat::render::part::{LineStyle, MessageFormat, ParagraphStyle, RenderedPart};
use crate::chat::render::table::TableLayout;
use crate::chat::render::text::{self, TextRules, clean, mark};
use crate::model::{Audience, Block, Button, ButtonStyle, Reply, Span, Table, Text};
use crate::platform::TooLarge;
use serde_json::{Value, json};

/// A message, ready to send.
#[derive(Debug, Clone, PartialEq)]
pub struct SlackMessage {
    /// Text of notifications and screen readers: who asked what, and the verdict. Escaped.
    pub text: String,
    pub blocks: Vec<Value>,
    /// The parts that were cut, in full; only where everyone may see the answer.
    pub attachment: Option<Attachment>,
}

/// A file beside a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub name: String,
    pub bytes: Vec<u8>,
}

const MAX_ATTACHMENT_BYTES: usize = 1_000_000;

/// Renders the reply as a message, cut where it must be.
pub fn render(reply: &Reply) -> SlackMessage {
    let mut budget = budget(reply);
    budget.squeeze();
    let attachment = attachment(&budget, reply);
    let mut blocks = budget.into_blocks();
    if blocks.is_empty() {
        blocks.push(rich_text::context("-"));
    }
    number_actions(&mut blocks);
    SlackMessage { text: notification(reply), blocks, attachment }
}

/// Checks that the reply fits into one message.
pub fn fits(reply: &Reply) -> Result<(), TooLarge> {
    budget(reply).fits()
}

fn budget(reply: &Reply) -> MessageBudget<'_, BlockKit<'_>> {
    MessageBudget::new(reply, BlockKit { native: native_table(&reply.blocks) })
}

struct BlockKit<'a> {
    /// The table that becomes the message's one native table.
    native: Option<&'a Table>,
}

/// A message may hold one native table: the one with the most cells, and of equal ones the first.
fn native_table(blocks: &[Block]) -> Option<&Table> {
    let tables = blocks.iter().rev().filter_map(|block| match block {
        Block::Table(table) if table::can_be_native(table) => Some(table),
        _ => None,
    });
    tables.max_by_key(|table| table.rows.len() * table.columns.len())
}

impl MessageFormat for BlockKit<'_> {
    const RULES: TextRules = rich_text::RULES;
    const UNIT: &'static str = "characters";
    const MAX_BLOCKS: usize = limits::BLOCKS;
    const MAX_TEXT: usize = limits::MESSAGE_TEXT;
    const MAX_LABEL: usize = limits::FIELD_TEXT;
    const MAX_BUTTONS: usize = limits::BLOCKS * limits::ACTIONS;
    const MAX_ROWS: usize = limits::TABLE_ROWS - 1;
    const MAX_COLUMNS: usize = limits::TABLE_COLUMNS;
    const MAX_TABLE_TEXT: usize = limits::TABLE_TEXT;
    const PART_OVERHEAD: usize = 40;
    const NOTE_SIZE: usize = 100;

    fn room(&self) -> usize {
        limits::MESSAGE_TEXT
    }

    /// All text that Slack shows of a block.
    fn size(&self, block: &Value) -> usize {
        match block {
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) if key == "text" => length(text),
                    nested => self.size(nested),
                })
                .sum(),
            Value::Array(values) => values.iter().map(|value| self.size(value)).sum(),
            _ => 0,
        }
    }

    fn heading(spans: &[Span], _is_production: bool) -> Value {
        rich_text::section(spans.iter().map(rich_text::element).collect())
    }

    fn paragraph(text: &Text, max: usize, style: ParagraphStyle) -> (Vec<Value>, usize) {
        if style == ParagraphStyle::Note {
            // A context takes no rich text, so only plain words go there.
            let words = clean(&text.words());
            let is_styled = text.0.iter().any(|span| matches!(span, Span::Code(_) | Span::Ping(_)));
            if !is_styled && !words.trim().is_empty() && length(&words) <= max.min(limits::SECTION_TEXT) {
                return (vec![rich_text::context(&words)], 0);
            }
        }
        let (spans, missing) = rich_text::RULES.spans(text, max);
        let mut elements = Vec::new();
        if let ParagraphStyle::Verdict(tone) = style
            && !mark(tone).is_empty()
        {
            elements.push(rich_text::plain(mark(tone)));
        }
        elements.extend(spans.iter().map(|span| match (span, style) {
            (Span::Plain(words), ParagraphStyle::Verdict(_)) => rich_text::bold(words),
            _ => rich_text::element(span),
        }));
        let blocks = if elements.is_empty() { Vec::new() } else { vec![rich_text::section(elements)] };
        (blocks, missing)
    }

    fn line(text: &str, style: LineStyle) -> Value {
        match style {
            LineStyle::Plain => rich_text::section(vec![rich_text::plain(text)]),
            LineStyle::Bold => rich_text::section(vec![rich_text::bold(text)]),
            LineStyle::Small => rich_text::context(text),
        }
    }

    fn code(title: Option<&str>, text: &str) -> Vec<Value> {
        vec![rich_text::preformatted(title, text)]
    }

    fn facts(facts: Vec<(String, Vec<Span>)>) -> Vec<Value> {
        let mut elements = Vec::new();
        for (label, value) in facts {
            if !elements.is_empty() {
                elements.push(rich_text::plain("\n"));
            }
            elements.push(rich_text::bold(&format!("{label} ")));
            elements.extend(value.iter().map(rich_text::element));
        }
        vec![rich_text::section(elements)]
    }

    fn shows(&self, _: &Button) -> bool {
        true
    }

    fn is_token(token: &str) -> bool {
        !token.is_empty() && length(token) <= limits::BUTTON_VALUE
    }

    fn buttons(buttons: &[&Button]) -> Vec<Value> {
        let row = |buttons: &[&Button]| {
            let elements: Vec<Value> = buttons.iter().map(|button| button_element(button)).collect();
            json!({ "type": "actions", "elements": elements })
        };
        buttons.chunks(limits::ACTIONS).map(row).collect()
    }

    fn table(layout: &TableLayout<'_, Self>, part: &mut RenderedPart) -> usize {
        table::render(layout, part)
    }
}

/// A button, whose `action_id` is numbered once the whole message is rendered.
fn button_element(button: &Button) -> Value {
    let label = if button.label.trim().is_empty() { "-" } else { button.label.as_str() };
    let (label, _) = rich_text::RULES.shorten(label, limits::BUTTON_TEXT);
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

fn attachment(budget: &MessageBudget<'_, BlockKit<'_>>, reply: &Reply) -> Option<Attachment> {
    if reply.audience != Audience::Everyone {
        return None;
    }
    let mut texts = Vec::new();
    for block in &reply.blocks {
        let mut parts = budget.parts.iter();
        if parts.any(|part| std::ptr::eq(part.block, block) && part.rendered.cut.is_none()) {
            continue;
        }
        match block {
            Block::Table(table) => texts.push(table::as_lines(table, MAX_ATTACHMENT_BYTES)),
            Block::Code { text, .. } if !text.is_empty() => texts.push(text.clone()),
            _ => {}
        }
    }
    if texts.is_empty() {
        return None;
    }
    let mut content = texts.join("\n\n");
    if content.len() > MAX_ATTACHMENT_BYTES {
        content.truncate(content.floor_char_boundary(MAX_ATTACHMENT_BYTES));
        content.push_str("\n… cut\n");
    }
    let name = match reply.heading.run {
        Some(run) => format!("countersign-{run}.txt"),
        None => "countersign.txt".to_owned(),
    };
    Some(Attachment { name, bytes: content.into_bytes() })
}

/// Makes every `action_id` unique within its message, as Slack requires.
fn number_actions(blocks: &mut [Value]) {
    let elements = blocks
        .iter_mut()
        .filter(|block| block["type"] == "actions")
        .filter_map(|block| block["elements"].as_array_mut())
        .flatten();
    for (number, element) in elements.enumerate() {
        element["action_id"] = json!(format!("{ACTION_PREFIX}{number}"));
    }
}

/// The words of a notification, cut and escaped by the character, so that no escape is cut in two.
/// Source: <https://api.slack.com/reference/surfaces/formatting#escaping>.
fn notification(reply: &Reply) -> String {
    let mut text = String::new();
    let mut room = limits::FALLBACK_TEXT - 1;
    let mut utf8 = [0; 4];
    for c in text::summary(reply).chars() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => c.encode_utf8(&mut utf8),
        };
        let Some(left) = room.checked_sub(length(escaped)) else {
            text.push('…');
            break;
        };
        room = left;
        text.push_str(escaped);
    }
    if text.trim().is_empty() { "-".to_owned() } else { text }
}
