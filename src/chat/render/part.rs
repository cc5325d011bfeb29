//! One part of a reply in a platform's own blocks, within a limit; of a table, the columns that are shown side by side and the
//! queries beneath. What is left out is counted in the blocks, and remembered in the part.

use super::text::{MAX_HEADING, TextRules, grouped, left_out, mark};
use crate::model::{Block, Button, Cell, Column, Heading, Row, Severity, Shape, Span, Table, Text, bar};
use serde_json::Value;

/// Facts of one part, a line each: columns would stack on a phone, and nobody reads more than three screens.
const MAX_FACTS: usize = 60;
const MAX_TITLE: usize = 150;
/// Only the first rows offer buttons: a wall of buttons hides the table.
const ROWS_WITH_BUTTONS: usize = 5;

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
    /// Unit of all sizes and texts: "characters".
    const UNIT: &'static str;
    const MAX_BLOCKS: usize;
    const MAX_TEXT: usize;
    const MAX_LABEL: usize;
    const MAX_BUTTONS: usize;
    /// Rows of a table, without its header.
    const MAX_ROWS: usize;
    /// Columns of a table that are shown side by side.
    const MAX_COLUMNS: usize;
    const MAX_TABLE_TEXT: usize;
    /// Units that a part takes beside its text, with the words that count what is missing.
    const PART_OVERHEAD: usize;
    /// Units of the note on parts that were left out.
    const NOTE_SIZE: usize;

    fn room(&self) -> usize;
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
        Block::Table(table) => self::table(format, table, limit, &mut part),
        Block::Code { title, text } => code::<F>(title.as_deref(), text, limit, &mut part),
        // The same on a phone and to a screen reader.
        Block::Progress { percent, label } => {
            let (label, cut) = F::RULES.shorten(label, limit.text);
            part.cut_if(cut, || "a progress label is too long".to_owned());
            let words = match percent.map(|percent| bar(percent.into())) {
                Some(bar) if label.is_empty() => bar,
                Some(bar) => format!("{bar} · {label}"),
                None => label,
            };
            part.blocks.extend((!words.is_empty()).then(|| F::line(&words, LineStyle::Plain)));
        }
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

/// The buttons that the viewer is shown, of those that the platform can carry.
fn buttons<'a, F: MessageFormat>(
    format: &F,
    buttons: impl Iterator<Item = &'a Button>,
    part: &mut RenderedPart,
) {
    let visible = buttons.filter(|button| format.shows(button));
    let (sendable, broken): (Vec<&Button>, Vec<_>) = visible.partition(|button| F::is_token(&button.token));
    part.cut_if(!broken.is_empty(), || "a button's token is not one".to_owned());
    part.blocks.extend(F::buttons(&sendable));
}

/// The columns and rows that a limit leaves of a table.
pub struct TableLayout<'a, F> {
    pub format: &'a F,
    pub table: &'a Table,
    /// Columns that are shown side by side, each with its place in a row.
    pub columns: Vec<(usize, &'a Column)>,
    pub rows: &'a [Row],
    all_columns: usize,
    /// Places in a row of the columns of query text.
    queries: Vec<usize>,
    max_cell: usize,
    max_query: usize,
}

impl<'a, F: MessageFormat> TableLayout<'a, F> {
    fn new(format: &'a F, table: &'a Table, limit: PartLimit) -> Self {
        let (queries, mut columns): (Vec<_>, Vec<_>) =
            table.columns.iter().enumerate().partition(|(_, column)| column.shape == Shape::Query);
        let all_columns = columns.len();
        columns.truncate(F::MAX_COLUMNS);
        // So that the header and one row always fit.
        let share = F::MAX_TABLE_TEXT / (2 * columns.len().max(1));
        TableLayout {
            format,
            table,
            columns,
            rows: &table.rows[..limit.rows.min(table.rows.len())],
            all_columns,
            queries: queries.into_iter().map(|(at, _)| at).collect(),
            max_cell: share.min(limit.text).max(1),
            max_query: limit.text,
        }
    }

