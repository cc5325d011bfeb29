//! The checks of an answer: which were made, which were not and why, and one line for each with its worst finding. All three come from
//! the sections that ran.

use super::format::fill_placeholders;
use super::present::{cell, look_up, value_severity};
use super::{SectionResult, Target, TargetRow, Value};
use crate::catalog::Command;
use crate::model::{Cell, Column, ColumnKind, Row, Severity, Table, Text};

/// The checks that were made on every target, in words: "locks, replication and settings".
pub(super) fn checks_made(sections: &[SectionResult]) -> String {
    let made = sections.iter().filter(|section| section.check && section.failures.is_empty());
    let names: Vec<String> = made.map(check_name).collect();
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// The title as it is written within a sentence: "XID wraparound" keeps its capitals.
fn check_name(section: &SectionResult) -> String {
    let title = section.title.as_deref().unwrap_or_default();
    let mut letters = title.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => title.to_owned(),
    }
}

/// "Not checked on primary: locks and replication (reason)": each reason of a target that answered other checks.
pub(super) fn not_checked(sections: &[SectionResult]) -> Vec<Text> {
    let mut reasons: Vec<((&str, &str), Vec<String>)> = Vec::new();
    for section in sections.iter().filter(|section| section.check) {
        for (target, why) in section.failures.iter().filter(|(target, _)| answered(sections, target)) {
            let key = (target.label(), why.as_str());
            match reasons.iter_mut().find(|(known, _)| *known == key) {
                Some((_, names)) => names.push(check_name(section)),
                None => reasons.push((key, vec![check_name(section)])),
            }
        }
    }
    let line = |((target, why), names): ((&str, &str), Vec<String>)| {
        Text::from(format!("Not checked on {target}: {} ({target} {why}).", names.join(", ")))
    };
    reasons.into_iter().map(line).collect()
}

/// True if the target answered some section. Targets of another scope don't count: each has its connection.
pub(super) fn answered(sections: &[SectionResult], target: &Target) -> bool {
    sections.iter().any(|section| section.rows.iter().any(|row| row.target == *target))
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
