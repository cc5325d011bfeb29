//! Sections and their results: which of them share a connection, and what their targets gave. A check that was not made is a failure,
//! never an empty result.

use super::{
    QueryRequest, QueryRun, Rows, Target, TargetFailure, Value, applies, query_target, scope_targets,
    value_unless_all,
};
use crate::catalog::{Need, Scope, Section};
use crate::command_line::ArgType;
use crate::error::Result;
use crate::privileges::Shortfall;

/// One row and its target.
#[derive(Debug, Clone)]
pub struct TargetRow {
    pub target: Target,
    pub values: Vec<Value>,
}

/// The result of one section, over all its targets.
#[derive(Debug, Clone, Default)]
pub struct SectionResult {
    pub title: Option<String>,
    /// What it looks at, as written within a sentence.
    pub subject: String,
    pub scope: Scope,
    /// One row of each target, shown as a column.
    pub transposed: bool,
    /// Its rows say what the answer can't tell.
    pub limits: bool,
    /// It is one check, named by its title.
    pub check: bool,
    /// The service that was asked for.
    pub service: Option<String>,
    /// The asker chose which rows there are, or their order.
    pub has_choices: bool,
    pub columns: Vec<String>,
    pub rows: Vec<TargetRow>,
    /// Targets with an answer, which may have no rows.
    pub targets: Vec<Target>,
    /// Targets without an answer, and why, in words for people.
    pub failures: Vec<(Target, String)>,
    /// The number of failures with which a server replied: a refusal, or its own time limit.
    pub refusals: usize,
    /// The number of targets, those without an answer included.
    pub target_count: usize,
}

/// A section and its place in the command's file.
pub(super) type NumberedSection<'a> = (usize, &'a Section);

/// The sections in groups of one connection: a check shares that of the first section of its scope, so that many checks need one
/// connection of a server, which may have none left.
pub(super) fn section_groups<'a>(query: &QueryRequest<'a>) -> Vec<Vec<NumberedSection<'a>>> {
    let mut groups: Vec<Vec<NumberedSection<'_>>> = Vec::new();
    // Custom SQL has a connection of its own for each section.
    let shares = |group: &[NumberedSection<'_>], section: &Section| {
        section.check && !query.command.custom && group[0].1.scope == section.scope
    };
    let sections = query.command.sections(0).iter().enumerate();
    for (index, section) in sections.filter(|(_, section)| applies(section, query.values)) {
        match groups.iter_mut().find(|group| shares(group, section)) {
            Some(group) => group.push((index, section)),
            None => groups.push(vec![(index, section)]),
        }
    }
    groups
}

