//! Tables. A message holds one native `table` block; every other table becomes fixed-width text. Query text never stands in a
//! cell: Slack's cells are narrow, so it is listed beneath, each with its row's first cell.

use super::part::{Cap, Piece, button_rows};
use super::rich;
use crate::chat::slack::limits::{self, length};
use crate::message::{Button, Cell, Column, Row, Shape, Table};
use serde_json::{Value, json};

/// Only the first rows offer buttons: a wall of buttons hides the table.
const ROWS_WITH_BUTTONS: usize = 5;
/// In the fixed-width fallback a column grows no wider.
const TEXT_COLUMN: usize = 40;
/// A column of shorter cells isn't wrapped: a pid would stand below its branch of the lock tree, a service's name on two lines.
const UNWRAPPED: usize = 24;
/// Query text is cut to this length before rows are left out.
pub(super) const QUERY_FLOOR: usize = 200;

/// Whether the table can be a native one: it has rows, and a column that isn't query text.
pub(super) fn nativable(table: &Table) -> bool {
    !table.rows.is_empty() && table.columns.iter().any(|column| column.shape != Shape::Query)
}

/// How much of the table a message may show at all.
pub(super) fn cap(table: &Table) -> Cap {
    Cap { rows: table.rows.len().min(limits::TABLE_ROWS - 1), text: limits::MESSAGE_TEXT }
}

/// A tighter cap: shorter queries first, then fewer rows, then shorter cells.
pub(super) fn tighter(table: &Table, cap: Cap, share: impl Fn(usize) -> usize) -> Cap {
    let queries = table.columns.iter().enumerate().filter(|(_, column)| column.shape == Shape::Query);
    let cells =
        queries.flat_map(|(at, _)| table.rows.iter().take(cap.rows).filter_map(move |row| row.cells.get(at)));
    let longest = cells.map(|cell| cell.text.encode_utf16().take(cap.text).count()).max().unwrap_or(0);
    if longest > QUERY_FLOOR {
        Cap { text: (longest / 2).max(QUERY_FLOOR), ..cap }
    } else if cap.rows > 1 {
        Cap { rows: share(cap.rows).clamp(1, cap.rows - 1), ..cap }
    } else {
        Cap { text: cap.text / 2, ..cap }
    }
}

/// Renders what the cap allows.
pub(super) fn render(table: &Table, cap: Cap, native: bool) -> Piece {
    let mut piece = Piece::default();
    if let Some(title) = table.title.as_deref().filter(|title| !title.is_empty()) {
        let (title, cut) = rich::shorten(title, cap.text.min(limits::BUTTON_TEXT * 2));
        piece.cut_if(cut, || "a table's title is too long".to_owned());
        piece.blocks.push(rich::rich(vec![rich::section(vec![rich::bold(&title)])]));
    }
    if table.rows.is_empty() {
        let words = rich::shorten(table.empty.as_deref().unwrap_or("No rows."), cap.text);
        piece.cut_if(words.1, || "a table's text is too long".to_owned());
        if !words.0.is_empty() {
            piece.blocks.push(rich::rich(vec![rich::section(vec![rich::plain(&words.0)])]));
        }
        return piece;
    }
    let layout = Layout::of(table, cap);
    let shown = if native { layout.native(&mut piece) } else { layout.text(&mut piece) };
    layout.queries(shown, &mut piece);
    notes(table, &layout, shown, &mut piece);
    let buttons: Vec<&Button> =
        table.rows.iter().take(shown.min(ROWS_WITH_BUTTONS)).flat_map(|row| &row.buttons).collect();
    button_rows(&buttons, &mut piece);
    piece
}

/// "12 of 340 rows".
fn notes(table: &Table, layout: &Layout, shown: usize, piece: &mut Piece) {
    let total = table.total.max(table.rows.len());
    let mut said = Vec::new();
    if shown < total {
        said.push(format!("{} of {} rows", rich::grouped(shown), rich::grouped(total)));
    }
    if layout.columns.len() < layout.all_columns {
        said.push(format!("{} of {} columns", layout.columns.len(), layout.all_columns));
    }
    piece.cut_if(shown < table.rows.len(), || {
        format!(
            "a table has {} rows; a message holds {}",
            rich::grouped(table.rows.len()),
            rich::grouped(shown)
        )
    });
    piece.cut_if(layout.columns.len() < layout.all_columns, || {
        format!("a table has {} columns; a message holds {}", layout.all_columns, layout.columns.len())
    });
    if !said.is_empty() {
        piece.blocks.push(rich::context(&said.join(" · ")));
    }
}

/// Which columns stand in the table and which beneath it.
struct Layout<'a> {
    columns: Vec<(usize, &'a Column)>,
    queries: Vec<usize>,
    all_columns: usize,
    rows: &'a [Row],
    cell: usize,
    query: usize,
}

impl<'a> Layout<'a> {
    fn of(table: &'a Table, cap: Cap) -> Self {
        let (queries, mut columns): (Vec<_>, Vec<_>) =
            table.columns.iter().enumerate().partition(|(_, column)| column.shape == Shape::Query);
        let all_columns = columns.len();
        columns.truncate(limits::TABLE_COLUMNS);
        // So that the header and one row always fit.
        let share = limits::TABLE_TEXT / (2 * columns.len().max(1));
        Layout {
            columns,
            queries: queries.into_iter().map(|(at, _)| at).collect(),
            all_columns,
            rows: &table.rows[..cap.rows.min(table.rows.len())],
            cell: share.min(cap.text).max(1),
            query: cap.text,
        }
    }

