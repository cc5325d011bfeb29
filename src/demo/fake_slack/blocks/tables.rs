//! Table blocks: sizes, equal rows, and what may stand in a cell.

use super::{Checker, Node};

/// Characters over all cells of a message, header included (Slack's table and data table pages).
const CELL_CHARS: usize = 10_000;
const ROWS: usize = 100;
const COLUMNS: usize = 20;

impl Checker {
    pub(super) fn table(&mut self, node: &Node<'_>) {
        self.keys(node, &["rows"], &["block_id", "column_settings"]);
        if node.get("column_settings").is_some() {
            for setting in self.list(node, "column_settings", COLUMNS) {
                if !setting.value.is_null() {
                    self.keys(&setting, &[], &["align", "is_wrapped"]);
                    self.choice(&setting, "align", &["left", "center", "right"]);
                    self.boolean(&setting, "is_wrapped");
                }
            }
        }
        self.rows(node, ROWS, &["raw_text", "rich_text", "raw_number"]);
    }

    /// The documentation names 101 rows and 10 000 characters, some libraries twice that: the smaller counts.
    pub(super) fn data_table(&mut self, node: &Node<'_>) {
        self.keys(node, &["caption", "rows"], &["block_id", "page_size", "row_header_column_index"]);
        self.string(node, "caption", 3_000);
        self.integer(node, "page_size", 1..=100);
        self.integer(node, "row_header_column_index", 0..=19);
        if let Some(header) = node.get("rows").and_then(|rows| rows.items().into_iter().next())
            && let Some(cell) = header.items().iter().find(|cell| cell.kind() == "rich_text")
        {
            self.fault(cell, "the header row takes no rich_text");
        }
        self.rows(node, ROWS + 1, &["raw_text", "rich_text", "raw_number", "action_cell"]);
    }

    fn rows(&mut self, node: &Node<'_>, max: usize, cells: &[&str]) {
        self.tables += 1;
        let rows = self.list(node, "rows", max);
        let width = rows.first().and_then(|row| row.value.as_array()).map_or(0, Vec::len);
        for row in &rows {
            let Some(length) = row.value.as_array().map(Vec::len) else {
                self.fault(row, "must be an array");
                continue;
            };
            if length == 0 {
                self.fault(row, "no less than 1 items allowed");
            } else if length > COLUMNS {
                self.fault(row, &format!("no more than {COLUMNS} items allowed"));
            } else if length != width {
                self.fault(row, "rows must have the same number of cells");
            }
            for cell in row.items() {
                self.cell(&cell, cells);
            }
        }
        if self.table_chars > CELL_CHARS {
            self.fault(node, &format!("cell text must be less than {} characters in total", CELL_CHARS + 1));
        }
    }

    fn cell(&mut self, node: &Node<'_>, allowed: &[&str]) {
        if !allowed.contains(&node.kind()) {
            return self.fault(node, &format!("unsupported type: {}", node.kind()));
        }
        self.table_chars += super::chars(node.value);
        match node.kind() {
            "raw_text" => {
                self.keys(node, &["text"], &[]);
                self.string(node, "text", CELL_CHARS);
            }
            "raw_number" => {
                self.keys(node, &["value"], &["text"]);
                self.string(node, "text", CELL_CHARS);
                if !node.value["value"].is_number() {
                    self.fault(node, "value must be a number");
                }
            }
            "rich_text" => self.rich_text(node),
            _ => {
                self.keys(node, &["element"], &["fallback"]);
                if let Some(element) = node.get("element") {
                    self.element(&element, &["button"]);
                }
            }
        }
    }
}
