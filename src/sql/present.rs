//! Answered sections → blocks: a verdict first, then the rows that matter, then one next step. Buttons get their tokens here;
//! the workflow stores their purposes before anything is sent.

use super::checks::{checks_made, checks_table, row_severity};
use super::coverage::{coverage, coverage_line, failures, not_checked, silent_targets};
use super::findings::findings;
use super::format::{Placeholder, column_title, fill, fill_placeholders, is_share, typed_text, value_text};
use super::hits::{ThresholdHit, hits, value_severity};
use super::offers::Offers;
use super::small_rows::SmallRows;
use super::{SectionResult, TargetRow, Value};
use crate::catalog::{Catalog, Command, Scope};
use crate::model::{
    AnswerFinding, Block, Cell, Column, ColumnKind, Coverage, Row, Run, RunId, Severity, Span, Table, Text,
    TokenPurpose,
};
use std::collections::BTreeMap;

/// Lines under the verdict: with more hits, the worst are enough.
const MAX_HITS: usize = 4;

/// The first words of statements that answers give to copy.
const STATEMENTS: [&str; 6] = ["ALTER", "CREATE", "DROP", "GRANT", "REVOKE", "SELECT"];

/// An answer and the purposes of its buttons.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub blocks: Vec<Block>,
    pub button_purposes: Vec<(String, TokenPurpose)>,
    /// The part of the question that is answered.
    pub coverage: Coverage,
    /// What it warns of, where that is known by check and target.
    pub findings: Vec<AnswerFinding>,
    /// A run whose card is posted after the answer.
    pub card: Option<RunId>,
    /// The run that it is about, for its links.
    pub run: Option<Box<Run>>,
    /// For the asker alone.
    pub private: bool,
}

/// Presents a command's sections.
pub fn present(
    command: &Command,
    catalog: &Catalog,
    environment: &str,
    sections: &[SectionResult],
) -> Answer {
    let command = catalog.adjusted(command, environment);
    let hits = hits(command, sections);
    let mut answer =
        Answer { coverage: coverage(sections), findings: findings(command, sections), ..Answer::default() };
    let failures = failures(sections);
    answer.blocks.extend(verdict_and_limits(command, sections, &hits));
    // The worst hit is the verdict itself, unless somebody gave no answer.
    let in_verdict = usize::from(failures.is_empty());
    for hit in hits.iter().skip(in_verdict).take(MAX_HITS) {
        answer.blocks.push(Block::Text(hit.message.clone()));
    }
    let omitted = hits.len().saturating_sub(in_verdict + MAX_HITS);
    if omitted > 0 {
        answer.blocks.push(Block::Note(format!("… and {omitted} more to look at.").into()));
    }
    answer.blocks.extend(failures.into_iter().map(Block::Text));
    answer.blocks.extend(coverage_line(command, sections).map(Block::Note));
    let mut offers = Offers { command, catalog, environment, purposes: Vec::new() };
    for section in sections.iter().filter(|section| is_shown(section)) {
        let mut note = None;
        answer.blocks.push(if section.transposed {
            Block::Table(transposed_table(command, section))
        } else {
            let mut table = table(command, section);
            let small = SmallRows::of(command, section, table.rows.len());
            table.rows.truncate(small.as_ref().map_or(usize::MAX, |small| small.start));
            offers.add_buttons(section, &mut table);
            note = small.map(|small| small.line(command, section));
            Block::Table(table)
        });
        answer.blocks.extend(note.map(Block::Note));
    }
    answer.blocks.extend(checks_table(sections, &mut offers).map(Block::Table));
    answer.button_purposes = offers.purposes;
    let next = next_step(command, sections).or_else(|| {
        let has_step = !answer.button_purposes.is_empty() || has_step(&answer.blocks, catalog);
        if has_step { None } else { fallback_step(sections, hits) }
    });
    answer.blocks.extend(next.map(Block::Note));
    answer
}

pub(super) fn cell<'a>(section: &SectionResult, row: &'a TargetRow, column: &str) -> Option<&'a Value> {
    let at = section.columns.iter().position(|known| known == column)?;
    row.values.get(at)
}

