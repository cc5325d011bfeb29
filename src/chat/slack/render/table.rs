//! Tables. A message holds one native `table` block; every other table becomes fixed-width text. Query text never stands in a
//! cell: Slack's cells are narrow, so it is listed beneath, each with its row's first cell.

use super::BlockKit;
use super::rich_text::{RULES, preformatted};
use crate::chat::render::part::RenderedPart;
use crate::chat::render::table::TableLayout;
use crate::chat::slack::limits::{self, length};
use crate::model::{Shape, Table};
use serde_json::{Value, json};

/// Characters of a column of fixed-width text.
const MAX_TEXT_COLUMN: usize = 40;
/// A column of shorter cells isn't wrapped: a pid would stand below its branch of the lock tree, a service's name on two lines.
const MAX_UNWRAPPED: usize = 24;

type SlackLayout<'a, 'b> = TableLayout<'a, BlockKit<'b>>;

/// Checks that the table has rows, and a column that isn't query text.
pub(super) fn can_be_native(table: &Table) -> bool {
    !table.rows.is_empty() && table.columns.iter().any(|column| column.shape != Shape::Query)
}

/// Renders the rows and the queries, and returns the number of rows.
pub(super) fn render(layout: &SlackLayout<'_, '_>, part: &mut RenderedPart) -> usize {
    let is_native = layout.format.native.is_some_and(|native| std::ptr::eq(native, layout.table));
    let shown = if is_native { native(layout, part) } else { text(layout, part) };
    queries(layout, shown, part);
    shown
}

/// Slack's own table; as many rows as its limit on text allows.
fn native(layout: &SlackLayout<'_, '_>, part: &mut RenderedPart) -> usize {
    let mut rows = vec![layout.header(part)];
    let mut units: usize = rows[0].iter().map(|cell| length(cell)).sum();
    for row in layout.rows {
        let cells = layout.row(row, part);
        units += cells.iter().map(|cell| length(cell)).sum::<usize>();
        if units > limits::TABLE_TEXT {
            break;
        }
        rows.push(cells);
    }
    let columns = layout.columns.iter().enumerate();
    let settings = columns.map(|(at, (_, column))| match column.shape {
        Shape::Right => json!({ "align": "right" }),
        _ if rows.iter().all(|row| length(&row[at]) <= MAX_UNWRAPPED) => json!({ "align": "left" }),
        _ => json!({ "align": "left", "is_wrapped": true }),
    });
    let settings: Vec<Value> = settings.collect();
    let shown = rows.len() - 1;
    let cell = |text: String| json!({ "type": "raw_text", "text": text });
    let rows: Vec<Vec<Value>> = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    part.blocks.push(json!({ "type": "table", "column_settings": settings, "rows": rows }));
    shown
}

/// The same in fixed-width text.
fn text(layout: &SlackLayout<'_, '_>, part: &mut RenderedPart) -> usize {
    if layout.columns.is_empty() {
        return layout.rows.len();
    }
    let mut rows = vec![layout.header(part)];
    rows.extend(layout.rows.iter().map(|row| layout.row(row, part)));
    for cell in rows.iter_mut().flatten() {
        let (short, cut) = RULES.shorten(&cell.replace(['\n', '\t'], " "), MAX_TEXT_COLUMN);
        part.cut_if(cut, || format!("a second table's cell has more than {MAX_TEXT_COLUMN} characters"));
        *cell = short;
    }
    for (at, (_, column)) in layout.columns.iter().enumerate() {
        let width = rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        for row in &mut rows {
            row[at] = match column.shape {
                Shape::Right => format!("{:>width$}", row[at]),
                _ => format!("{:<width$}", row[at]),
            };
        }
    }
    let lines: Vec<String> = rows.iter().map(|row| row.join("  ").trim_end().to_owned()).collect();
    part.blocks.push(preformatted(None, &lines.join("\n")));
    layout.rows.len()
}

/// "4711  select …", a line for each row that has query text.
fn queries(layout: &SlackLayout<'_, '_>, shown: usize, part: &mut RenderedPart) {
    let mut lines: Vec<String> = Vec::new();
    let mut units = 0;
    for row in &layout.rows[..shown] {
        // More than a message holds already: it will be made shorter.
        if units > limits::MESSAGE_TEXT {
            break;
        }
        for query in layout.queries(row, part) {
            units += length(&query);
            lines.push(match layout.first_cell(row) {
                Some(first) => format!("{}  {query}", RULES.shorten(first, MAX_TEXT_COLUMN).0),
                None => query,
            });
        }
    }
    if !lines.is_empty() {
        part.blocks.push(preformatted(None, &lines.join("\n")));
    }
}

/// The whole table as lines of tab-separated text, for a file; it stops once it is longer than `max` bytes.
pub(super) fn as_lines(table: &Table, max: usize) -> String {
    let mut lines = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &String>| {
        for (at, cell) in cells.enumerate() {
            if lines.len() > max {
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
