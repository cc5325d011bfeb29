//! Tables: the columns that are shown side by side and the queries beneath, the text of the cells, and what surrounds the rows.

use super::part::{self, LineStyle, MAX_TITLE, MessageFormat, PartLimit, RenderedPart};
use super::text::{grouped, mark};
use crate::model::{Cell, Column, Row, Shape, Table};

/// Only the first rows offer buttons: a wall of buttons hides the table.
const ROWS_WITH_BUTTONS: usize = 5;

/// The columns and rows that a limit leaves of a table.
pub struct TableLayout<'a, F> {
    pub format: &'a F,
    pub table: &'a Table,
    /// Columns that are shown side by side, each with its place in a row.
    pub columns: Vec<(usize, &'a Column)>,
    pub rows: &'a [Row],
    /// Number of columns that could be shown side by side.
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
        part.cut_if(shown < rows, || {
            format!("a table has {} rows; a message holds {}", grouped(rows), grouped(shown))
        });
        part.cut_if(columns < all_columns, || {
            format!("a table has {all_columns} columns; a message holds {columns}")
        });
        counts.join(" · ")
    }
}

/// Renders as much of a table as the limit allows, and the buttons of its first rows.
pub fn render<F: MessageFormat>(format: &F, table: &Table, limit: PartLimit, part: &mut RenderedPart) {
    if let Some(title) = table.title.as_deref().filter(|title| !title.is_empty()) {
        let (title, cut) = F::RULES.shorten(title, limit.text.min(MAX_TITLE));
        part.cut_if(cut, || "a table's title is too long".to_owned());
        part.blocks.push(F::line(&title, LineStyle::Bold));
    }
    if table.rows.is_empty() {
        let (words, cut) = F::RULES.shorten(table.empty.as_deref().unwrap_or("No rows."), limit.text);
        part.cut_if(cut, || "a table's text is too long".to_owned());
        if !words.is_empty() {
            part.blocks.push(F::line(&words, LineStyle::Plain));
        }
        return;
    }
    let layout = TableLayout::new(format, table, limit);
    let shown = F::table(&layout, part);
    let counts = layout.counts(shown, part);
    if !counts.is_empty() {
        part.blocks.push(F::line(&counts, LineStyle::Small));
    }
    let buttons = table.rows.iter().take(shown.min(ROWS_WITH_BUTTONS)).flat_map(|row| &row.buttons);
    part::buttons(format, buttons, part);
}
