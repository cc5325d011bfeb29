//! Tables in Block Kit. One that a phone shows side by side is the message's native table, or fixed-width text; the rows of a wider
//! one are lines, since a phone would show its first columns only.

use super::render::{BlockKit, RULES, bold, length, plain, preformatted, with_dates};
use crate::chat::render::part::{MessageFormat, RenderedPart, TableLayout};
use crate::chat::render::rows::{RowLine, TREE_CHARS, TextRole, longest_word, row_lines};
use crate::chat::render::text::mark;
use crate::model::{Block, Cell, Column, ColumnKind, Table};
use serde_json::{Value, json};

/// Characters of a fixed-width line on a phone.
const MAX_FIXED_WIDTH_LINE: usize = 36;
/// Characters of a row's first cell before its query.
const MAX_FIRST_CELL: usize = 40;
/// Characters of a native table on a phone, the edges of its cells included.
const PHONE_TABLE_CHARS: usize = 39;
/// Characters that a cell's edges take.
const CELL_PADDING: usize = 3;
/// Columns whose cells are at most this long are not wrapped if there is room.
const MAX_UNWRAPPED: usize = 24;
/// Characters that a wrapped column takes at least.
const MIN_WRAPPED: usize = 6;
/// Rows from which a table stays one, however wide it is: lines would be a wall.
const MAX_LINES: usize = 30;

type SlackLayout<'a, 'b> = TableLayout<'a, BlockKit<'b>>;

/// A message may hold one native table: of those that may be one, the one with the most cells; on a tie, the first.
pub(super) fn native_table(blocks: &[Block]) -> Option<&Table> {
    let tables = blocks.iter().rev().filter_map(|block| match block {
        Block::Table(table) => Some(table),
        _ => None,
    });
    let may_be_native = |table: &&Table| {
        let has_cells = table.columns.iter().any(|column| column.kind != ColumnKind::Query);
        let is_long = table.rows.len() > MAX_LINES;
        !table.rows.is_empty() && has_cells && (is_long || wrapped_columns(table).is_some())
    };
    tables.filter(may_be_native).max_by_key(|table| table.rows.len() * table.columns.len())
}

/// Tells of each column whether it has to be wrapped; `None` if they can't be shown side by side on a phone.
fn wrapped_columns(table: &Table) -> Option<Vec<bool>> {
    let columns = table.columns.iter().enumerate().filter(|(_, column)| column.kind != ColumnKind::Query);
    let columns: Vec<ColumnWidth> = columns.map(|(at, column)| ColumnWidth::of(table, at, column)).collect();
    let fits = |widths: &mut dyn Iterator<Item = usize>| {
        let width: usize = widths.map(|width| width + CELL_PADDING).sum();
        width > 0 && width <= PHONE_TABLE_CHARS
    };
    if fits(&mut columns.iter().map(|column| column.longest)) {
        let wraps = |column: &ColumnWidth| column.longest > MAX_UNWRAPPED && column.longest_word.is_some();
        return Some(columns.iter().map(wraps).collect());
    }
    let wraps = |column: &ColumnWidth| column.longest_word.is_some_and(|word| word < column.longest);
    fits(&mut columns.iter().map(|column| column.longest_word.unwrap_or(column.longest)))
        .then(|| columns.iter().map(wraps).collect())
}

/// Characters that a column takes.
struct ColumnWidth {
    longest: usize,
    /// `None` for a column that is never wrapped: numbers, and a tree, whose branches must stay beside their values.
    longest_word: Option<usize>,
}

impl ColumnWidth {
    fn of(table: &Table, at: usize, column: &Column) -> ColumnWidth {
        let text = |cell: &Cell| format!("{}{}", mark(cell.severity), cell.text);
        let cells: Vec<String> = table.rows.iter().filter_map(|row| row.cells.get(at)).map(text).collect();
        let texts = || cells.iter().map(String::as_str).chain([column.title.as_str()]);
        let is_tree = cells.iter().any(|text| text.starts_with(TREE_CHARS));
        let word = texts().map(longest_word).max().unwrap_or(0).max(MIN_WRAPPED);
        ColumnWidth {
            longest: texts().map(|text| text.chars().count()).max().unwrap_or(0),
            longest_word: (column.kind == ColumnKind::Left && !is_tree).then_some(word),
        }
    }
}

/// The rows of a table that isn't empty. Query text is never put in a cell, because Slack's cells are narrow. Returns how many rows
/// are shown.
pub(super) fn rows(layout: &SlackLayout<'_, '_>, part: &mut RenderedPart) -> usize {
    let is_native = layout.format.native_table.is_some_and(|table| std::ptr::eq(table, layout.table));
    if is_native {
        let shown = native_rows(layout, part);
        queries(layout, shown, part);
        return shown;
    }
    match fixed_width_lines(layout) {
        Some(text) => {
            part.blocks.extend((!text.is_empty()).then(|| preformatted(None, &text)));
            queries(layout, layout.rows.len(), part);
        }
        None => {
            let lines = row_lines(layout, part);
            part.blocks.extend((!lines.is_empty()).then(|| lines_block(lines)));
        }
    }
    layout.rows.len()
}

