//! Tables. One that a phone can show side by side is a native `Table`, with query text beneath; a wider one is told row by row,
//! because a phone would break its words into letters.

use super::text_run::{self, MANNER, TextStyle};
use super::{Cards, Viewer, action, block};
use crate::chat::render::budget::{self, PartLimit, RenderedPart};
use crate::chat::render::table_layout::Layout;
use crate::chat::teams::limits;
use crate::model::{Column, Row, Severity, Shape, Table};
use serde_json::{Value, json};

/// Rows of a table at most: more makes no card that anyone scrolls through.
const ROWS: usize = 100;
/// What a phone's width holds, in characters.
const PHONE: usize = 44;
/// What a cell takes beside its text, in characters.
const EDGES: usize = 2;
/// A column of longer texts wraps them.
const WIDEST: usize = 24;
/// A row's first cell beside its query, in bytes.
const FIRST: usize = 40;
/// The lines that a tree is drawn with, before a row's first value.
const BRANCHES: [char; 6] = ['│', '└', '├', '─', ' ', '\u{a0}'];

pub(super) fn cap(table: &Table) -> PartLimit {
    PartLimit { rows: table.rows.len().min(ROWS), text: limits::CARD_BYTES }
}

/// Renders what the cap allows.
pub(super) fn render(table: &Table, cap: PartLimit, eyes: &Viewer<'_>) -> RenderedPart {
    let mut piece = RenderedPart::default();
    if let Some(title) = table.title.as_deref().filter(|title| !title.is_empty()) {
        let (title, cut) = MANNER.shorten(title, cap.text.min(block::TITLE));
        piece.cut_if(cut, || "a table's title is too long".to_owned());
        piece.blocks.push(text_run::line(&title, TextStyle::BOLD));
    }
    if table.rows.is_empty() {
        let (words, cut) = MANNER.shorten(table.empty.as_deref().unwrap_or("No rows."), cap.text);
        piece.cut_if(cut, || "a table's text is too long".to_owned());
        if !words.is_empty() {
            piece.blocks.push(text_run::line(&words, TextStyle::PLAIN));
        }
        return piece;
    }
    let drawn = TableRows(Layout::of::<Cards<'_>>(table, cap));
    match drawn.narrow() {
        true => drawn.grid(&mut piece),
        false => drawn.records(&mut piece),
    }
    let shown = drawn.0.rows.len();
    let said = budget::counted(table, &drawn.0, shown, &mut piece);
    if !said.is_empty() {
        piece.blocks.push(text_run::line(&said, TextStyle::SMALL));
    }
    let buttons = budget::rows_with_buttons(table, shown).iter().flat_map(|row| &row.buttons);
    action::rows(buttons, eyes, &mut piece);
    piece
}

/// A column's width, in parts of the whole, and where its cells stand.
fn definition(column: &Column, width: usize) -> Value {
    let mut definition = json!({ "width": width });
    if column.shape == Shape::Right {
        definition["horizontalCellContentAlignment"] = json!("right");
    }
    definition
}

/// The table as Teams draws it.
struct TableRows<'a>(Layout<'a>);