pub(super) fn look_up<'a>(
    section: &'a SectionResult,
    row: &'a TargetRow,
) -> impl Fn(Placeholder<'_>) -> Option<String> + 'a {
    move |Placeholder { column: name, in_code }| match name {
        "rows" => Some(section.rows.len().to_string()),
        "target" => Some(row.target.label().to_owned()),
        "service" => row.target.service.clone(),
        "server" => Some(row.target.server.clone()),
        "database" if cell(section, row, name).is_none() => row.target.database.clone(),
        column => cell(section, row, column).map(|value| match value {
            // In a table a dash says that there is nothing; in a sentence it is left out.
            Value::Text(text) if text.is_empty() => String::new(),
            value if in_code => typed_text(column, value),
            value => value_text(column, value),
        }),
    }
}

/// True if a section has something to show: visible columns, or a title above no rows.
fn is_shown(section: &SectionResult) -> bool {
    if section.limits || section.check {
        false
    } else if section.rows.is_empty() {
        section.title.is_some() && section.target_count > section.failures.len()
    } else {
        section.columns.iter().any(|column| !column.starts_with('_'))
    }
}

/// True if a section has the columns of a sentence.
fn fills_in(section: &SectionResult, sentence: &str) -> bool {
    let names = sentence.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name));
    let mut columns =
        names.filter(|name| !["checks", "rows", "target", "service", "server", "database"].contains(name));
    columns.all(|name| section.columns.iter().any(|column| column == name))
}

/// The section whose first row the verdict is about. A later section may have rows for what crossed a limit since the first was read.
fn main_section<'a>(command: &Command, sections: &'a [SectionResult]) -> Option<&'a SectionResult> {
    let sentence = command.header.verdict.as_deref().unwrap_or_default();
    // Without rows the columns aren't known.
    let has_sentence =
        sections.iter().any(|section| section.columns.is_empty() || fills_in(section, sentence));
    let mut found = sections.iter().filter(|section| !section.rows.is_empty() && !section.limits);
    found.find(|section| !has_sentence || fills_in(section, sentence))
}

fn verdict(command: &Command, sections: &[SectionResult], hits: &[ThresholdHit]) -> Block {
    let main = main_section(command, sections);
    let critical = |text: String| Block::Verdict { severity: Severity::Critical, text: text.into() };
    let silent = silent_targets(sections).join(", ");
    if coverage(sections) == Coverage::None {
        let replies: usize = sections.iter().map(|section| section.refusals).sum();
        return critical(match replies {
            0 => "No server answered.".to_owned(),
            _ => format!("No result from {silent}."),
        });
    }
    if !silent.is_empty() {
        return critical(format!("No whole answer from {silent}."));
    }
    if let Some(worst) = hits.first() {
        return Block::Verdict { severity: worst.severity, text: worst.message.clone() };
    }
    match (main, &command.header.verdict) {
        (None, _) => {
            let text = command.header.verdict_empty.as_deref().unwrap_or("Nothing found.");
            Block::Verdict { severity: command.header.empty_severity, text: fill(text, &|_| None) }
        }
        (Some(section), verdict) => {
            let severity = command.header.rows_severity;
            let text = verdict.as_deref().unwrap_or("{rows} rows.");
            let checks = checks_made(sections);
            let words = |placeholder: Placeholder<'_>| match placeholder.column {
                "checks" => Some(checks.clone()),
                _ => look_up(section, &section.rows[0])(placeholder),
            };
            Block::Verdict { severity, text: fill_placeholders(text, &words) }
        }
    }
}