    fn header(&self, piece: &mut Piece) -> Vec<String> {
        self.columns.iter().map(|(_, column)| self.cell(&Cell::from(column.title.as_str()), piece)).collect()
    }

    fn row(&self, row: &Row, piece: &mut Piece) -> Vec<String> {
        let blank = Cell::from("");
        self.columns.iter().map(|(at, _)| self.cell(row.cells.get(*at).unwrap_or(&blank), piece)).collect()
    }

    /// A cell's text with its mark. Slack refuses empty ones.
    fn cell(&self, cell: &Cell, piece: &mut Piece) -> String {
        let text = if cell.text.trim().is_empty() { "-" } else { cell.text.as_str() };
        let (text, cut) = rich::shorten(&format!("{}{text}", rich::mark(cell.tone)), self.cell);
        piece.cut_if(cut, || format!("a table's cell has more than {} characters", rich::grouped(self.cell)));
        text
    }

    /// Slack's own table; as many rows as its limit on text allows. Returns how many.
    fn native(&self, piece: &mut Piece) -> usize {
        let mut rows = vec![self.header(piece)];
        let mut units: usize = rows[0].iter().map(|cell| length(cell)).sum();
        for row in self.rows {
            let cells = self.row(row, piece);
            units += cells.iter().map(|cell| length(cell)).sum::<usize>();
            if units > limits::TABLE_TEXT {
                break;
            }
            rows.push(cells);
        }
        let settings: Vec<Value> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (_, column))| match column.shape {
                Shape::Right => json!({ "align": "right" }),
                _ if rows.iter().all(|row| length(&row[at]) <= UNWRAPPED) => json!({ "align": "left" }),
                _ => json!({ "align": "left", "is_wrapped": true }),
            })
            .collect();
        let shown = rows.len() - 1;
        let raw = |cell: String| json!({ "type": "raw_text", "text": cell });
        let rows: Vec<Vec<Value>> = rows.into_iter().map(|row| row.into_iter().map(raw).collect()).collect();
        piece.blocks.push(json!({ "type": "table", "column_settings": settings, "rows": rows }));
        shown
    }

    /// The same in fixed-width text: a message holds one native table only.
    fn text(&self, piece: &mut Piece) -> usize {
        if self.columns.is_empty() {
            return self.rows.len();
        }
        let mut rows = vec![self.header(piece)];
        rows.extend(self.rows.iter().map(|row| self.row(row, piece)));
        for cell in rows.iter_mut().flatten() {
            let (short, cut) = rich::shorten(&cell.replace(['\n', '\t'], " "), TEXT_COLUMN);
            piece.cut_if(cut, || format!("a second table's cell has more than {TEXT_COLUMN} characters"));
            *cell = short;
        }
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded = row.iter().zip(&widths).zip(&self.columns).map(|((cell, width), (_, column))| {
                match column.shape {
                    Shape::Right => format!("{cell:>width$}"),
                    _ => format!("{cell:<width$}"),
                }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        piece.blocks.push(rich::rich(vec![rich::preformatted(&lines.join("\n"))]));
        self.rows.len()
    }

    /// "4711  select …", a line for each row that has query text.
    fn queries(&self, shown: usize, piece: &mut Piece) {
        let mut lines: Vec<String> = Vec::new();
        let mut units = 0;
        for row in &self.rows[..shown] {
            // More than a message holds already: it will be made shorter.
            if units > limits::MESSAGE_TEXT {
                break;
            }
            let first =
                self.columns.first().and_then(|(at, _)| row.cells.get(*at)).map(|cell| cell.text.trim());
            for cell in self.queries.iter().filter_map(|at| row.cells.get(*at)) {
                if cell.text.trim().is_empty() {
                    continue;
                }
                let (query, cut) = rich::shorten(&cell.text, self.query);
                piece.cut_if(cut, || {
                    format!("a query has more than {} characters", rich::grouped(self.query))
                });
                units += length(&query);
                match first.filter(|first| !first.is_empty()) {
                    Some(first) => lines.push(format!("{}  {query}", rich::shorten(first, TEXT_COLUMN).0)),
                    None => lines.push(query),
                }
            }
        }
        if !lines.is_empty() {
            piece.blocks.push(rich::rich(vec![rich::preformatted(&lines.join("\n"))]));
        }
    }
}

/// The whole table as lines of tab-separated text, for a file; it stops once it is longer than `most` bytes.
pub(super) fn as_lines(table: &Table, most: usize) -> String {
    let mut lines = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &String>| {
        for (at, cell) in cells.enumerate() {
            if lines.len() > most {
                return;
            }
            if at > 0 {
                lines.push('\t');
            }
            lines.push_str(&cell.replace(['\t', '\n', '\r'], " "));
        }
        lines.push('\n');
    };
    if let Some(title) = &table.title {
        line(&mut std::iter::once(title));
    }
    line(&mut table.columns.iter().map(|column| &column.title));
    for row in &table.rows {
        line(&mut row.cells.iter().map(|cell| &cell.text));
    }
    lines
}
