//! A table within so many columns: numbers stand to the right and are never cut; words wrap, and are cut with "…" after a few
//! lines. A table of too many columns is told row by row. Query text stands beneath.

use super::escape;
use super::render::TerminalPage;
use super::style::{Style, StyledText, columns, cut, inked, padded, wrapped};
use crate::model::{Cell, Row, Severity, Shape, Table};

/// Blanks between two columns.
const GAP: usize = 2;

/// A column of words isn't squeezed further than this: three letters a line are not read.
const NARROWEST: usize = 8;

/// Lines of one cell. More of it is in `--json`.
const CELL_LINES: usize = 4;

/// Lines of one query.
const QUERY_LINES: usize = 6;

pub(super) fn render(table: &Table, page: &mut TerminalPage) {
    table.title.iter().for_each(|title| page.title(title));
    if table.rows.is_empty() {
        let empty = table.empty.as_deref().unwrap_or("None.");
        return page.extend(wrapped(&inked(&escape::line(empty), Style::Plain), page.width));
    }
    let is_query = |at: &usize| table.columns[*at].shape == Shape::Query;
    let (queries, others): (Vec<usize>, Vec<usize>) = (0..table.columns.len()).partition(is_query);
    match widths(table, &others, page.width) {
        Some(widths) => grid(table, &others, (&widths, page)),
        None => records(table, &others, page),
    }
    self::queries(table, (&queries, &others), page);
    if table.total > table.rows.len() {
        let words = format!("{} of {} rows", table.rows.len(), table.total);
        page.lines.push(inked(&words, Style::Faint));
    }
}

/// A judged value has a sign that needs no colour.
fn value(cell: &Cell) -> StyledText {
    let text = escape::line(&cell.text);
    match cell.tone {
        Severity::Neutral => inked(&text, Style::Plain),
        Severity::Ok => inked(&text, Style::Ok),
        Severity::Warning => inked(&format!("! {text}"), Style::Warning),
        Severity::Critical => inked(&format!("!! {text}"), Style::Critical),
    }
}

fn at(row: &Row, column: usize) -> StyledText {
    row.cells.get(column).map(value).unwrap_or_default()
}

fn title(table: &Table, column: usize) -> StyledText {
    inked(&escape::line(&table.columns[column].title), Style::Strong)
}

/// How wide each column is; `None` if they can't stand side by side.
fn widths(table: &Table, shown: &[usize], width: usize) -> Option<Vec<usize>> {
    let natural = |column: &usize| {
        let cells = table.rows.iter().map(|row| columns(&at(row, *column)));
        cells.chain([columns(&title(table, *column))]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = shown.iter().map(natural).collect();
    // No word is cut while another column still has words to wrap.
    let words: Vec<usize> = shown.iter().map(|column| longest_word(table, *column)).collect();
    let room = width.checked_sub(GAP * shown.len().saturating_sub(1))?;
    while widths.iter().sum::<usize>() > room {
        let narrower = |at: &usize| table.columns[shown[*at]].shape == Shape::Left && widths[*at] > NARROWEST;
        let wraps = |at: &usize| narrower(at) && widths[*at] > words[*at];
        let widest = (0..widths.len()).filter(wraps).max_by_key(|at| widths[*at]);
        let widest = widest.or_else(|| (0..widths.len()).filter(narrower).max_by_key(|at| widths[*at]))?;
        widths[widest] -= 1;
    }
    Some(widths)
}

fn longest_word(table: &Table, column: usize) -> usize {
    let cells = table.rows.iter().map(|row| at(row, column)).chain([title(table, column)]);
    let word = |cell: StyledText| cell.split(|(c, _)| *c == ' ').map(columns).max();
    cells.filter_map(word).max().unwrap_or(0)
}

fn grid(table: &Table, shown: &[usize], (widths, page): (&[usize], &mut TerminalPage)) {
    let right: Vec<bool> = shown.iter().map(|at| table.columns[*at].shape == Shape::Right).collect();
    let titles = shown.iter().map(|column| title(table, *column)).collect();
    let beside = |cells: Vec<StyledText>, page: &mut TerminalPage| {
        let wrapped: Vec<Vec<StyledText>> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| cut(wrapped(cell, *width), CELL_LINES, *width))
            .collect();
        for line in 0..wrapped.iter().map(Vec::len).max().unwrap_or(0) {
            let mut whole = StyledText::new();
            for (at, lines) in wrapped.iter().enumerate() {
                let part = lines.get(line).cloned().unwrap_or_default();
                let last = at + 1 == wrapped.len() && !right[at];
                whole.extend(if last { part } else { padded(part, widths[at], right[at]) });
                whole.extend(inked(if last { "" } else { "  " }, Style::Plain));
            }
            while whole.last().is_some_and(|(c, _)| *c == ' ') {
                whole.pop();
            }
            page.lines.push(whole);
        }
    };
    beside(titles, page);
    beside(widths.iter().map(|width| inked(&"─".repeat(*width), Style::Faint)).collect(), page);
    for row in &table.rows {
        beside(shown.iter().map(|column| at(row, *column)).collect(), page);
    }
}

/// Row by row, a line for each column.
fn records(table: &Table, shown: &[usize], page: &mut TerminalPage) {
    for (number, row) in table.rows.iter().enumerate() {
        if number > 0 {
            page.lines.push(StyledText::new());
        }
        page.labelled(shown.iter().map(|column| (title(table, *column), at(row, *column))).collect());
    }
}

/// Each row's query text, behind the row's first cell.
fn queries(table: &Table, (queries, others): (&[usize], &[usize]), page: &mut TerminalPage) {
    let mut pairs = Vec::new();
    for row in &table.rows {
        for query in queries.iter().filter_map(|column| row.cells.get(*column)) {
            if query.text.trim().is_empty() {
                continue;
            }
            let first = others.first().map(|column| at(row, *column)).unwrap_or_default();
            pairs.push((first, inked(&escape::line(&query.text), Style::Code)));
        }
    }
    if pairs.is_empty() {
        return;
    }
    page.lines.push(StyledText::new());
    let widest = pairs.iter().map(|(first, _)| columns(first)).max().unwrap_or(0).min(page.width / 3);
    let width = page.width - widest - GAP;
    for (first, query) in pairs {
        let first = cut(wrapped(&first, widest), 1, widest).into_iter().next().unwrap_or_default();
        for (number, line) in cut(wrapped(&query, width), QUERY_LINES, width).into_iter().enumerate() {
            let label = if number == 0 { first.clone() } else { StyledText::new() };
            page.lines.push([padded(label, widest + GAP, false), line].concat());
        }
    }
}