/// The verdict and what the answer can't tell: an all-clear comes behind its first limit. A section that was not checked leaves of it
/// only what the checks make: other sentences may be about that section.
fn verdict_and_limits(command: &Command, sections: &[SectionResult], hits: &[ThresholdHit]) -> Vec<Block> {
    let verdict = verdict(command, sections, hits);
    let mut limits = not_checked(sections);
    let sentence = command.header.verdict.as_deref().unwrap_or_default();
    let remains = limits.is_empty() || sentence.contains("{checks}");
    limits.extend(by_column(&command.header.limits, sections));
    let mut limits = limits.into_iter();
    let mut blocks = match verdict {
        Block::Verdict { severity: Severity::Ok | Severity::Neutral, text } if limits.len() > 0 => {
            let mut rest = Text::from("Apart from that: ");
            rest.0.extend(text.0);
            let limit = limits.next().unwrap_or_default();
            let verdict = Block::Verdict { severity: Severity::Warning, text: limit };
            std::iter::once(verdict).chain(remains.then_some(Block::Text(rest))).collect()
        }
        verdict => vec![verdict],
    };
    blocks.extend(limits.map(Block::Text));
    blocks
}

/// The columns that people see: hidden ones and those without a single value are left out, since a phone has no room for them.
fn shown(section: &SectionResult) -> Vec<usize> {
    let visible = |at: &usize| !section.columns[*at].starts_with('_');
    let filled = |at: &usize| section.rows.iter().any(|row| row.values.get(*at) != Some(&Value::Null));
    (0..section.columns.len()).filter(visible).filter(filled).collect()
}

fn cell_with_severity(command: &Command, name: &str, value: &Value) -> Cell {
    let threshold = command.header.thresholds.values().find(|threshold| threshold.column == name);
    let severity = threshold.map_or(Severity::Neutral, |threshold| value_severity(threshold, value));
    Cell { text: value_text(name, value), severity }
}

/// One line for each column, and beside it each target's value.
fn transposed_table(command: &Command, section: &SectionResult) -> Table {
    let kind = if section.scope == Scope::Database { "service" } else { "server" };
    let titles = std::iter::once(kind).chain(section.rows.iter().map(|row| row.target.label()));
    let rows = shown(section).into_iter().map(|at| {
        let name = &section.columns[at];
        let values = section.rows.iter().map(|row| cell_with_severity(command, name, &row.values[at]));
        Row {
            cells: std::iter::once(Cell::from(column_title(name))).chain(values).collect(),
            buttons: Vec::new(),
        }
    });
    let rows: Vec<Row> = rows.collect();
    Table {
        title: section.title.clone(),
        columns: titles.map(|title| Column { title: title.to_owned(), kind: ColumnKind::Left }).collect(),
        total: rows.len(),
        rows,
        empty: Some("None.".to_owned()),
    }
}

fn table(command: &Command, section: &SectionResult) -> Table {
    let shown = shown(section);
    let labelled = section.target_count > 1;
    let numbered = is_numbered(section, &shown);
    let mut columns = Vec::new();
    if numbered {
        columns.push(Column { title: "#".to_owned(), kind: ColumnKind::Right });
    }
    if labelled {
        let name = if section.scope == Scope::Database { "service" } else { "server" };
        columns.push(Column { title: name.to_owned(), kind: ColumnKind::Left });
    }
    columns.extend(shown.iter().map(|at| {
        let name = &section.columns[*at];
        let numeric = section.rows.iter().find_map(|row| row.values[*at].number()).is_some();
        let kind = match (name.as_str(), numeric) {
            ("query", _) => ColumnKind::Query,
            (name, _) if is_share(name) => ColumnKind::Left,
            (_, true) => ColumnKind::Right,
            _ => ColumnKind::Left,
        };
        Column { title: column_title(name), kind }
    }));
    let rows = section.rows.iter().take(command.header.top.unwrap_or(usize::MAX));
    let rows = (1..).zip(rows).map(|(number, row): (usize, _)| {
        let mut cells = Vec::new();
        if numbered {
            cells.push(Cell::from(number.to_string()));
        }
        if labelled {
            cells.push(Cell::from(row.target.label()));
        }
        cells.extend(
            shown.iter().map(|at| cell_with_severity(command, &section.columns[*at], &row.values[*at])),
        );
        Row { cells, buttons: Vec::new() }
    });
    Table {
        title: section.title.clone(),
        columns,
        rows: rows.collect(),
        total: total_rows(section),
        empty: Some("None.".to_owned()),
    }
}

