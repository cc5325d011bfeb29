//! A neutral reply into Block Kit, within Slack's limits: a pure function. What doesn't fit is cut at characters, and the
//! message says so. Text of a person or a database can neither ping, link nor format. Nothing is sent here.

use super::parse::{ACTION_PREFIX, LINK_PREFIX};
use super::table;
use crate::chat::render::budget::MessageBudget;
use crate::chat::render::part::{LineStyle, MessageFormat, ParagraphStyle, RenderedPart, TableLayout};
use crate::chat::render::text::{self, TextPiece, TextRules, clean, mark};
use crate::model::{Audience, Block, Button, ButtonStyle, Link, Person, Reply, Span, Table, Text};
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

/// The notification text. Slack takes 40,000 and advises 4,000; a phone shows two lines
/// (<https://api.slack.com/methods/chat.postMessage#truncating>).
const MAX_NOTIFICATION: usize = 3_000;
/// The text of a message without blocks; `chat.update` takes 4,000.
const MAX_TEXT_ONLY: usize = 3_900;
/// The text of a context's element.
const MAX_CONTEXT_TEXT: usize = 3_000;
/// Elements of an actions block.
const MAX_ACTIONS_PER_BLOCK: usize = 25;
const MAX_BUTTON_TEXT: usize = 75;
const MAX_BUTTON_VALUE: usize = 2_000;
const MAX_ATTACHMENT_BYTES: usize = 1_000_000;

pub(super) const RULES: TextRules = TextRules { units_of: char::len_utf16, clean, pingable };

/// Renders the reply as a message, cut where it must be.
pub fn render(reply: &Reply) -> SlackMessage {
    if reply.text_only {
        let text = escape(&text::whole(reply), MAX_TEXT_ONLY);
        return SlackMessage { text, blocks: Vec::new(), attachment: None };
    }
    let mut budget = budget(reply);
    budget.squeeze();
    let attachment = attachment(&budget, reply);
    let mut blocks = budget.into_blocks();
    if blocks.is_empty() {
        blocks.push(context("-"));
    }
    number_actions(&mut blocks);
    SlackMessage { text: escape(&text::summary(reply), MAX_NOTIFICATION), blocks, attachment }
}

/// Checks that the reply fits into one message.
pub fn check_size(reply: &Reply) -> Result<(), TooLarge> {
    budget(reply).check_size()
}

fn budget(reply: &Reply) -> MessageBudget<'_, BlockKit<'_>> {
    MessageBudget::new(reply, BlockKit { native_table: table::native_table(&reply.blocks) })
}

pub(super) struct BlockKit<'a> {
    /// The table that becomes the message's one native table.
    pub(super) native_table: Option<&'a Table>,
}