    pub fn header(&self, part: &mut RenderedPart) -> Vec<String> {
        self.columns.iter().map(|(_, column)| self.cell(&Cell::from(column.title.as_str()), part)).collect()
    }

    pub fn row(&self, row: &Row, part: &mut RenderedPart) -> Vec<String> {
        let blank = Cell::from("");
        self.columns.iter().map(|(at, _)| self.cell(row.cells.get(*at).unwrap_or(&blank), part)).collect()
    }

    /// A cell's text with its mark. No platform takes an empty one.
    fn cell(&self, cell: &Cell, part: &mut RenderedPart) -> String {
        let text = if cell.text.trim().is_empty() { "-" } else { cell.text.as_str() };
        let (text, cut) = F::RULES.shorten(&format!("{}{text}", mark(cell.tone)), self.max_cell);
        part.cut_if(cut, || format!("a table's cell has more than {} {}", grouped(self.max_cell), F::UNIT));
        text
    }

    /// The text of a row's first cell.
    pub fn first_cell(&self, row: &'a Row) -> Option<&'a str> {
        let cell = self.columns.first().and_then(|(at, _)| row.cells.get(*at));
        cell.map(|cell| cell.text.trim()).filter(|text| !text.is_empty())
    }

    /// A row's query texts.
    pub fn queries(&self, row: &Row, part: &mut RenderedPart) -> Vec<String> {
        let cells = self.queries.iter().filter_map(|at| row.cells.get(*at));
        let queries = cells.filter(|cell| !cell.text.trim().is_empty()).map(|cell| {
            let (query, cut) = F::RULES.shorten(&cell.text, self.max_query);
            part.cut_if(cut, || format!("a query has more than {} {}", grouped(self.max_query), F::UNIT));
            query
        });
        queries.collect()
    }

    /// "12 of 340 rows · 20 of 24 columns", where some are left out.
    fn counts(&self, shown: usize, part: &mut RenderedPart) -> String {
        let (rows, columns, all_columns) = (self.table.rows.len(), self.columns.len(), self.all_columns);
        let total = self.table.total.max(rows);
        let mut counts = Vec::new();
        if shown < total {
            counts.push(format!("{} of {} rows", grouped(shown), grouped(total)));
        }
        if columns < all_columns {
            counts.push(format!("{columns} of {all_columns} columns"));
        }
        let holds = |rows, shown| format!("a table has {rows}; a message holds {shown}");
        part.cut_if(shown < rows, || holds(format!("{} rows", grouped(rows)), grouped(shown)));
        part.cut_if(columns < all_columns, || holds(format!("{all_columns} columns"), columns.to_string()));
        counts.join(" · ")
    }
}

fn table<F: MessageFormat>(format: &F, table: &Table, limit: PartLimit, part: &mut RenderedPart) {
    if let Some(title) = table.title.as_deref().filter(|title| !title.is_empty()) {
        let (title, cut) = F::RULES.shorten(title, limit.text.min(MAX_TITLE));
        part.cut_if(cut, || "a table's title is too long".to_owned());
        part.blocks.push(F::line(&title, LineStyle::Bold));
    }
    if table.rows.is_empty() {
        let (words, cut) = F::RULES.shorten(table.empty.as_deref().unwrap_or("No rows."), limit.text);
        part.cut_if(cut, || "a table's text is too long".to_owned());
        part.blocks.extend((!words.is_empty()).then(|| F::line(&words, LineStyle::Plain)));
        return;
    }
    let layout = TableLayout::new(format, table, limit);
    let shown = F::table(&layout, part);
    let counts = layout.counts(shown, part);
    part.blocks.extend((!counts.is_empty()).then(|| F::line(&counts, LineStyle::Small)));
    let buttons = table.rows.iter().take(shown.min(ROWS_WITH_BUTTONS)).flat_map(|row| &row.buttons);
    self::buttons(format, buttons, part);
}
