//! Which columns of a table stand side by side and which beneath it, and what its cells say. How they are drawn is the
//! platform's.

use super::budget::{PartLimit, PlatformLimits, RenderedPart};
use super::text::{TextRules, grouped, mark};
use crate::model::{Cell, Column, Row, Shape, Table};

/// What a cap leaves of a table.
pub struct Layout<'a> {
    /// Those side by side, each with its place in a row.
    pub columns: Vec<(usize, &'a Column)>,
    /// How many there are that could stand side by side.
    pub all_columns: usize,
    pub rows: &'a [Row],
    /// Query text: the places of its columns in a row.
    queries: Vec<usize>,
    manner: TextRules,
    unit: &'static str,
    cell: usize,
    query: usize,
}

impl<'a> Layout<'a> {
    pub fn of<F: PlatformLimits>(table: &'a Table, cap: PartLimit) -> Self {
        let (queries, mut columns): (Vec<_>, Vec<_>) =
            table.columns.iter().enumerate().partition(|(_, column)| column.shape == Shape::Query);
        let all_columns = columns.len();
        columns.truncate(F::TABLE_COLUMNS);
        // So that the header and one row always fit.
        let share = F::TABLE_TEXT / (2 * columns.len().max(1));
        Layout {
            columns,
            all_columns,
            rows: &table.rows[..cap.rows.min(table.rows.len())],
            queries: queries.into_iter().map(|(at, _)| at).collect(),
            manner: F::MANNER,
            unit: F::UNIT,
            cell: share.min(cap.text).max(1),
            query: cap.text,
        }
    }

    pub fn header(&self, piece: &mut RenderedPart) -> Vec<String> {
        self.columns.iter().map(|(_, column)| self.cell(&Cell::from(column.title.as_str()), piece)).collect()
    }

    pub fn row(&self, row: &Row, piece: &mut RenderedPart) -> Vec<String> {
        let blank = Cell::from("");
        self.columns.iter().map(|(at, _)| self.cell(row.cells.get(*at).unwrap_or(&blank), piece)).collect()
    }

    /// A cell's text with its mark. No platform takes an empty one.
    fn cell(&self, cell: &Cell, piece: &mut RenderedPart) -> String {
        let text = if cell.text.trim().is_empty() { "-" } else { cell.text.as_str() };
        let (text, cut) = self.manner.shorten(&format!("{}{text}", mark(cell.tone)), self.cell);
        piece.cut_if(cut, || format!("a table's cell has more than {} {}", grouped(self.cell), self.unit));
        text
    }

    /// The text of a row's first cell.
    pub fn first(&self, row: &'a Row) -> Option<&'a str> {
        let cell = self.columns.first().and_then(|(at, _)| row.cells.get(*at));
        cell.map(|cell| cell.text.trim()).filter(|text| !text.is_empty())
    }

    /// A row's query texts.
    pub fn queries(&self, row: &Row, piece: &mut RenderedPart) -> Vec<String> {
        let cells = self.queries.iter().filter_map(|at| row.cells.get(*at));
        let queries = cells.filter(|cell| !cell.text.trim().is_empty()).map(|cell| {
            let (query, cut) = self.manner.shorten(&cell.text, self.query);
            piece.cut_if(cut, || format!("a query has more than {} {}", grouped(self.query), self.unit));
            query
        });
        queries.collect()
    }
}
