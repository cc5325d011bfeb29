//! The part of a question that has an answer: a line of the sections that ran and the targets that answered them, and those that were
//! not checked, each with its reason. Both are made from the results.

use super::hits::value_severity;
use super::present::{by_column, cell};
use super::{SectionResult, Target};
use crate::catalog::Command;
use crate::model::{Coverage, Severity, Text};

/// So many targets are named; more are counted.
const MAX_NAMED: usize = 2;

/// The share of the sections' targets that gave an answer.
pub(super) fn coverage(sections: &[SectionResult]) -> Coverage {
    let asked = sections.iter().map(|section| section.target_count).sum();
    let failed: usize = sections.iter().map(|section| section.failures.len()).sum();
    Coverage::of(asked - failed, asked)
}

/// "a, b and c".
pub(super) fn enumeration(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// "Looked at: invalid indexes and unused indexes on all 10 databases; slots on primary." `None` if no section ran, or if the answer
/// has a table of its checks.
pub(super) fn coverage_line(command: &Command, sections: &[SectionResult]) -> Option<Text> {
    let mut places: Vec<(String, Vec<String>)> = Vec::new();
    for (at, section) in sections.iter().enumerate() {
        if section.limits || section.targets.is_empty() {
            continue;
        }
        let part = if is_partial(command, sections, at) { " (in part)" } else { "" };
        let (place, subject) = (place(section), format!("{}{part}", section.subject));
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, subjects)) if subjects.contains(&subject) => {}
            Some((_, subjects)) => subjects.push(subject),
            None => places.push((place, vec![subject])),
        }
    }
    let parts = places.iter().map(|(place, subjects)| {
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        format!("{} on {place}", enumeration(&subjects))
    });
    let parts: Vec<String> = parts.collect();
    let has_checks = sections.iter().any(|section| section.check);
    (!parts.is_empty() && !has_checks).then(|| format!("Looked at: {}.", parts.join("; ")).into())
}

/// The targets that answered a section.
fn place(section: &SectionResult) -> String {
    let labels: Vec<&str> = section.targets.iter().map(Target::label).collect();
    place_of(&labels, section.target_count, section.targets.first().map_or("targets", kind))
}

/// Those that answered, of so many that were asked: "asset-service", "all 10 databases", "9 of 10 databases".
pub fn place_of(labels: &[&str], asked: usize, kind: &str) -> String {
    let answered = labels.len();
    if answered > MAX_NAMED && answered < asked {
        return format!("{answered} of {asked} {kind}");
    }
    names(labels, asked, kind)
}

/// "auth-service and user-service", or "all 10 databases".
fn names(labels: &[&str], asked: usize, kind: &str) -> String {
    if labels.len() > MAX_NAMED && labels.len() == asked {
        return format!("all {asked} {kind}");
    }
    enumeration(labels)
}

fn kind(target: &Target) -> &'static str {
    if target.service.is_some() { "databases" } else { "servers" }
}

/// True if a row says that its section saw only a part: by a threshold, or by a limit, of its own or of the `[limits]` behind it.
fn is_partial(command: &Command, sections: &[SectionResult], at: usize) -> bool {
    let behind = sections[at + 1..].iter().take_while(|section| section.limits);
    let crosses = |section: &SectionResult| {
        let mut thresholds = command.header.thresholds.values().filter(|threshold| threshold.in_part);
        thresholds.any(|threshold| {
            let mut values = section.rows.iter().filter_map(|row| cell(section, row, &threshold.column));
            values.any(|value| value_severity(threshold, value) > Severity::Ok)
        })
    };
    let limited = |section: &SectionResult| {
        !by_column(&command.header.limits, std::slice::from_ref(section)).is_empty()
    };
    crosses(&sections[at]) || behind.clone().any(|section| crosses(section) || limited(section))
}