impl MessageFormat for BlockKit<'_> {
    const RULES: TextRules = RULES;
    const UNIT: &'static str = "characters";
    /// Source, also for the other block limits: <https://api.slack.com/reference/block-kit/blocks>.
    const MAX_BLOCKS: usize = 50;
    /// Slack refuses somewhere above 13,000 (`msg_blocks_too_long`, undocumented; slackapi/bolt-js issue 2509), so this stays below.
    const MAX_TEXT: usize = 12_000;
    const MAX_LABEL: usize = 2_000;
    const MAX_BUTTONS: usize = Self::MAX_BLOCKS * MAX_ACTIONS_PER_BLOCK;
    /// Slack allows 100 rows including the header. Source, also for columns and buttons: the doc comments of `@slack/types` 3.2.0
    /// (npm).
    const MAX_ROWS: usize = 99;
    const MAX_COLUMNS: usize = 20;
    /// All cells of a message's tables (<https://docs.slack.dev/reference/block-kit/blocks/table-block>).
    const MAX_TABLE_TEXT: usize = 10_000;
    const PART_OVERHEAD: usize = 40;
    const NOTE_SIZE: usize = 100;

    fn max_size(&self) -> usize {
        BlockKit::MAX_TEXT
    }

    /// All text that Slack shows of a block.
    fn size(&self, block: &Value) -> usize {
        match block {
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) if key == "text" || key == "fallback" => length(text),
                    nested => self.size(nested),
                })
                .sum(),
            Value::Array(values) => values.iter().map(|value| self.size(value)).sum(),
            _ => 0,
        }
    }

    fn heading(spans: &[Span], _is_production: bool) -> Value {
        section(spans.iter().flat_map(elements).collect())
    }

    fn paragraph(text: &Text, max: usize, style: ParagraphStyle) -> (Vec<Value>, usize) {
        if style == ParagraphStyle::Note {
            // A context takes no rich text, so only plain words go there.
            let words = clean(&text.words());
            let is_styled = text.0.iter().any(|span| matches!(span, Span::Code(_) | Span::Ping(_)))
                || text::pieces(&words).iter().any(|piece| matches!(piece, TextPiece::Time { .. }));
            if !is_styled && !words.trim().is_empty() && length(&words) <= max.min(MAX_CONTEXT_TEXT) {
                return (vec![context(&words)], 0);
            }
        }
        let (spans, missing) = RULES.spans(text, max);
        let mut elements = Vec::new();
        if let ParagraphStyle::Verdict(severity) = style
            && !mark(severity).is_empty()
        {
            elements.push(plain(mark(severity)));
        }
        elements.extend(spans.iter().flat_map(|span| match (span, style) {
            (Span::Plain(words), ParagraphStyle::Verdict(_)) => with_dates(words, bold),
            _ => self::elements(span),
        }));
        let blocks = if elements.is_empty() { Vec::new() } else { vec![section(elements)] };
        (blocks, missing)
    }

    fn line(text: &str, style: LineStyle) -> Value {
        match style {
            LineStyle::Plain => section(vec![plain(text)]),
            LineStyle::Bold => section(vec![bold(text)]),
            LineStyle::Small => context(text),
        }
    }

    fn code(title: Option<&str>, text: &str) -> Vec<Value> {
        vec![preformatted(title, text)]
    }

    fn facts(facts: Vec<(String, Vec<Span>)>) -> Vec<Value> {
        let mut elements = Vec::new();
        for (label, value) in facts {
            if !elements.is_empty() {
                elements.push(plain("\n"));
            }
            elements.push(bold(&format!("{label} ")));
            elements.extend(value.iter().flat_map(self::elements));
        }
        vec![section(elements)]
    }

    fn is_token(token: &str) -> bool {
        !token.is_empty() && length(token) <= MAX_BUTTON_VALUE
    }

    fn buttons(buttons: &[&Button]) -> Vec<Value> {
        let row = |buttons: &[&Button]| {
            let elements: Vec<Value> = buttons.iter().map(|button| button_element(button)).collect();
            json!({ "type": "actions", "elements": elements })
        };
        buttons.chunks(MAX_ACTIONS_PER_BLOCK).map(row).collect()
    }

    /// Buttons that open an address: each is as large as a thumb.
    fn links(links: &[Link]) -> Vec<Value> {
        let row = |links: &[Link]| {
            let elements: Vec<Value> = links.iter().map(link_element).collect();
            json!({ "type": "actions", "elements": elements })
        };
        links.chunks(MAX_ACTIONS_PER_BLOCK).map(row).collect()
    }

    fn table(layout: &TableLayout<'_, Self>, part: &mut RenderedPart) -> usize {
        table::rows(layout, part)
    }
}

/// A button, whose `action_id` is numbered once the whole message is rendered.
fn button_element(button: &Button) -> Value {
    let label = if button.label.trim().is_empty() { "-" } else { button.label.as_str() };
    let (label, _) = RULES.shorten(label, MAX_BUTTON_TEXT);
    let mut element = json!({
        "type": "button",
        "action_id": ACTION_PREFIX,
        "text": plain_text(&label),
        "value": button.token,
    });
    match button.style {
        ButtonStyle::Plain => {}
        ButtonStyle::Primary => element["style"] = json!("primary"),
        ButtonStyle::Danger => element["style"] = json!("danger"),
    }
    element
}

/// A click on it is told to the app, too, which ignores its `action_id`.
fn link_element(link: &Link) -> Value {
    let (label, _) = RULES.shorten(&link.label, MAX_BUTTON_TEXT);
    json!({
        "type": "button",
        "action_id": LINK_PREFIX,
        "text": plain_text(if label.trim().is_empty() { "-" } else { &label }),
        "url": link.url.as_str(),
    })
}

