//! One part of a reply in a platform's own blocks, within a limit; of a table, the columns that are shown side by side and the
//! queries beneath. What is left out is counted in the blocks, and remembered in the part.

use super::text::{MAX_HEADING_COMMAND, TextRules, cut_note, mark, with_thousands_separators};
use crate::model::{
    Block, Button, Cell, Column, ColumnKind, Heading, Link, Row, Severity, Span, Table, Text, bar,
};
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
    pub cut_reason: Option<String>,
}

impl RenderedPart {
    /// Records the reason of the first cut.
    pub fn mark_cut_if(&mut self, is_cut: bool, reason: impl FnOnce() -> String) {
        if is_cut && self.cut_reason.is_none() {
            self.cut_reason = Some(reason());
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

/// The style of a line that Countersign adds.
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

    /// Size that all blocks of a message may have.
    fn max_size(&self) -> usize;
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
    fn links(links: &[Link]) -> Vec<Value>;
    /// The rows of a table that isn't empty, with its header and its queries. Returns how many rows are shown.
    fn table(layout: &TableLayout<'_, Self>, part: &mut RenderedPart) -> usize;
}

/// Renders the heading, which is always shown.
pub fn heading<F: MessageFormat>(heading: &Heading) -> RenderedPart {
    let mut part = RenderedPart::default();
    let (spans, cut) = F::RULES.heading(heading);
    part.mark_cut_if(cut, || {
        format!("the command has more than {} {}", with_thousands_separators(MAX_HEADING_COMMAND), F::UNIT)
    });
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
        Block::Links(links) => links.len().min(F::MAX_BUTTONS),
        _ => 1,
    };
    PartLimit { rows, text: F::MAX_TEXT }
}

/// Renders as much of a part as the limit allows.
pub fn render<F: MessageFormat>(format: &F, block: &Block, limit: PartLimit) -> RenderedPart {
    let mut part = RenderedPart::default();
    match block {
        Block::Verdict { severity, text } => {
            paragraph::<F>(text, limit, ParagraphStyle::Verdict(*severity), &mut part);
        }
        Block::Text(text) => paragraph::<F>(text, limit, ParagraphStyle::Plain, &mut part),
        Block::Note(text) => paragraph::<F>(text, limit, ParagraphStyle::Note, &mut part),
        Block::Facts(facts) => self::facts::<F>(facts, limit, &mut part),
        Block::Table(table) => self::table(format, table, limit, &mut part),
        Block::Code { title, text } => code::<F>(title.as_deref(), text, limit, &mut part),
        // Text only, so that a phone and a screen reader show the same.
        Block::Progress { percent, label } => {
            let (label, cut) = F::RULES.shorten(label, limit.text);
            part.mark_cut_if(cut, || "a progress label is too long".to_owned());
            let words = match percent.map(|percent| bar(percent.into())) {
                Some(bar) if label.is_empty() => bar,
                Some(bar) => format!("{bar} · {label}"),
                None => label,
            };
            part.blocks.extend((!words.is_empty()).then(|| F::line(&words, LineStyle::Plain)));
        }
        Block::Buttons(buttons) => {
            part.mark_cut_if(limit.rows < buttons.len(), || {
                format!("it has {} buttons", with_thousands_separators(buttons.len()))
            });
            self::buttons(format, buttons.iter().take(limit.rows), &mut part);
        }
        Block::Links(links) => {
            part.mark_cut_if(limit.rows < links.len(), || format!("it has {} links", links.len()));
            part.blocks.extend(F::links(&links[..limit.rows.min(links.len())]));
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
    part.mark_cut_if(missing > 0, || too_long::<F>(&text.words()));
    part.blocks.extend(blocks);
}

fn too_long<F: MessageFormat>(text: &str) -> String {
    let (size, max) =
        (with_thousands_separators(F::RULES.length(text)), with_thousands_separators(F::MAX_TEXT));
    format!("a text has {size} {}; a message holds {max}", F::UNIT)
}

fn facts<F: MessageFormat>(facts: &[(String, Text)], limit: PartLimit, part: &mut RenderedPart) {
    let shown = &facts[..limit.rows.min(facts.len())];
    let mut rendered = Vec::new();
    for (label, value) in shown {
        let (label, cut) = F::RULES.shorten(label, F::MAX_LABEL.min(limit.text));
        let (spans, missing) = F::RULES.spans(value, limit.text);
        part.mark_cut_if(cut || missing > 0, || too_long::<F>(&value.words()));
        rendered.push((label, spans));
    }
    if !rendered.is_empty() {
        part.blocks.extend(F::facts(rendered));
    }
    if shown.len() < facts.len() {
        let all = with_thousands_separators(facts.len());
        part.blocks.push(F::line(&format!("{} of {all} facts", shown.len()), LineStyle::Small));
        part.mark_cut_if(true, || format!("it has {all} facts"));
    }
}

fn code<F: MessageFormat>(title: Option<&str>, text: &str, limit: PartLimit, part: &mut RenderedPart) {
    let title = title.filter(|title| !title.is_empty()).map(|title| {
        let (title, cut) = F::RULES.shorten(title, MAX_TITLE);
        part.mark_cut_if(cut, || "a title is too long".to_owned());
        title
    });
    let (mut head, missing) = F::RULES.truncate(text, limit.text);
    part.mark_cut_if(missing > 0, || too_long::<F>(text));
    if missing > 0 {
        head = format!("{head}\n{}", cut_note(missing)).trim_start_matches('\n').to_owned();
    } else if head.trim().is_empty() {
        head = "-".to_owned();
    }
    part.blocks.extend(F::code(title.as_deref(), &head));
}

/// The buttons that the viewer is shown, of those that the platform can carry.
fn buttons<'a, F: MessageFormat>(
    format: &F,
    buttons: impl Iterator<Item = &'a Button>,
    part: &mut RenderedPart,
) {
    let visible = buttons.filter(|button| format.shows(button));
    let (sendable, broken): (Vec<&Button>, Vec<_>) = visible.partition(|button| F::is_token(&button.token));
    part.mark_cut_if(!broken.is_empty(), || "a button's token is not one".to_owned());
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
    query_columns: Vec<usize>,
    max_cell: usize,
    max_query: usize,
    /// The one cell that is too long for its column, with the place of its row and its column's title: shown below the table.
    long_cell: Option<(usize, &'a str, &'a Cell)>,
}

impl<'a, F: MessageFormat> TableLayout<'a, F> {
    fn new(format: &'a F, table: &'a Table, limit: PartLimit) -> Self {
        let (query_columns, mut columns): (Vec<_>, Vec<_>) =
            table.columns.iter().enumerate().partition(|(_, column)| column.kind == ColumnKind::Query);
        let all_columns = columns.len();
        columns.truncate(F::MAX_COLUMNS);
        // So that the header and one row always fit.
        let share = F::MAX_TABLE_TEXT / (2 * columns.len().max(1));
        let mut layout = TableLayout {
            format,
            table,
            columns,
            rows: &table.rows[..limit.rows.min(table.rows.len())],
            all_columns,
            query_columns: query_columns.into_iter().map(|(at, _)| at).collect(),
            max_cell: share.min(limit.text).max(1),
            max_query: limit.text,
            long_cell: None,
        };
        layout.long_cell = layout.only_long_cell();
        layout
    }

    /// The cell that is too long for its column, if there is one and no other.
    fn only_long_cell(&self) -> Option<(usize, &'a str, &'a Cell)> {
        let rows = self.rows.iter().enumerate();
        let cells = rows.flat_map(|(place, row)| {
            let cells = self.columns.iter().filter_map(|(at, column)| Some((*column, row.cells.get(*at)?)));
            cells.map(move |(column, cell)| (place, column.title.as_str(), cell))
        });
        let mut long = cells.filter(|(_, _, cell)| {
            F::RULES.shorten(&format!("{}{}", mark(cell.severity), cell.text), self.max_cell).1
        });
        long.next().filter(|_| long.next().is_none())
    }

    fn is_below(&self, cell: &Cell) -> bool {
        self.long_cell.is_some_and(|(_, _, long)| std::ptr::eq(long, cell))
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
        let (text, cut) = F::RULES.shorten(&format!("{}{text}", mark(cell.severity)), self.max_cell);
        part.mark_cut_if(cut && !self.is_below(cell), || {
            format!("a table's cell has more than {} {}", with_thousands_separators(self.max_cell), F::UNIT)
        });
        text
    }

    /// The text of a row's first cell.
    pub fn first_cell(&self, row: &'a Row) -> Option<&'a str> {
        let cell = self.columns.first().and_then(|(at, _)| row.cells.get(*at));
        cell.map(|cell| cell.text.trim()).filter(|text| !text.is_empty())
    }

    /// A row's query texts.
    pub fn queries(&self, row: &Row, part: &mut RenderedPart) -> Vec<String> {
        let cells = self.query_columns.iter().filter_map(|at| row.cells.get(*at));
        let queries = cells.filter(|cell| !cell.text.trim().is_empty()).map(|cell| {
            let (query, cut) = F::RULES.shorten(&cell.text, self.max_query);
            part.mark_cut_if(cut, || {
                format!("a query has more than {} {}", with_thousands_separators(self.max_query), F::UNIT)
            });
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
            counts.push(format!(
                "{} of {} rows",
                with_thousands_separators(shown),
                with_thousands_separators(total)
            ));
        }
        if columns < all_columns {
            counts.push(format!("{columns} of {all_columns} columns"));
        }
        let too_many = |rows, shown| format!("a table has {rows}; a message holds {shown}");
        part.mark_cut_if(shown < rows, || {
            too_many(format!("{} rows", with_thousands_separators(rows)), with_thousands_separators(shown))
        });
        part.mark_cut_if(columns < all_columns, || {
            too_many(format!("{all_columns} columns"), columns.to_string())
        });
        counts.join(" · ")
    }
}

fn table<F: MessageFormat>(format: &F, table: &Table, limit: PartLimit, part: &mut RenderedPart) {
    if let Some(title) = table.title.as_deref().filter(|title| !title.is_empty()) {
        let (title, cut) = F::RULES.shorten(title, limit.text.min(MAX_TITLE));
        part.mark_cut_if(cut, || "a table's title is too long".to_owned());
        part.blocks.push(F::line(&title, LineStyle::Bold));
    }
    if table.rows.is_empty() {
        let (words, cut) = F::RULES.shorten(table.empty.as_deref().unwrap_or("No rows."), limit.text);
        part.mark_cut_if(cut, || "a table's text is too long".to_owned());
        part.blocks.extend((!words.is_empty()).then(|| F::line(&words, LineStyle::Plain)));
        return;
    }
    let layout = TableLayout::new(format, table, limit);
    let shown = F::table(&layout, part);
    if let Some((_, title, cell)) = layout.long_cell.filter(|(place, _, _)| *place < shown) {
        code::<F>(Some(title), &cell.text, limit, part);
    }
    let counts = layout.counts(shown, part);
    part.blocks.extend((!counts.is_empty()).then(|| F::line(&counts, LineStyle::Small)));
    let buttons = table.rows.iter().take(shown.min(ROWS_WITH_BUTTONS)).flat_map(|row| &row.buttons);
    self::buttons(format, buttons, part);
}
