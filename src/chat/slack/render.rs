//! A neutral reply into Block Kit, within Slack's limits: a pure function. What doesn't fit is cut at characters, and the
//! message says so. Text of a person or a database can neither ping, link nor format. Nothing is sent here.

mod part;
mod rich;
mod table;

use super::limits::{self, length};
use super::parse::ACTION_PREFIX;
use crate::message::{Audience, Block, Heading, Reply, TooLarge};
use part::{Cap, Piece};
use serde_json::{Value, json};

/// A message, ready to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// What a notification and a screen reader say: who asked what, and the verdict. Escaped.
    pub text: String,
    pub blocks: Vec<Value>,
    /// What was cut, whole; only where everyone may see the answer.
    pub attachment: Option<File>,
}

/// A file beside a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// A heading longer than this is cut: the command as it was understood, with its reason.
const HEADING_TEXT: usize = 1_000;
/// A file beside a message holds so many bytes at most.
const FILE_BYTES: usize = 1_000_000;
/// A part shorter than this is left out whole rather than cut.
const WORTH_CUTTING: usize = 400;

/// The reply as a message, cut where it must be.
pub fn render(reply: &Reply) -> Rendered {
    let mut draft = Draft::of(reply);
    draft.squeeze();
    draft.finish()
}

/// Whether the reply can be shown whole, in one message.
pub fn fits(reply: &Reply) -> Result<(), TooLarge> {
    let draft = Draft::of(reply);
    let size = draft.size();
    let blocks = draft.blocks();
    let cut =
        draft.heading.cut.clone().or_else(|| draft.parts.iter().find_map(|part| part.piece.cut.clone()));
    let why = if let Some(cut) = cut {
        cut
    } else if size > limits::MESSAGE_TEXT {
        let (size, most) = (rich::grouped(size), rich::grouped(limits::MESSAGE_TEXT));
        format!("it has {size} characters; a message holds {most}")
    } else if blocks > limits::BLOCKS {
        format!("it has {blocks} blocks; a message holds {}", limits::BLOCKS)
    } else {
        return Ok(());
    };
    Err(TooLarge { why })
}

/// A reply while it is being fitted.
struct Draft<'a> {
    reply: &'a Reply,
    heading: Piece,
    parts: Vec<Part<'a>>,
    dropped: usize,
}

struct Part<'a> {
    block: &'a Block,
    cap: Cap,
    native: bool,
    piece: Piece,
    size: usize,
}

impl<'a> Part<'a> {
    fn of(block: &'a Block, native: bool) -> Self {
        let cap = part::widest(block);
        let piece = part::render(block, cap, native);
        Part { block, cap, native, size: piece.size(), piece }
    }

    /// Whether it became smaller.
    fn tighten(&mut self, excess: usize) -> bool {
        let before = (self.size, self.piece.blocks.len());
        self.cap = part::tighter(self.block, self.cap, (self.size, excess));
        self.piece = part::render(self.block, self.cap, self.native);
        self.size = self.piece.size();
        (self.size, self.piece.blocks.len()) < before
    }

    /// Tables and code give way before sentences do.
    fn bulky(&self) -> bool {
        matches!(self.block, Block::Table(_) | Block::Code { .. })
    }
}

/// A message may hold one native table: the one with the most cells, and of equal ones the first.
fn native(blocks: &[Block]) -> Option<usize> {
    let tables = blocks.iter().enumerate().filter_map(|(at, block)| match block {
        Block::Table(table) if table::nativable(table) => Some((at, table.rows.len() * table.columns.len())),
        _ => None,
    });
    tables.max_by_key(|(at, cells)| (*cells, std::cmp::Reverse(*at))).map(|(at, _)| at)
}

impl<'a> Draft<'a> {
    fn of(reply: &'a Reply) -> Self {
        let native = native(&reply.blocks);
        // No part that shows anything makes less than one block: the rest can't be shown in any case.
        let parts = reply.blocks.iter().take(limits::BLOCKS * 2).enumerate();
        let parts: Vec<Part> = parts.map(|(at, block)| Part::of(block, Some(at) == native)).collect();
        let dropped = reply.blocks.len() - parts.len();
        let mut heading = heading(&reply.heading);
        heading.cut_if(dropped > 0, || format!("it has {} parts", rich::grouped(reply.blocks.len())));
        Draft { reply, heading, parts, dropped }
    }

    fn size(&self) -> usize {
        self.heading.size() + self.parts.iter().map(|part| part.size).sum::<usize>()
    }

    fn blocks(&self) -> usize {
        self.heading.blocks.len() + self.parts.iter().map(|part| part.piece.blocks.len()).sum::<usize>()
    }

