//! The checks of an answer: which were made, and one line for each with its worst finding and a button for the step that helps. All come
//! from the sections that ran.

use super::coverage::enumeration;
use super::format::fill_placeholders;
use super::hits::{threshold_hit, value_severity};
use super::offers::Offers;
use super::present::{cell, command_line, look_up};
use super::{SectionResult, Target, TargetRow, Value};
use crate::catalog::Command;
use crate::command_line::KnownNames;
use crate::model::{Cell, Column, ColumnKind, Row, Severity, Table};

/// The checks that were made on every target, in words: "locks, replication and settings".
pub(super) fn checks_made(sections: &[SectionResult]) -> String {
    let made = sections.iter().filter(|section| section.check && section.failures.is_empty());
    enumeration(&made.map(|section| section.subject.as_str()).collect::<Vec<_>>())
}

/// The column of a check that the answer shows. The row's columns in braces are filled in.
const RESULT: &str = "result";

/// One line for each check, the worst first, and beside it each server's result with the severity of its worst finding. The databases
/// of a server share its cell. `None` without checks, or if no target answered any.
pub(super) fn checks_table(sections: &[SectionResult], offers: &mut Offers<'_>) -> Option<Table> {
    let checks: Vec<&SectionResult> = sections.iter().filter(|section| section.check).collect();
    let mut servers: Vec<&str> = Vec::new();
    for row in checks.iter().flat_map(|section| &section.rows) {
        if !servers.contains(&row.target.server.as_str()) {
            servers.push(&row.target.server);
        }
    }
    let known = known_names(offers, sections);
    let mut lines: Vec<(Severity, Row, Option<String>)> = Vec::new();
    for section in checks {
        let results: Vec<CheckResult<'_>> =
            servers.iter().map(|server| CheckResult::of(offers.command, section, server)).collect();
        let worst = results.iter().max_by_key(|result| result.cell.severity);
        let severity = worst.map(|worst| worst.cell.severity).unwrap_or_default();
        let step = worst.and_then(|worst| worst.step(offers, section));
        let title = Cell::from(section.title.as_deref().unwrap_or_default());
        let cells = std::iter::once(title).chain(results.into_iter().map(|result| result.cell));
        lines.push((severity, Row { cells: cells.collect(), buttons: Vec::new() }, step));
    }
    lines.sort_by_key(|(severity, ..)| std::cmp::Reverse(*severity));
    let mut offered: Vec<String> = Vec::new();
    let rows = lines.into_iter().map(|(_, mut row, step)| {
        if let Some(step) = step.filter(|step| !offered.contains(step)) {
            row.buttons.extend(offers.add_line(&step, &known));
            offered.push(step);
        }
        row
    });
    let rows: Vec<Row> = rows.collect();
    let titles = std::iter::once("check").chain(servers.iter().copied());
    let columns = titles.map(|title| Column { title: title.to_owned(), kind: ColumnKind::Left }).collect();
    (!servers.is_empty()).then_some(Table { title: None, columns, total: rows.len(), rows, empty: None })
}

/// The names that the lines of findings have.
fn known_names(offers: &Offers<'_>, sections: &[SectionResult]) -> KnownNames {
    let targets = sections.iter().flat_map(|section| &section.targets);
    KnownNames {
        services: targets.filter_map(|target| target.service.clone()).collect(),
        environments: vec![offers.environment.to_owned()],
        commands: offers.catalog.iter().map(|command| command.name.clone()).collect(),
        slash_commands: Vec::new(),
    }
}

/// A check's result on one server: its worst row, or that of its databases.
struct CheckResult<'a> {
    cell: Cell,
    row: Option<&'a TargetRow>,
}

impl<'a> CheckResult<'a> {
    fn of(command: &Command, section: &'a SectionResult, server: &str) -> CheckResult<'a> {
        let is_there = |target: &Target| target.server == server;
        let rows = section.rows.iter().filter(|row| is_there(&row.target));
        // Of equal ones the first: they are sorted.
        let worst = rows.rev().max_by_key(|row| row_severity(command, section, row));
        let failures = section.failures.iter().filter(|(target, _)| is_there(target)).count();
        let Some(row) = worst else {
            let cell = Cell { text: "not checked".to_owned(), severity: Severity::Warning };
            return CheckResult { cell, row: None };
        };
        let text = match cell(section, row, RESULT) {
            Some(Value::Text(template)) => fill_placeholders(template, &look_up(section, row)).words(),
            _ => "-".to_owned(),
        };
        let severity = row_severity(command, section, row);
        let cell = if failures > 0 {
            let text = format!("{text}, {failures} not checked");
            Cell { text, severity: severity.max(Severity::Warning) }
        } else {
            Cell { text, severity }
        };
        CheckResult { cell, row: Some(row) }
    }

    /// The command line of the worst finding.
    fn step(&self, offers: &Offers<'_>, section: &SectionResult) -> Option<String> {
        let row = self.row?;
        let thresholds = offers.command.header.thresholds.values();
        let hits = thresholds.filter_map(|threshold| threshold_hit(threshold, section, row));
        let mut hits: Vec<_> = hits.collect();
        hits.sort_by_key(|hit| std::cmp::Reverse(hit.severity));
        let mut texts = hits.iter().flat_map(|hit| std::iter::once(&hit.message).chain(&hit.next));
        texts.find_map(|text| command_line(text, offers.catalog))
    }
}

/// The worst severity of a row's values, a warning at least where the header's `limits` name one of them.
pub(super) fn row_severity(command: &Command, section: &SectionResult, row: &TargetRow) -> Severity {
    let severities = command
        .header
        .thresholds
        .values()
        .filter_map(|threshold| Some(value_severity(threshold, cell(section, row, &threshold.column)?)));
    let is_limited = |column: &String| cell(section, row, column).is_some_and(|value| *value != Value::Null);
    let limit = command.header.limits.keys().any(is_limited).then_some(Severity::Warning);
    severities.chain(limit).max().unwrap_or_default()
}