impl<'a> TableRows<'a> {
    /// A column's texts, its title first.
    fn texts(&self, (at, column): (usize, &'a Column)) -> impl Iterator<Item = &'a str> {
        let cells = self.0.rows.iter().filter_map(move |row| row.cells.get(at));
        std::iter::once(column.title.as_str()).chain(cells.map(|cell| cell.text.as_str()))
    }

    /// What a column needs to break no word, with its edges.
    fn unbroken(&self, column: (usize, &'a Column)) -> usize {
        let word = |text: &str| {
            let words = text.trim_start_matches(BRANCHES).split([' ', '-']);
            let branches = text.chars().take_while(|c| BRANCHES.contains(c)).count();
            branches + words.map(|word| word.chars().count()).max().unwrap_or(0)
        };
        self.texts(column).map(word).max().unwrap_or(0) + EDGES
    }

    /// Whether a phone shows every column without breaking a word.
    fn narrow(&self) -> bool {
        self.0.columns.iter().map(|column| self.unbroken(*column)).sum::<usize>() <= PHONE
    }

    /// How wide each column is, in parts of the whole: a phone breaks no word, and what room is left goes to those that need it.
    fn widths(&self) -> Vec<usize> {
        let unbroken: Vec<usize> = self.0.columns.iter().map(|column| self.unbroken(*column)).collect();
        let whole =
            |column| self.texts(column).map(|text| text.chars().take(WIDEST).count()).max().unwrap_or(0);
        let wholes = self.0.columns.iter().map(|column| whole(*column) + EDGES);
        let lacks: Vec<usize> =
            wholes.zip(&unbroken).map(|(whole, own)| whole.saturating_sub(*own)).collect();
        let spare = PHONE.saturating_sub(unbroken.iter().sum());
        let lack = lacks.iter().sum::<usize>().max(1);
        unbroken.iter().zip(&lacks).map(|(own, more)| own + (spare * more / lack).min(*more)).collect()
    }

    /// A row's texts with their marks, and how they look.
    fn row(&self, row: &Row, piece: &mut RenderedPart) -> Vec<(String, TextStyle)> {
        let texts = self.0.row(row, piece);
        let look = |at: usize| {
            let tone = row.cells.get(at).map_or(Severity::Neutral, |cell| cell.tone);
            TextStyle { tone, ..TextStyle::PLAIN }
        };
        let pairs = texts.iter().zip(&self.0.columns);
        pairs.map(|(text, (at, _))| (text_run::indented(text), look(*at))).collect()
    }

    /// Side by side; query text beneath, each with its row's first cell. The first row is the header unless one says
    /// otherwise, and the published schema has no name for saying so that clients know.
    fn grid(&self, piece: &mut RenderedPart) {
        if !self.0.columns.is_empty() {
            let cell = |(text, look): (String, TextStyle)| json!({ "type": "TableCell", "items": [text_run::line(&text, look)] });
            let row = |cells: Vec<(String, TextStyle)>| {
                let cells: Vec<Value> = cells.into_iter().map(cell).collect();
                json!({ "type": "TableRow", "cells": cells })
            };
            let header = self.0.header(piece).into_iter().map(|title| (title, TextStyle::BOLD));
            let mut rows = vec![row(header.collect())];
            rows.extend(self.0.rows.iter().map(|one| row(self.row(one, piece))));
            let columns = self.0.columns.iter().zip(self.widths());
            let columns: Vec<Value> = columns.map(|((_, column), width)| definition(column, width)).collect();
            piece.blocks.push(json!({ "type": "Table", "columns": columns, "rows": rows }));
        }
        let mut lines = Vec::new();
        for row in self.0.rows {
            let first = self.0.first(row).map(|first| first.trim_matches(BRANCHES));
            let first =
                first.map_or(String::new(), |first| format!("{} \u{a0}", MANNER.shorten(first, FIRST).0));
            lines.extend(self.0.queries(row, piece).iter().map(|query| format!("{first}{query}")));
        }
        if !lines.is_empty() {
            piece.blocks.push(block::preformatted(&lines.join("\n")));
        }
    }

    /// Row by row: "pid 4711 · app asset-api · for ⚠️ 12 min", and its query on a line of its own.
    fn records(&self, piece: &mut RenderedPart) {
        let titles = self.0.header(piece);
        for row in self.0.rows {
            let mut inlines = Vec::new();
            for ((text, look), title) in self.row(row, piece).iter().zip(&titles) {
                let first = inlines.is_empty();
                if !first && text == "-" {
                    continue;
                }
                let value = text.trim_start_matches(BRANCHES);
                let before = if first { &text[..text.len() - value.len()] } else { " · " };
                inlines.push(text_run::run(&format!("{before}{title} "), TextStyle::SMALL));
                let value = if value.is_empty() { "-" } else { value };
                inlines.push(text_run::run(value, TextStyle { bold: first, ..*look }));
            }
            for query in self.0.queries(row, piece) {
                inlines.push(text_run::run(&format!("\n{}", text_run::indented(&query)), TextStyle::CODE));
            }
            if !inlines.is_empty() {
                let mut record = text_run::rich(inlines);
                record["separator"] = json!(true);
                piece.blocks.push(record);
            }
        }
    }
}