/// Runs a group of sections, which have one scope. Each result has its section's place.
pub(super) async fn run_group(
    run: &QueryRun<'_>,
    group: &[NumberedSection<'_>],
) -> Result<Vec<(usize, SectionResult)>> {
    let QueryRun { environments, query, .. } = run;
    let targets = scope_targets(environments, query, group[0].1.scope)?;
    let mut results: Vec<SectionResult> =
        group.iter().map(|(_, section)| SectionResult::of(query, section, targets.len())).collect();
    let all = targets.iter().map(|target| query_target(run, group, target));
    let answers = futures::future::join_all(all).await;
    for (target, answers) in targets.iter().zip(answers) {
        match answers {
            Ok(answers) => {
                for (result, answer) in results.iter_mut().zip(answers) {
                    result.add(target, answer);
                }
            }
            Err(failure) => results.iter_mut().for_each(|result| result.add(target, Err(failure.clone()))),
        }
    }
    let by = query.command.header.sort.as_deref();
    results.iter_mut().for_each(|result| sort(result, by));
    Ok(group.iter().map(|(index, _)| *index).zip(results).collect())
}

impl SectionResult {
    fn of(query: &QueryRequest<'_>, section: &Section, target_count: usize) -> SectionResult {
        let QueryRequest { command, values, .. } = query;
        let mut choices = command.header.args.iter().filter(|spec| spec.kind != ArgType::Service);
        SectionResult {
            service: value_unless_all(values, "service").map(str::to_owned),
            has_choices: choices.any(|spec| values.get(&spec.name) != spec.default.as_ref()),
            title: section.title.clone(),
            subject: section.subject(command),
            scope: section.scope,
            transposed: section.transposed,
            limits: section.limits,
            check: section.check,
            target_count,
            ..SectionResult::default()
        }
    }

    /// Adds the answer of one target. A check without a row, or with a reason in its row, has not been made; one with a reason beside its
    /// result has been made in part.
    fn add(&mut self, target: &Target, answer: Result<Rows, TargetFailure>) {
        let answer = answer.and_then(|rows| if self.check { checked(rows) } else { Ok(rows) });
        match answer {
            Ok((columns, rows)) => {
                if let Some(reason) = reason(&columns, &rows, PARTLY_CHECKED).filter(|_| self.check) {
                    self.refusals += 1;
                    self.failures.push((target.clone(), reason));
                }
                if !rows.is_empty() {
                    self.columns = columns;
                }
                let rows = rows.into_iter().map(|values| TargetRow { target: target.clone(), values });
                self.rows.extend(rows);
                self.targets.push(target.clone());
            }
            Err(failure) => {
                self.refusals += usize::from(failure.is_reply);
                self.failures.push((target.clone(), failure.reason));
            }
        }
    }
}

/// The column with the reason why a check could not be made.
const NOT_CHECKED: &str = "_not_checked";

/// The column with the reason why a check could be made in part only.
const PARTLY_CHECKED: &str = "_partly_checked";

fn checked(answer: Rows) -> Result<Rows, TargetFailure> {
    match reason(&answer.0, &answer.1, NOT_CHECKED) {
        Some(reason) => Err(TargetFailure::refusal(&reason)),
        None if answer.1.is_empty() => Err(TargetFailure::refusal("gave no row")),
        None => Ok(answer),
    }
}

/// The reason in that column of the first row, in words that follow the target's name.
fn reason(columns: &[String], rows: &[Vec<Value>], column: &str) -> Option<String> {
    let at = columns.iter().position(|known| known == column)?;
    match rows.first()?.get(at)? {
        Value::Text(reason) => Some(reason.clone()),
        _ => None,
    }
}

/// The columns with the reader's first shortfall and its fix, for the messages of an answer that isn't whole.
const SHORTFALL: [&str; 2] = ["_shortfall", "_fix"];

/// The rows of a section with the reader's shortfall beside them. The shortfall is the reason where PostgreSQL refused, and where the
/// rows would be other roles' sessions, which PostgreSQL shows as empty.
pub(super) fn explained(
    rows: Result<Rows, TargetFailure>,
    section: &Section,
    missing: &[Shortfall],
) -> Result<Rows, TargetFailure> {
    let hides_rows = |missing: &&Shortfall| missing.need == Need::Sessions && !section.public;
    if let Some(hidden) = missing.iter().find(hides_rows).filter(|_| rows.is_ok()) {
        return Err(TargetFailure::refusal(&hidden.reason()));
    }
    let Some(first) = missing.iter().find(|missing| missing.need != Need::Sessions || !section.public) else {
        return rows;
    };
    match rows {
        Err(failure) if !failure.is_reply => Err(failure),
        Err(_) => Err(TargetFailure::refusal(&first.reason())),
        Ok((mut columns, mut rows)) => {
            if !columns.is_empty() {
                columns.extend(SHORTFALL.map(str::to_owned));
            }
            let values = [first.problem.as_str(), first.fix.trim_end_matches(';')];
            let values = values.map(|value| Value::Text(value.to_owned()));
            rows.iter_mut().for_each(|row| row.extend(values.clone()));
            Ok((columns, rows))
        }
    }
}

/// Merged rows, largest first.
fn sort(answer: &mut SectionResult, by: Option<&str>) {
    let Some(at) = by.and_then(|by| answer.columns.iter().position(|column| column == by)) else { return };
    let key = |row: &TargetRow| row.values.get(at).and_then(Value::number).unwrap_or(f64::MIN);
    answer.rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
}
