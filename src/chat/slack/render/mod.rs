//! A neutral reply into Block Kit, within Slack's limits: a pure function. What doesn't fit is cut at characters, and the
//! message says so. Text of a person or a database can neither ping, link nor format. Nothing is sent here.

mod block;
mod rich_text;
mod table;

use super::limits::{self, length};
use super::parse::ACTION_PREFIX;
use crate::chat::render::budget::{MessageBudget, PartLimit, PlatformLimits, RenderedPart};
use crate::chat::render::text::{self, TextRules};
use crate::model::{Audience, Block, Heading, Reply};
use crate::platform::TooLarge;
use serde_json::{Value, json};

/// A message, ready to send.
#[derive(Debug, Clone, PartialEq)]
pub struct SlackMessage {
    /// What a notification and a screen reader say: who asked what, and the verdict. Escaped.
    pub text: String,
    pub blocks: Vec<Value>,
    /// What was cut, whole; only where everyone may see the answer.
    pub attachment: Option<Attachment>,
}

/// A file beside a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// A file beside a message holds so many bytes at most.
const FILE_BYTES: usize = 1_000_000;

/// The reply as a message, cut where it must be.
pub fn render(reply: &Reply) -> SlackMessage {
    let mut draft = draft(reply);
    draft.squeeze();
    finish(draft, reply)
}

/// Whether the reply can be shown whole, in one message.
pub fn fits(reply: &Reply) -> Result<(), TooLarge> {
    draft(reply).whole()
}

fn draft(reply: &Reply) -> MessageBudget<'_, BlockKit<'_>> {
    MessageBudget::of(reply, BlockKit { native: native(&reply.blocks) }, heading(&reply.heading))
}

/// Slack's form of a reply's parts.
struct BlockKit<'a> {
    /// The message's one native table.
    native: Option<&'a Block>,
}

impl PlatformLimits for BlockKit<'_> {
    const MANNER: TextRules = rich_text::MANNER;
    const UNIT: &'static str = "characters";
    const BLOCKS: usize = limits::BLOCKS;
    const SPARE: usize = 40;
    const NOTE: usize = 100;
    const TABLE_COLUMNS: usize = limits::TABLE_COLUMNS;
    const TABLE_TEXT: usize = limits::TABLE_TEXT;

    fn room(&self) -> usize {
        limits::MESSAGE_TEXT
    }

    fn widest(&self, block: &Block) -> PartLimit {
        block::widest(block)
    }

    fn render(&self, block: &Block, cap: PartLimit) -> RenderedPart {
        block::render(block, cap, self.native.is_some_and(|native| std::ptr::eq(native, block)))
    }

    fn size(&self, block: &Value) -> usize {
        block::text_size(block)
    }
}

/// A message may hold one native table: the one with the most cells, and of equal ones the first.
fn native(blocks: &[Block]) -> Option<&Block> {
    let tables = blocks.iter().enumerate().filter_map(|(at, block)| match block {
        Block::Table(table) if table::nativable(table) => {
            Some((block, at, table.rows.len() * table.columns.len()))
        }
        _ => None,
    });
    tables.max_by_key(|(_, at, cells)| (*cells, std::cmp::Reverse(*at))).map(|(block, ..)| block)
}

fn finish(draft: MessageBudget<'_, BlockKit<'_>>, reply: &Reply) -> SlackMessage {
    let attachment = attachment(&draft, reply);
    let note = draft.dropped_note();
    let mut blocks = draft.heading.blocks;
    blocks.extend(draft.parts.into_iter().flat_map(|part| part.piece.blocks));
    blocks.extend(note.map(|note| rich_text::context(&note)));
    if blocks.is_empty() {
        blocks.push(rich_text::context("-"));
    }
    number_actions(&mut blocks);
    SlackMessage { text: fallback(reply), blocks, attachment }
}

/// The tables and the code that were cut, whole.
fn attachment(draft: &MessageBudget<'_, BlockKit<'_>>, reply: &Reply) -> Option<Attachment> {
    let shown_whole = |block: &Block| {
        draft.parts.iter().any(|part| std::ptr::eq(part.block, block) && part.piece.cut.is_none())
    };
    let whole = |block: &Block| match block {
        Block::Table(table) => Some(table::as_lines(table, FILE_BYTES)),
        Block::Code { text, .. } => Some(text.clone()),
        _ => None,
    };
    let cut = reply.blocks.iter().filter(|block| !shown_whole(block));
    let texts: Vec<String> = cut.filter_map(whole).filter(|text| !text.is_empty()).collect();
    if texts.is_empty() || reply.audience != Audience::Everyone {
        return None;
    }
    let mut content = texts.join("\n\n");
    if content.len() > FILE_BYTES {
        content.truncate(content.floor_char_boundary(FILE_BYTES));
        content.push_str("\n… cut\n");
    }
    let name = match reply.heading.run {
        Some(run) => format!("countersign-{run}.txt"),
        None => "countersign.txt".to_owned(),
    };
    Some(Attachment { name, bytes: content.into_bytes() })
}

/// Slack wants every `action_id` to be unique within its message.
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

/// "ana requested `kill 4711` on 🔴 PRODUCTION · #128".
fn heading(heading: &Heading) -> RenderedPart {
    let mut piece = RenderedPart::default();
    let (spans, cut) = rich_text::MANNER.heading(heading);
    piece.cut_if(cut, || {
        format!("the command has more than {} characters", rich_text::grouped(text::HEADING_TEXT))
    });
    if !spans.is_empty() {
        let elements = spans.iter().map(rich_text::element).collect();
        piece.blocks.push(rich_text::rich(vec![rich_text::section(elements)]));
    }
    piece
}

/// The words of a notification, escaped.
fn fallback(reply: &Reply) -> String {
    // Cleaned and escaped by the character, so that no escape is cut in two.
    let mut text = String::new();
    let mut room = limits::FALLBACK_TEXT - 1;
    for c in text::summary(reply).chars() {
        let escaped = block::escape(c.encode_utf8(&mut [0; 4]));
        let Some(left) = room.checked_sub(length(&escaped)) else {
            text.push('…');
            break;
        };
        room = left;
        text.push_str(&escaped);
    }
    match text.trim().is_empty() {
        true => "-".to_owned(),
        false => text,
    }
}
