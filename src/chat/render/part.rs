//! One part of a reply in a platform's own blocks, within a limit. What is left out is counted in the blocks, and remembered in
//! the part.

use super::table::{self, TableLayout};
use super::text::{MAX_HEADING, TextRules, grouped, left_out};
use crate::model::{Block, Button, Heading, Severity, Span, Text, bar};
use serde_json::Value;

/// Facts of one part, a line each: columns would stack on a phone, and nobody reads more than three screens.
const MAX_FACTS: usize = 60;
/// Units of a title.
pub const MAX_TITLE: usize = 150;

/// Rows and text that a part may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLimit {
    /// Rows, facts or buttons.
    pub rows: usize,
    /// Units of text: of the whole part, or of each of its rows' values.
    pub text: usize,
}

/// A part of a reply, rendered.
#[derive(Debug, Default)]
pub struct RenderedPart {
    pub blocks: Vec<Value>,
    /// The reason that it isn't shown whole.
    pub cut: Option<String>,
}

impl RenderedPart {
    pub fn cut_if(&mut self, cut: bool, reason: impl FnOnce() -> String) {
        if cut && self.cut.is_none() {
            self.cut = Some(reason());
        }
    }
}

/// The role of a paragraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParagraphStyle {
    Verdict(Severity),
    Plain,
    Note,
}

/// The look of a line of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineStyle {
    Plain,
    Bold,
    Small,
}

/// The blocks of a platform, and how much one message of it holds. All text is clean and within its limits, except that of
/// [`paragraph`](Self::paragraph) and of buttons.
pub trait MessageFormat: Sized {
    const RULES: TextRules;
    /// Unit of all sizes: "characters".
    const UNIT: &'static str;
    /// Blocks of a message.
    const MAX_BLOCKS: usize;
    /// Units of text that any message can hold.
    const MAX_TEXT: usize;
    /// Units of a fact's label.
    const MAX_LABEL: usize;
    /// Buttons of one part.
    const MAX_BUTTONS: usize;
    /// Rows of a table, without its header.
    const MAX_ROWS: usize;
    /// Columns of a table that are shown side by side.
    const MAX_COLUMNS: usize;
    /// Units of all cells of a table together.
    const MAX_TABLE_TEXT: usize;
    /// Units that a part takes beside its text, with the words that count what is missing.
    const PART_OVERHEAD: usize;
    /// Units of the note on parts that were left out.
    const NOTE_SIZE: usize;