/// Slack's own table; as many rows as its limit on text allows.
fn native_rows(layout: &SlackLayout<'_, '_>, part: &mut RenderedPart) -> usize {
    let mut rows = vec![layout.header(part)];
    let mut units: usize = rows[0].iter().map(|cell| length(cell)).sum();
    for row in layout.rows {
        let cells = layout.row(row, part);
        units += cells.iter().map(|cell| length(cell)).sum::<usize>();
        if units > BlockKit::MAX_TABLE_TEXT {
            break;
        }
        rows.push(cells);
    }
    let wrapped = wrapped_columns(layout.table);
    let columns = layout.columns.iter().enumerate();
    let settings = columns.map(|(index, (_, column))| match (column.kind, &wrapped) {
        (ColumnKind::Right, _) => json!({ "align": "right" }),
        (_, Some(wrapped)) if !wrapped[index] => json!({ "align": "left" }),
        (_, None) if rows.iter().all(|row| length(&row[index]) <= MAX_UNWRAPPED) => {
            json!({ "align": "left" })
        }
        _ => json!({ "align": "left", "is_wrapped": true }),
    });
    let settings: Vec<Value> = settings.collect();
    let shown = rows.len() - 1;
    let cell = |text: String| json!({ "type": "raw_text", "text": text });
    let rows: Vec<Vec<Value>> = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    part.blocks.push(json!({ "type": "table", "column_settings": settings, "rows": rows }));
    shown
}

/// The rows in columns of fixed-width text; `None` if they are wider than a phone. Without columns it is empty.
fn fixed_width_lines(layout: &SlackLayout<'_, '_>) -> Option<String> {
    let mut ignored = RenderedPart::default();
    let mut rows = vec![layout.header(&mut ignored)];
    rows.extend(layout.rows.iter().map(|row| layout.row(row, &mut ignored)));
    for cell in rows.iter_mut().flatten() {
        *cell = RULES.shorten(&cell.replace(['\n', '\t'], " "), MAX_FIXED_WIDTH_LINE + 1).0;
    }
    for (index, (_, column)) in layout.columns.iter().enumerate() {
        let width = rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        for row in &mut rows {
            row[index] = match column.kind {
                ColumnKind::Right => format!("{:>width$}", row[index]),
                _ => format!("{:<width$}", row[index]),
            };
        }
    }
    let lines: Vec<String> = rows.iter().map(|row| row.join("  ").trim_end().to_owned()).collect();
    let fits = lines.iter().all(|line| line.chars().count() <= MAX_FIXED_WIDTH_LINE);
    let is_cut = ignored.cut_reason.is_some();
    (fits && !is_cut).then(|| lines.join("\n").trim_end().to_owned())
}

/// Each row a line, and its queries below it; in a list where there are no queries.
fn lines_block(lines: Vec<RowLine>) -> Value {
    let section = |line: &RowLine| {
        let elements = |(text, role): &(String, TextRole)| match role {
            TextRole::Name => with_dates(text, bold),
            TextRole::Label | TextRole::Value => with_dates(text, plain),
        };
        let elements: Vec<Value> = line.texts.iter().flat_map(elements).collect();
        json!({ "type": "rich_text_section", "elements": elements })
    };
    let is_tree = |line: &RowLine| line.texts.first().is_some_and(|(text, _)| text.starts_with(TREE_CHARS));
    let is_list =
        lines.iter().all(|line| line.queries.is_empty() && !line.texts.is_empty() && !is_tree(line));
    if is_list {
        let items: Vec<Value> = lines.iter().map(section).collect();
        let list = json!({ "type": "rich_text_list", "style": "bullet", "elements": items });
        return json!({ "type": "rich_text", "elements": [list] });
    }
    let mut elements = Vec::new();
    for line in &lines {
        elements.extend((!line.texts.is_empty()).then(|| section(line)));
        if !line.queries.is_empty() {
            let queries = plain(&line.queries.join("\n"));
            elements.push(json!({ "type": "rich_text_preformatted", "elements": [queries] }));
        }
    }
    json!({ "type": "rich_text", "elements": elements })
}

/// "4711  select …", a line for each row that has query text.
fn queries(layout: &SlackLayout<'_, '_>, shown: usize, part: &mut RenderedPart) {
    let mut lines: Vec<String> = Vec::new();
    let mut units = 0;
    for row in &layout.rows[..shown] {
        // Already more than a message holds; `squeeze` will shorten it.
        if units > BlockKit::MAX_TEXT {
            break;
        }
        for query in layout.queries(row, part) {
            units += length(&query);
            lines.push(match layout.first_cell(row) {
                Some(first) => format!("{}  {query}", RULES.shorten(first, MAX_FIRST_CELL).0),
                None => query,
            });
        }
    }
    if !lines.is_empty() {
        part.blocks.push(preformatted(None, &lines.join("\n")));
    }
}

/// The whole table as lines of tab-separated text, for a file; it stops once it is longer than `max` bytes.
pub(super) fn tab_separated(table: &Table, max: usize) -> String {
    let mut lines = String::new();
    let mut add_line = |cells: &mut dyn Iterator<Item = &String>| {
        for (index, cell) in cells.enumerate() {
            if lines.len() > max {
                return;
            }
            if index > 0 {
                lines.push('\t');
            }
            lines.push_str(&cell.replace(['\t', '\n', '\r'], " "));
        }
        lines.push('\n');
    };
    if let Some(title) = &table.title {
        add_line(&mut std::iter::once(title));
    }
    add_line(&mut table.columns.iter().map(|column| &column.title));
    for row in &table.rows {
        add_line(&mut row.cells.iter().map(|cell| &cell.text));
    }
    lines
}
