//! The checks of an answer: which were made, and one line for each with its worst finding. Both come from the sections that ran.

use super::coverage::enumeration;
use super::format::fill_placeholders;
use super::present::{cell, look_up, value_severity};
use super::{SectionResult, Target, TargetRow, Value};
use crate::catalog::Command;
use crate::model::{Cell, Column, ColumnKind, Row, Severity, Table};

/// The checks that were made on every target, in words: "locks, replication and settings".
pub(super) fn checks_made(sections: &[SectionResult]) -> String {
    let made = sections.iter().filter(|section| section.check && section.failures.is_empty());
    enumeration(&made.map(|section| section.subject.as_str()).collect::<Vec<_>>())
}

/// The column of a check that the answer shows. The row's columns in braces are filled in.
const RESULT: &str = "result";

/// One line for each check, the worst first, and beside it each target's result with the severity of its worst finding. `None` without
/// checks, or if no target answered any.
pub(super) fn checks_table(command: &Command, sections: &[SectionResult]) -> Option<Table> {
    let checks = || sections.iter().filter(|section| section.check);
    let mut targets: Vec<&Target> = Vec::new();
    for row in checks().flat_map(|section| &section.rows) {
        if !targets.contains(&&row.target) {
            targets.push(&row.target);
        }
    }
    let result = |section: &SectionResult, target: &Target| match section
        .rows
        .iter()
        .find(|row| row.target == *target)
    {
        Some(row) => Cell {
            text: match cell(section, row, RESULT) {
                Some(Value::Text(template)) => fill_placeholders(template, &look_up(section, row)).words(),
                _ => "-".to_owned(),
            },
            severity: row_severity(command, section, row),
        },
        None => Cell { text: "not checked".to_owned(), severity: Severity::Warning },
    };
    let rows = checks().map(|section| {
        let cells = targets.iter().map(|target| result(section, target));
        Row {
            cells: std::iter::once(Cell::from(section.title.as_deref().unwrap_or_default()))
                .chain(cells)
                .collect(),
            buttons: Vec::new(),
        }
    });
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.cells.iter().map(|cell| cell.severity).max()));
    let titles = std::iter::once("check").chain(targets.iter().map(|target| target.label()));
    let columns = titles.map(|title| Column { title: title.to_owned(), kind: ColumnKind::Left }).collect();
    (!targets.is_empty()).then_some(Table { title: None, columns, total: rows.len(), rows, empty: None })
}

/// The worst severity of a row's values, a warning at least where the header's `limits` name one of them.
fn row_severity(command: &Command, section: &SectionResult, row: &TargetRow) -> Severity {
    let severities = command
        .header
        .thresholds
        .values()
        .filter_map(|threshold| Some(value_severity(threshold, cell(section, row, &threshold.column)?)));
    let is_limited = |column: &String| cell(section, row, column).is_some_and(|value| *value != Value::Null);
    let limit = command.header.limits.keys().any(is_limited).then_some(Severity::Warning);
    severities.chain(limit).max().unwrap_or_default()
}
