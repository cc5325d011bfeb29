//! Tables. One that a phone can show side by side is a native `Table`, with query text beneath; a wider one is shown row by row,
//! because a phone would break its words into letters.

use super::AdaptiveCard;
use super::text_run::{self, RULES, TextStyle};
use crate::chat::render::part::{MessageFormat, RenderedPart};
use crate::chat::render::table::TableLayout;
use crate::model::{Row, Severity, Shape};
use serde_json::{Value, json};

/// Characters that a phone shows side by side.
const PHONE_WIDTH: usize = 44;
/// Characters that a cell takes beside its text.
const CELL_EDGES: usize = 2;
/// A column of longer texts wraps them.
const MAX_UNWRAPPED: usize = 24;
/// Bytes of a row's first cell beside its query.
const MAX_FIRST_CELL: usize = 40;
/// The lines that a tree is drawn with, before a row's first value.
const BRANCHES: [char; 6] = ['│', '└', '├', '─', ' ', '\u{a0}'];

type TeamsLayout<'a, 'b> = TableLayout<'a, AdaptiveCard<'b>>;

pub(super) fn render(layout: &TeamsLayout<'_, '_>, part: &mut RenderedPart) {
    let texts: Vec<Vec<&str>> = layout.columns.iter().map(|column| column_texts(layout, column.0)).collect();
    let unbroken: Vec<usize> = texts.iter().map(|texts| unbroken_width(texts)).collect();
    if unbroken.iter().sum::<usize>() <= PHONE_WIDTH {
        grid(layout, &widths(&texts, &unbroken), part);
    } else {
        records(layout, part);
    }
}

fn column_texts<'a>(layout: &TeamsLayout<'a, '_>, at: usize) -> Vec<&'a str> {
    let cells = layout.rows.iter().filter_map(|row| row.cells.get(at));
    std::iter::once(layout.table.columns[at].title.as_str())
        .chain(cells.map(|cell| cell.text.as_str()))
        .collect()
}

/// Characters that a column needs to break no word, with its edges.
fn unbroken_width(texts: &[&str]) -> usize {
    let longest_word = |text: &&str| {
        let words = text.trim_start_matches(BRANCHES).split([' ', '-']);
        let branches = text.chars().take_while(|c| BRANCHES.contains(c)).count();
        branches + words.map(|word| word.chars().count()).max().unwrap_or(0)
    };
    texts.iter().map(longest_word).max().unwrap_or(0) + CELL_EDGES
}

/// Widths of the columns, in parts of the whole: no word is broken, and what room is left goes to those that need it.
fn widths(texts: &[Vec<&str>], unbroken: &[usize]) -> Vec<usize> {
    let unwrapped = |texts: &Vec<&str>| {
        let lengths = texts.iter().map(|text| text.chars().take(MAX_UNWRAPPED).count());
        lengths.max().unwrap_or(0) + CELL_EDGES
    };
    let missing: Vec<usize> =
        texts.iter().zip(unbroken).map(|(texts, width)| unwrapped(texts).saturating_sub(*width)).collect();
    let spare = PHONE_WIDTH.saturating_sub(unbroken.iter().sum());
    let all_missing = missing.iter().sum::<usize>().max(1);
    let width =
        |(unbroken, missing): (&usize, &usize)| unbroken + (spare * missing / all_missing).min(*missing);
    unbroken.iter().zip(&missing).map(width).collect()
}

fn row_cells(layout: &TeamsLayout<'_, '_>, row: &Row, part: &mut RenderedPart) -> Vec<(String, TextStyle)> {
    let texts = layout.row(row, part);
    let cells = texts.iter().zip(&layout.columns).map(|(text, (at, _))| {
        let tone = row.cells.get(*at).map_or(Severity::Neutral, |cell| cell.tone);
        (text_run::indented(text), TextStyle { tone, ..TextStyle::PLAIN })
    });
    cells.collect()
}

/// Side by side; query text beneath, each with its row's first cell. The first row is the header unless one says otherwise, and
/// the published schema has no name for saying so that clients know.
fn grid(layout: &TeamsLayout<'_, '_>, widths: &[usize], part: &mut RenderedPart) {
    if !layout.columns.is_empty() {
        let table_row = |cells: Vec<(String, TextStyle)>| {
            let cells = cells
                .iter()
                .map(|(text, style)| json!({ "type": "TableCell", "items": [text_run::line(text, *style)] }));
            json!({ "type": "TableRow", "cells": cells.collect::<Vec<_>>() })
        };
        let header = layout.header(part).into_iter().map(|title| (title, TextStyle::BOLD));
        let mut rows = vec![table_row(header.collect())];
        rows.extend(layout.rows.iter().map(|row| table_row(row_cells(layout, row, part))));
        let columns = layout.columns.iter().zip(widths).map(|((_, column), width)| match column.shape {
            Shape::Right => json!({ "width": width, "horizontalCellContentAlignment": "right" }),
            _ => json!({ "width": width }),
        });
        let columns: Vec<Value> = columns.collect();
        part.blocks.push(json!({ "type": "Table", "columns": columns, "rows": rows }));
    }
    let mut lines = Vec::new();
    for row in layout.rows {
        let first = layout.first_cell(row).map_or(String::new(), |first| {
            format!("{} \u{a0}", RULES.shorten(first.trim_matches(BRANCHES), MAX_FIRST_CELL).0)
        });
        lines.extend(layout.queries(row, part).iter().map(|query| format!("{first}{query}")));
    }
    if !lines.is_empty() {
        part.blocks.extend(AdaptiveCard::code(None, &lines.join("\n")));
    }
}

/// Row by row: "pid 4711 · app asset-api · for ⚠️ 12 min", and its query on a line of its own.
fn records(layout: &TeamsLayout<'_, '_>, part: &mut RenderedPart) {
    let titles = layout.header(part);
    for row in layout.rows {
        let mut inlines = Vec::new();
        for ((text, style), title) in row_cells(layout, row, part).iter().zip(&titles) {
            let is_first = inlines.is_empty();
            if !is_first && text == "-" {
                continue;
            }
            let value = text.trim_start_matches(BRANCHES);
            let before = if is_first { &text[..text.len() - value.len()] } else { " · " };
            inlines.push(text_run::run(&format!("{before}{title} "), TextStyle::SMALL));
            let value = if value.is_empty() { "-" } else { value };
            inlines.push(text_run::run(value, TextStyle { bold: is_first, ..*style }));
        }
        for query in layout.queries(row, part) {
            inlines.push(text_run::run(&format!("\n{}", text_run::indented(&query)), TextStyle::CODE));
        }
        if !inlines.is_empty() {
            let mut record = text_run::block(inlines);
            record["separator"] = json!(true);
            part.blocks.push(record);
        }
    }
}
