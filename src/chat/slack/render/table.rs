//! Tables. A message holds one native `table` block; every other table becomes fixed-width text. Query text never stands in a
//! cell: Slack's cells are narrow, so it is listed beneath, each with its row's first cell.

use super::BlockKit;
use super::block::button_rows;
use super::rich_text;
use crate::chat::render::budget::{self, PartLimit, RenderedPart};
use crate::chat::render::table_layout::Layout;
use crate::chat::slack::limits::{self, length};
use crate::model::{Button, Shape, Table};
use serde_json::{Value, json};

/// In the fixed-width fallback a column grows no wider.
const TEXT_COLUMN: usize = 40;
/// A column of shorter cells isn't wrapped: a pid would stand below its branch of the lock tree, a service's name on two lines.
const UNWRAPPED: usize = 24;

/// Whether the table can be a native one: it has rows, and a column that isn't query text.
pub(super) fn nativable(table: &Table) -> bool {
    !table.rows.is_empty() && table.columns.iter().any(|column| column.shape != Shape::Query)
}

/// How much of the table a message may show at all.
pub(super) fn cap(table: &Table) -> PartLimit {
    PartLimit { rows: table.rows.len().min(limits::TABLE_ROWS - 1), text: limits::MESSAGE_TEXT }
}

/// Renders what the cap allows.
pub(super) fn render(table: &Table, cap: PartLimit, native: bool) -> RenderedPart {
    let mut piece = RenderedPart::default();
    if let Some(title) = table.title.as_deref().filter(|title| !title.is_empty()) {
        let (title, cut) = rich_text::shorten(title, cap.text.min(limits::BUTTON_TEXT * 2));
        piece.cut_if(cut, || "a table's title is too long".to_owned());
        piece.blocks.push(rich_text::rich(vec![rich_text::section(vec![rich_text::bold(&title)])]));
    }
    if table.rows.is_empty() {
        let words = rich_text::shorten(table.empty.as_deref().unwrap_or("No rows."), cap.text);
        piece.cut_if(words.1, || "a table's text is too long".to_owned());
        if !words.0.is_empty() {
            piece.blocks.push(rich_text::rich(vec![rich_text::section(vec![rich_text::plain(&words.0)])]));
        }
        return piece;
    }
    let drawn = TableRows(Layout::of::<BlockKit<'_>>(table, cap));
    let shown = if native { drawn.native(&mut piece) } else { drawn.text(&mut piece) };
    drawn.queries(shown, &mut piece);
    let said = budget::counted(table, &drawn.0, shown, &mut piece);
    if !said.is_empty() {
        piece.blocks.push(rich_text::context(&said));
    }
    let buttons: Vec<&Button> =
        budget::rows_with_buttons(table, shown).iter().flat_map(|row| &row.buttons).collect();
    button_rows(&buttons, &mut piece);
    piece
}

/// The table as Slack draws it.
struct TableRows<'a>(Layout<'a>);

impl TableRows<'_> {
    /// Slack's own table; as many rows as its limit on text allows. Returns how many.
    fn native(&self, piece: &mut RenderedPart) -> usize {
        let mut rows = vec![self.0.header(piece)];
        let mut units: usize = rows[0].iter().map(|cell| length(cell)).sum();
        for row in self.0.rows {
            let cells = self.0.row(row, piece);
            units += cells.iter().map(|cell| length(cell)).sum::<usize>();
            if units > limits::TABLE_TEXT {
                break;
            }
            rows.push(cells);
        }
        let settings: Vec<Value> = self
            .0
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
    fn text(&self, piece: &mut RenderedPart) -> usize {
        if self.0.columns.is_empty() {
            return self.0.rows.len();
        }
        let mut rows = vec![self.0.header(piece)];
        rows.extend(self.0.rows.iter().map(|row| self.0.row(row, piece)));
        for cell in rows.iter_mut().flatten() {
            let (short, cut) = rich_text::shorten(&cell.replace(['\n', '\t'], " "), TEXT_COLUMN);
            piece.cut_if(cut, || format!("a second table's cell has more than {TEXT_COLUMN} characters"));
            *cell = short;
        }
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.0.columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded =
                row.iter().zip(&widths).zip(&self.0.columns).map(|((cell, width), (_, column))| match column
                    .shape
                {
                    Shape::Right => format!("{cell:>width$}"),
                    _ => format!("{cell:<width$}"),
                });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        piece.blocks.push(rich_text::rich(vec![rich_text::preformatted(&lines.join("\n"))]));
        self.0.rows.len()
    }

    /// "4711  select …", a line for each row that has query text.
    fn queries(&self, shown: usize, piece: &mut RenderedPart) {
        let mut lines: Vec<String> = Vec::new();
        let mut units = 0;
        for row in &self.0.rows[..shown] {
            // More than a message holds already: it will be made shorter.
            if units > limits::MESSAGE_TEXT {
                break;
            }
            for query in self.0.queries(row, piece) {
                units += length(&query);
                match self.0.first(row) {
                    Some(first) => {
                        lines.push(format!("{}  {query}", rich_text::shorten(first, TEXT_COLUMN).0))
                    }
                    None => lines.push(query),
                }
            }
        }
        if !lines.is_empty() {
            piece.blocks.push(rich_text::rich(vec![rich_text::preformatted(&lines.join("\n"))]));
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