/// Sections that were not checked for one reason, on targets that answered others.
struct Gap<'a> {
    targets: Vec<&'a Target>,
    /// The number of targets that were asked.
    asked: usize,
    subjects: Vec<&'a str>,
    /// In words that follow the target's name.
    reason: &'a str,
}

impl Gap<'_> {
    /// "Not checked on primary: locks, replication (primary refuses it)."
    fn line(&self) -> Text {
        let Gap { targets, asked, subjects, reason } = self;
        let labels: Vec<&str> = targets.iter().map(|target| target.label()).collect();
        let names = names(&labels, *asked, kind(targets[0]));
        let who = if targets.len() == 1 { names.as_str() } else { "each" };
        with_code(&format!("Not checked on {names}: {} ({who} {reason}).", subjects.join(", ")))
    }
}

/// The sections that were not checked, a line for each reason.
pub(super) fn not_checked(sections: &[SectionResult]) -> Vec<Text> {
    let mut gaps: Vec<Gap<'_>> = Vec::new();
    for section in sections {
        for (target, reason) in section.failures.iter().filter(|(target, _)| has_answered(sections, target)) {
            match gaps.iter_mut().find(|gap| gap.reason == *reason && gap.targets == [target]) {
                Some(gap) => gap.subjects.push(&section.subject),
                None => gaps.push(Gap {
                    targets: vec![target],
                    asked: section.target_count,
                    subjects: vec![&section.subject],
                    reason,
                }),
            }
        }
    }
    let mut merged: Vec<Gap<'_>> = Vec::new();
    for gap in gaps {
        let same = |known: &&mut Gap<'_>| {
            known.reason == gap.reason
                && known.subjects == gap.subjects
                && kind(known.targets[0]) == kind(gap.targets[0])
        };
        match merged.iter_mut().find(same) {
            Some(known) => known.targets.extend(gap.targets),
            None => merged.push(gap),
        }
    }
    merged.iter().map(Gap::line).collect()
}

/// True for a target that answered no section.
pub(super) fn is_silent(sections: &[SectionResult], target: &Target) -> bool {
    !has_answered(sections, target)
}

/// True if the target answered some section that shows something. Targets of another scope don't count: each has its connection.
fn has_answered(sections: &[SectionResult], target: &Target) -> bool {
    sections.iter().any(|section| !section.limits && section.targets.contains(target))
}

/// The failures of targets that answered no section.
fn target_failures(sections: &[SectionResult]) -> impl Iterator<Item = &(Target, String)> {
    sections
        .iter()
        .flat_map(|section| &section.failures)
        .filter(|(target, _)| !has_answered(sections, target))
}

/// The targets that answered no section, by name.
pub(super) fn silent_targets(sections: &[SectionResult]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (target, _) in target_failures(sections) {
        if !names.contains(&target.label()) {
            names.push(target.label());
        }
    }
    names
}

/// A sentence whose words in backticks are code.
fn with_code(sentence: &str) -> Text {
    let parts = sentence.split('`').enumerate();
    parts
        .filter(|(_, part)| !part.is_empty())
        .fold(Text::new(), |text, (at, part)| if at % 2 == 1 { text.code(part) } else { text.plain(part) })
}

/// "billing-service doesn't answer (waited 3 s)": each reason once, with all the targets that answered no section.
pub(super) fn failures(sections: &[SectionResult]) -> Vec<Text> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (target, why) in target_failures(sections) {
        let at = reasons.iter().position(|(known, _)| known == why).unwrap_or_else(|| {
            reasons.push((why, Vec::new()));
            reasons.len() - 1
        });
        if !reasons[at].1.contains(&target.label()) {
            reasons[at].1.push(target.label());
        }
    }
    let line = |(why, targets): (&str, Vec<&str>)| {
        let between = if targets.len() > 1 { ": " } else { " " };
        let mut text = Text::new().strong(targets.join(", "));
        text.0.extend(with_code(&format!("{between}{why}")).0);
        text
    };
    reasons.into_iter().map(line).collect()
}