    /// Units that this message holds.
    fn room(&self) -> usize;
    /// Units that a block takes.
    fn size(&self, block: &Value) -> usize;
    /// "ana requested `kill 4711` on 🔴 PRODUCTION · #128".
    fn heading(spans: &[Span], is_production: bool) -> Value;
    /// A paragraph of `max` units, and the number of characters left out.
    fn paragraph(text: &Text, max: usize, style: ParagraphStyle) -> (Vec<Value>, usize);
    fn line(text: &str, style: LineStyle) -> Value;
    /// Lines in a fixed-width font, below a title.
    fn code(title: Option<&str>, text: &str) -> Vec<Value>;
    /// Labels and values, a line each; at least one.
    fn facts(facts: Vec<(String, Vec<Span>)>) -> Vec<Value>;
    fn shows(&self, _: &Button) -> bool {
        true
    }
    /// Checks that a button can carry the token.
    fn is_token(token: &str) -> bool;
    fn buttons(buttons: &[&Button]) -> Vec<Value>;
    /// The rows of a table that isn't empty, with its header and its queries. Returns how many rows are shown.
    fn table(layout: &TableLayout<'_, Self>, part: &mut RenderedPart) -> usize;
}

/// Renders the heading, which is always shown.
pub fn heading<F: MessageFormat>(heading: &Heading) -> RenderedPart {
    let mut part = RenderedPart::default();
    let (spans, cut) = F::RULES.heading(heading);
    part.cut_if(cut, || format!("the command has more than {} {}", grouped(MAX_HEADING), F::UNIT));
    if !spans.is_empty() {
        let is_production = heading.environment.as_ref().is_some_and(|environment| environment.production);
        part.blocks.push(F::heading(&spans, is_production));
    }
    part
}

/// The widest limit of a part.
pub fn max_limit<F: MessageFormat>(block: &Block) -> PartLimit {
    let rows = match block {
        Block::Table(table) => table.rows.len().min(F::MAX_ROWS),
        Block::Facts(facts) => facts.len().min(MAX_FACTS),
        Block::Buttons(buttons) => buttons.len().min(F::MAX_BUTTONS),
        _ => 1,
    };
    PartLimit { rows, text: F::MAX_TEXT }
}

/// Renders as much of a part as the limit allows.
pub fn render<F: MessageFormat>(format: &F, block: &Block, limit: PartLimit) -> RenderedPart {
    let mut part = RenderedPart::default();
    match block {
        Block::Verdict { tone, text } => {
            paragraph::<F>(text, limit, ParagraphStyle::Verdict(*tone), &mut part);
        }
        Block::Text(text) => paragraph::<F>(text, limit, ParagraphStyle::Plain, &mut part),
        Block::Note(text) => paragraph::<F>(text, limit, ParagraphStyle::Note, &mut part),
        Block::Facts(facts) => self::facts::<F>(facts, limit, &mut part),
        Block::Table(table) => table::render(format, table, limit, &mut part),
        Block::Code { title, text } => code::<F>(title.as_deref(), text, limit, &mut part),
        Block::Progress { percent, label } => progress::<F>(*percent, label, limit, &mut part),
        Block::Buttons(buttons) => {
            part.cut_if(limit.rows < buttons.len(), || format!("it has {} buttons", grouped(buttons.len())));
            self::buttons(format, buttons.iter().take(limit.rows), &mut part);
        }
    }
    part
}

fn paragraph<F: MessageFormat>(
    text: &Text,
    limit: PartLimit,
    style: ParagraphStyle,
    part: &mut RenderedPart,
) {
    let (blocks, missing) = F::paragraph(text, limit.text, style);
    part.cut_if(missing > 0, || too_long::<F>(&text.words()));
    part.blocks.extend(blocks);
}

fn too_long<F: MessageFormat>(text: &str) -> String {
    let (size, max) = (grouped(F::RULES.length(text)), grouped(F::MAX_TEXT));
    format!("a text has {size} {}; a message holds {max}", F::UNIT)
}

fn facts<F: MessageFormat>(facts: &[(String, Text)], limit: PartLimit, part: &mut RenderedPart) {
    let shown = &facts[..limit.rows.min(facts.len())];
    let mut rendered = Vec::new();
    for (label, value) in shown {
        let (label, cut) = F::RULES.shorten(label, F::MAX_LABEL.min(limit.text));
        let (spans, missing) = F::RULES.spans(value, limit.text);
        part.cut_if(cut || missing > 0, || too_long::<F>(&value.words()));
        rendered.push((label, spans));
    }
    if !rendered.is_empty() {
        part.blocks.extend(F::facts(rendered));
    }
    if shown.len() < facts.len() {
        let all = grouped(facts.len());
        part.blocks.push(F::line(&format!("{} of {all} facts", shown.len()), LineStyle::Small));
        part.cut_if(true, || format!("it has {all} facts"));
    }
}

fn code<F: MessageFormat>(title: Option<&str>, text: &str, limit: PartLimit, part: &mut RenderedPart) {
    let title = title.filter(|title| !title.is_empty()).map(|title| {
        let (title, cut) = F::RULES.shorten(title, MAX_TITLE);
        part.cut_if(cut, || "a title is too long".to_owned());
        title
    });
    let (mut kept, left) = F::RULES.beginning(text, limit.text);
    part.cut_if(left > 0, || too_long::<F>(text));
    if left > 0 {
        kept = format!("{kept}\n{}", left_out(left)).trim_start_matches('\n').to_owned();
    } else if kept.trim().is_empty() {
        kept = "-".to_owned();
    }
    part.blocks.extend(F::code(title.as_deref(), &kept));
}

/// "▓▓▓▓▓░░░░░ 48 % · 2 minutes left": the same on a phone and to a screen reader.
fn progress<F: MessageFormat>(percent: Option<u8>, label: &str, limit: PartLimit, part: &mut RenderedPart) {
    let (label, cut) = F::RULES.shorten(label, limit.text);
    part.cut_if(cut, || "a progress label is too long".to_owned());
    let words = match percent.map(|percent| bar(percent.into())) {
        Some(bar) if label.is_empty() => bar,
        Some(bar) => format!("{bar} · {label}"),
        None => label,
    };
    if !words.is_empty() {
        part.blocks.push(F::line(&words, LineStyle::Plain));
    }
}

/// The buttons that the viewer is shown, of those that the platform can carry.
pub fn buttons<'a, F: MessageFormat>(
    format: &F,
    buttons: impl Iterator<Item = &'a Button>,
    part: &mut RenderedPart,
) {
    let visible = buttons.filter(|button| format.shows(button));
    let (sendable, broken): (Vec<&Button>, Vec<_>) = visible.partition(|button| F::is_token(&button.token));
    part.cut_if(!broken.is_empty(), || "a button's token is not one".to_owned());
    part.blocks.extend(F::buttons(&sendable));
}
