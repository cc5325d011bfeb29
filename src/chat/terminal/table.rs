//! A table within so many columns: numbers are aligned right and never cut; words wrap, and are cut with "…" after a few
//! lines. A table of too many columns is shown row by row. Query text stands beneath.

use super::escape;
use super::render::TerminalPage;
use super::style::{Style, StyledText, columns, cut, padded, styled, trimmed, wrapped};
use crate::model::{Row, Severity, Shape, Table};

/// Spaces between two columns.
const GAP: usize = 2;
/// A column of words isn't squeezed further than this: three letters a line are not read.
const MIN_WIDTH: usize = 8;
/// Lines of one cell. More of it is in `--json`.
const MAX_CELL_LINES: usize = 4;
const MAX_QUERY_LINES: usize = 6;

/// Adds the table to the page.
pub(super) fn render(table: &Table, page: &mut TerminalPage) {
    if let Some(title) = &table.title {
        page.paragraph(title, Style::Strong);
    }
    if table.rows.is_empty() {
        page.paragraph(table.empty.as_deref().unwrap_or("None."), Style::Plain);
        return;
    }
    let is_query = |at: &usize| table.columns[*at].shape == Shape::Query;
    let (query_columns, cell_columns): (Vec<usize>, Vec<usize>) =
        (0..table.columns.len()).partition(is_query);
    let shown: Vec<TableColumn> = cell_columns.iter().map(|at| TableColumn::new(table, *at)).collect();
    match widths(&shown, page.width) {
        Some(widths) => grid(&shown, &widths, page),
        None => records(&shown, page),
    }
    queries(table, &query_columns, shown.first(), page);
    if table.total > table.rows.len() {
        let words = format!("{} of {} rows", table.rows.len(), table.total);
        page.lines.push(styled(&words, Style::Faint));
    }
}

struct TableColumn {
    /// Numbers: aligned right, and never wrapped.
    is_right: bool,
    title: StyledText,
    /// One for each row.
    cells: Vec<StyledText>,
}

impl TableColumn {
    fn new(table: &Table, at: usize) -> Self {
        let column = &table.columns[at];
        TableColumn {
            is_right: column.shape == Shape::Right,
            title: styled(&escape::line(&column.title), Style::Strong),
            cells: table.rows.iter().map(|row| cell(row, at)).collect(),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &StyledText> {
        self.cells.iter().chain([&self.title])
    }

    fn width(&self) -> usize {
        self.texts().map(|text| columns(text)).max().unwrap_or(0)
    }

    fn longest_word(&self) -> usize {
        let words = self.texts().flat_map(|text| text.split(|(c, _)| *c == ' '));
        words.map(columns).max().unwrap_or(0)
    }
}

/// A cell's text. A judged value has a sign that needs no colour.
fn cell(row: &Row, at: usize) -> StyledText {
    let Some(cell) = row.cells.get(at) else { return StyledText::new() };
    let (sign, style) = match cell.tone {
        Severity::Neutral => ("", Style::Plain),
        Severity::Ok => ("", Style::Ok),
        Severity::Warning => ("! ", Style::Warning),
        Severity::Critical => ("!! ", Style::Critical),
    };
    styled(&format!("{sign}{}", escape::line(&cell.text)), style)
}

/// Widths of the columns; `None` if they can't be shown side by side.
fn widths(shown: &[TableColumn], page_width: usize) -> Option<Vec<usize>> {
    let mut widths: Vec<usize> = shown.iter().map(TableColumn::width).collect();
    let words: Vec<usize> = shown.iter().map(TableColumn::longest_word).collect();
    let room = page_width.checked_sub(GAP * shown.len().saturating_sub(1))?;
    while widths.iter().sum::<usize>() > room {
        // No word is cut while another column still has words to wrap.
        let may_shrink = |at: &usize| !shown[*at].is_right && widths[*at] > MIN_WIDTH;
        let has_words = |at: &usize| may_shrink(at) && widths[*at] > words[*at];
        let widest = (0..widths.len()).filter(has_words).max_by_key(|at| widths[*at]);
        let widest = widest.or_else(|| (0..widths.len()).filter(may_shrink).max_by_key(|at| widths[*at]))?;
        widths[widest] -= 1;
    }
    Some(widths)
}

fn grid(shown: &[TableColumn], widths: &[usize], page: &mut TerminalPage) {
    let mut add_row = |cells: Vec<StyledText>| {
        let cells = cells.iter().zip(widths);
        let cells: Vec<Vec<StyledText>> =
            cells.map(|(cell, width)| cut(wrapped(cell, *width), MAX_CELL_LINES, *width)).collect();
        for number in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = StyledText::new();
            for ((lines, column), width) in cells.iter().zip(shown).zip(widths) {
                let part = lines.get(number).cloned().unwrap_or_default();
                line.extend(padded(part, *width, column.is_right));
                line.extend(styled(&" ".repeat(GAP), Style::Plain));
            }
            page.lines.push(trimmed(line));
        }
    };
    add_row(shown.iter().map(|column| column.title.clone()).collect());
    add_row(widths.iter().map(|width| styled(&"─".repeat(*width), Style::Faint)).collect());
    for row in 0..shown.first().map_or(0, |column| column.cells.len()) {
        add_row(shown.iter().map(|column| column.cells[row].clone()).collect());
    }
}

fn records(shown: &[TableColumn], page: &mut TerminalPage) {
    for row in 0..shown.first().map_or(0, |column| column.cells.len()) {
        if row > 0 {
            page.blank();
        }
        let pairs = shown.iter().map(|column| (column.title.clone(), column.cells[row].clone()));
        page.labelled(pairs.collect());
    }
}

/// Each row's query text, behind the row's first cell.
fn queries(
    table: &Table,
    query_columns: &[usize],
    first_column: Option<&TableColumn>,
    page: &mut TerminalPage,
) {
    let mut pairs = Vec::new();
    for (number, row) in table.rows.iter().enumerate() {
        let queries = query_columns.iter().filter_map(|at| row.cells.get(*at));
        for query in queries.filter(|query| !query.text.trim().is_empty()) {
            let label = first_column.map(|column| column.cells[number].clone()).unwrap_or_default();
            pairs.push((label, styled(&escape::line(&query.text), Style::Code)));
        }
    }
    if pairs.is_empty() {
        return;
    }
    page.blank();
    let widest = pairs.iter().map(|(label, _)| columns(label)).max().unwrap_or(0);
    let label_width = widest.min(page.width / 3);
    let width = page.width - label_width - GAP;
    for (label, query) in pairs {
        let mut label = cut(wrapped(&label, label_width), 1, label_width).pop().unwrap_or_default();
        for line in cut(wrapped(&query, width), MAX_QUERY_LINES, width) {
            let label = std::mem::take(&mut label);
            page.lines.push([padded(label, label_width + GAP, false), line].concat());
        }
    }
}