    /// Cuts until all limits hold: the bulkiest part first, whole parts from the end as the last resort. Every round
    /// makes the draft smaller, so it ends.
    fn squeeze(&mut self) {
        loop {
            // Room for the note that parts were left out.
            let (own_text, own_blocks) = if self.dropped > 0 { (100, 1) } else { (0, 0) };
            let excess = self.size().saturating_sub(limits::MESSAGE_TEXT - own_text);
            let crowded = self.blocks() > limits::BLOCKS - own_blocks;
            if excess == 0 && !crowded {
                return;
            }
            let bulky = self.parts.iter().any(|part| part.bulky() && part.size >= WORTH_CUTTING);
            let largest = match crowded {
                true if self.parts.len() > limits::BLOCKS => None,
                true => self
                    .parts
                    .iter_mut()
                    .filter(|part| part.piece.blocks.len() > 5)
                    .max_by_key(|part| part.size),
                false => self
                    .parts
                    .iter_mut()
                    .filter(|part| part.size >= WORTH_CUTTING && (part.bulky() || !bulky))
                    .max_by_key(|part| part.size),
            };
            let smaller = largest.is_some_and(|part| {
                let excess = if crowded { part.size / 2 } else { excess.min(part.size) };
                part.tighten(excess.max(1))
            });
            if !smaller && !self.drop_last() {
                return;
            }
        }
    }

    /// Leaves out the last part, but buttons only when nothing else is left. Whether there was one.
    fn drop_last(&mut self) -> bool {
        let last = self.parts.iter().rposition(|part| !matches!(part.block, Block::Buttons(_)));
        let Some(at) = last.or(self.parts.len().checked_sub(1)) else { return false };
        self.parts.remove(at);
        self.dropped += 1;
        true
    }

    fn finish(self) -> Rendered {
        let attachment = self.attachment();
        let text = fallback(self.reply);
        let mut blocks = self.heading.blocks;
        blocks.extend(self.parts.into_iter().flat_map(|part| part.piece.blocks));
        if self.dropped > 0 {
            blocks.push(rich::context(&format!("… {} more parts did not fit", rich::grouped(self.dropped))));
        }
        if blocks.is_empty() {
            blocks.push(rich::context("-"));
        }
        number_actions(&mut blocks);
        Rendered { text, blocks, attachment }
    }

    /// The tables and the code that were cut, whole.
    fn attachment(&self) -> Option<File> {
        let shown_whole = |block: &Block| {
            self.parts.iter().any(|part| std::ptr::eq(part.block, block) && part.piece.cut.is_none())
        };
        let whole = |block: &Block| match block {
            Block::Table(table) => Some(table::as_lines(table, FILE_BYTES)),
            Block::Code { text, .. } => Some(text.clone()),
            _ => None,
        };
        let cut = self.reply.blocks.iter().filter(|block| !shown_whole(block));
        let texts: Vec<String> = cut.filter_map(whole).filter(|text| !text.is_empty()).collect();
        if texts.is_empty() || self.reply.audience != Audience::Everyone {
            return None;
        }
        let mut content = texts.join("\n\n");
        if content.len() > FILE_BYTES {
            content.truncate(content.floor_char_boundary(FILE_BYTES));
            content.push_str("\n… cut\n");
        }
        let name = match self.reply.heading.run {
            Some(run) => format!("countersign-{run}.txt"),
            None => "countersign.txt".to_owned(),
        };
        Some(File { name, bytes: content.into_bytes() })
    }
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

/// "ana asked `kill 4711` of 🔴 PRODUCTION · #128".
fn heading(heading: &Heading) -> Piece {
    let mut piece = Piece::default();
    let mut elements = Vec::new();
    let mut words = |text: &str, style: fn(&str) -> Value, most: usize| {
        let (text, cut) = rich::shorten(text, most);
        piece.cut_if(cut, || format!("the command has more than {} characters", rich::grouped(HEADING_TEXT)));
        if !text.is_empty() {
            elements.push(style(&text));
        }
    };
    if let Some(who) = &heading.who {
        words(&who.id, rich::bold, 100);
        words(" asked ", rich::plain, 100);
    }
    words(&heading.asked, rich::code, HEADING_TEXT);
    if let Some(environment) = &heading.environment {
        let (mark, name) = tag(environment);
        words(" of ", rich::plain, 100);
        words(mark, rich::plain, 100);
        words(&name, rich::bold, 100);
    }
    if let Some(run) = heading.run {
        words(&format!(" · #{run}"), rich::plain, 100);
    }
    if !elements.is_empty() {
        piece.blocks.push(rich::rich(vec![rich::section(elements)]));
    }
    piece
}

fn tag(environment: &crate::message::EnvironmentTag) -> (&'static str, String) {
    match environment.production {
        true => ("🔴 ", environment.name.to_uppercase()),
        false => ("🟢 ", environment.name.clone()),
    }
}

/// The words of a notification: who asked what of which environment, and the verdict.
fn fallback(reply: &Reply) -> String {
    let heading = &reply.heading;
    let mut words = String::new();
    if let Some(who) = &heading.who {
        words.push_str(&format!("{} asked ", who.id));
    }
    words.push_str(&heading.asked);
    if let Some(environment) = &heading.environment {
        words.push_str(&format!(" of {}", tag(environment).1));
    }
    let verdicts = reply.blocks.iter().filter_map(|block| match block {
        Block::Verdict { tone, text } => Some(format!("{}{}", rich::mark(*tone), text.words())),
        _ => None,
    });
    let told: Vec<String> = verdicts.take(5).collect();
    if !told.is_empty() {
        words.push_str(&format!(": {}", told.join(" · ")));
    }
    // Cleaned and escaped by the character, so that no escape is cut in two.
    let mut text = String::new();
    let mut room = limits::FALLBACK_TEXT - 1;
    for c in rich::clean(&words).chars() {
        let escaped = part::escape(c.encode_utf8(&mut [0; 4]));
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