/// True if the rows need numbers, since their query texts are shown apart from them and nothing else tells them apart.
fn is_numbered(section: &SectionResult, shown: &[usize]) -> bool {
    let has = |names: &[&str]| shown.iter().any(|at| names.contains(&section.columns[*at].as_str()));
    has(&["query"]) && !has(&["pid", "session"])
}

/// The number of rows that there are: a statement with a LIMIT counts them in the column `_total`.
fn total_rows(section: &SectionResult) -> usize {
    let is_first =
        |at: usize| at == 0 || section.rows[..at].iter().all(|row| row.target != section.rows[at].target);
    let counted = (0..section.rows.len()).filter(|at| is_first(*at)).map(|at| {
        let row = &section.rows[at];
        let returned = section.rows.iter().filter(|other| other.target == row.target).count();
        match cell(section, row, "_total") {
            Some(Value::Int(total)) => usize::try_from(*total).unwrap_or(returned),
            _ => returned,
        }
    });
    counted.sum()
}

pub(super) fn has_action(command: &Command, section: &SectionResult, row: &TargetRow) -> bool {
    let header = &command.header;
    let is_true = |column: &String| cell(section, row, column) == Some(&Value::Bool(true));
    header.row_action_if.as_ref().is_none_or(is_true)
        && header.row_action_severity.is_none_or(|least| row_severity(command, section, row) >= least)
}

fn next_step(command: &Command, sections: &[SectionResult]) -> Option<Text> {
    let rows = || sections.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)));
    let with_action = command.header.next.as_ref().and_then(|next| {
        let (section, row) = rows().find(|(section, row)| has_action(command, section, row))?;
        Some(fill_placeholders(next, &look_up(section, row)))
    });
    with_action.or_else(|| by_column(&command.header.next_by, sections).into_iter().next())
}

/// True if a sentence has a command line, or a statement to copy.
fn has_step(blocks: &[Block], catalog: &Catalog) -> bool {
    let mut texts = blocks.iter().filter_map(|block| match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => Some(text),
        _ => None,
    });
    let is_statement = |code: &str| STATEMENTS.contains(&first_word(code));
    texts.any(|text| command_line(text, catalog).is_some() || codes(text).any(is_statement))
}

/// The first command line of a text.
pub(super) fn command_line(text: &Text, catalog: &Catalog) -> Option<String> {
    codes(text).find(|code| catalog.find(first_word(code)).is_some()).map(str::to_owned)
}

fn codes(text: &Text) -> impl Iterator<Item = &str> {
    text.0.iter().filter_map(|span| if let Span::Code(code) = span { Some(code.as_str()) } else { None })
}

fn first_word(code: &str) -> &str {
    code.split_whitespace().next().unwrap_or_default()
}

/// The next step of the worst finding that has one; without a finding, where to look for what gave no answer.
fn fallback_step(sections: &[SectionResult], hits: Vec<ThresholdHit>) -> Option<Text> {
    let of_hit = hits.into_iter().find_map(|hit| hit.next);
    of_hit.or_else(|| {
        let words = if !silent_targets(sections).is_empty() {
            "`environments` shows which servers answer."
        } else if !not_checked(sections).is_empty() {
            "`countersign check`, typed on Countersign's machine, names what is missing and how to grant it."
        } else {
            return None;
        };
        Some(fill(words, &|_| None))
    })
}

/// The templates whose column has a value in some row, each filled from the first such row.
pub(super) fn by_column(templates: &BTreeMap<String, String>, sections: &[SectionResult]) -> Vec<Text> {
    let rows = || sections.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)));
    let filled = templates.iter().filter_map(|(column, template)| {
        let has_value = |(section, row): &(&SectionResult, &TargetRow)| {
            cell(section, row, column).is_some_and(|value| *value != Value::Null)
        };
        let (section, row) = rows().find(has_value)?;
        Some(fill_placeholders(template, &look_up(section, row)))
    });
    filled.collect()
}