fn attachment(budget: &MessageBudget<'_, BlockKit<'_>>, reply: &Reply) -> Option<Attachment> {
    if reply.audience != Audience::Everyone {
        return None;
    }
    let mut texts = Vec::new();
    for block in &reply.blocks {
        let mut parts = budget.parts.iter();
        if parts.any(|part| std::ptr::eq(part.block, block) && part.rendered.cut_reason.is_none()) {
            continue;
        }
        match block {
            // A lone cell is shown as text, as far as a message holds it.
            Block::Table(Table { columns, rows, .. }) if columns.len() == 1 && rows.len() == 1 => {}
            Block::Table(table) => texts.push(table::tab_separated(table, MAX_ATTACHMENT_BYTES)),
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
    let suffix = reply.heading.run.map_or(String::new(), |run| format!("-{run}"));
    Some(Attachment { name: format!("countersign{suffix}.txt"), bytes: content.into_bytes() })
}

/// Makes every `action_id` unique within its message, as Slack requires.
fn number_actions(blocks: &mut [Value]) {
    let elements = blocks
        .iter_mut()
        .filter(|block| block["type"] == "actions")
        .filter_map(|block| block["elements"].as_array_mut())
        .flatten();
    for (number, element) in elements.enumerate() {
        let prefix = if element["url"].is_null() { ACTION_PREFIX } else { LINK_PREFIX };
        element["action_id"] = json!(format!("{prefix}{number}"));
    }
}

/// Text, cut to so many characters and escaped by the character, so that no escape is cut in two.
/// Source: <https://api.slack.com/reference/surfaces/formatting#escaping>.
fn escape(words: &str, max: usize) -> String {
    let mut text = String::new();
    let mut room = max - 1;
    let mut utf8 = [0; 4];
    for c in words.chars() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => c.encode_utf8(&mut utf8),
        };
        let Some(rest) = room.checked_sub(length(escaped)) else {
            text.push('…');
            break;
        };
        room = rest;
        text.push_str(escaped);
    }
    if text.trim().is_empty() { "-".to_owned() } else { text }
}

pub(super) fn plain(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub(super) fn bold(text: &str) -> Value {
    json!({ "type": "text", "text": text, "style": { "bold": true } })
}

/// Elements whose `text` is shown as it is: Slack parses no mentions, links, emoji names or formatting in it.
pub(super) fn section(elements: Vec<Value>) -> Value {
    json!({ "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": elements }] })
}

pub(super) fn preformatted(title: Option<&str>, text: &str) -> Value {
    let title = title.map(|title| json!({ "type": "rich_text_section", "elements": [bold(title)] }));
    let lines = json!({ "type": "rich_text_preformatted", "elements": [plain(text)] });
    let elements: Vec<Value> = title.into_iter().chain([lines]).collect();
    json!({ "type": "rich_text", "elements": elements })
}

/// Text that Slack shows as it is, in the places that take no rich text. `emoji: false` leaves `:names:` as they are.
pub(super) fn plain_text(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

pub(super) fn context(text: &str) -> Value {
    json!({ "type": "context", "elements": [plain_text(text)] })
}

/// The Slack account to ping, if the person has one.
fn pingable(person: &Person) -> Option<&str> {
    let account = person.account.as_deref()?;
    let is_slack_id = account.starts_with(['U', 'W'])
        && account.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        && account.len() <= 32;
    is_slack_id.then_some(account)
}

pub(super) fn elements(span: &Span) -> Vec<Value> {
    match span {
        Span::Plain(words) => with_dates(words, plain),
        Span::Strong(words) => with_dates(words, bold),
        Span::Code(words) => vec![json!({ "type": "text", "text": words, "style": { "code": true } })],
        Span::Person(person) | Span::Ping(person) => vec![match pingable(person) {
            Some(account) => json!({ "type": "user", "user_id": account }),
            None => bold(&person.id),
        }],
    }
}

/// Words with their times as dates, which Slack shows in each reader's zone.
/// Source: <https://docs.slack.dev/reference/block-kit/blocks/rich-text-block#date-element-type>.
pub(super) fn with_dates(words: &str, element: fn(&str) -> Value) -> Vec<Value> {
    let piece = |piece: TextPiece<'_>| match piece {
        TextPiece::Words(words) => element(words),
        TextPiece::Time { at, has_seconds, words } => {
            let time = if has_seconds { "{time_secs}" } else { "{time}" };
            let mut date = json!({
                "type": "date",
                "timestamp": at.as_second(),
                "format": format!("{{date_short_pretty}} {time}"),
                "fallback": words,
            });
            if let Some(style) = element(words).get("style") {
                date["style"] = style.clone();
            }
            date
        }
    };
    text::pieces(words).into_iter().map(piece).collect()
}

/// Length in Slack's units, the strictest way to count a "character": UTF-16, as JavaScript counts.
pub(super) fn length(text: &str) -> usize {
    text.encode_utf16().count()
}
