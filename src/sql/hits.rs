//! Values against the thresholds of a command's header.

use super::coverage::enumeration;
use super::format::{Placeholder, fill_placeholders, value_text};
use super::present::{cell, look_up};
use super::{SectionResult, TargetRow, Value};
use crate::catalog::{Command, Threshold};
use crate::model::{Severity, Span, Text};

/// So many targets of a finding are named; more are counted.
const MAX_NAMED: usize = 3;

/// A threshold that a value crossed.
pub(super) struct ThresholdHit {
    pub severity: Severity,
    pub message: Text,
    pub next: Option<Text>,
    is_urgent: bool,
    targets: Vec<String>,
}

impl ThresholdHit {
    /// The words behind "asset-service: "; `None` if the message begins otherwise.
    fn behind_target(&self) -> Option<(&str, &[Span])> {
        let (Span::Plain(first), rest) = self.message.0.split_first()? else { return None };
        Some((first.strip_prefix(self.targets.first()?)?.strip_prefix(": ")?, rest))
    }

    fn is_said_of(&self, other: &ThresholdHit) -> bool {
        self.behind_target().is_some() && self.behind_target() == other.behind_target()
    }

    /// "auth-service, user-service and 8 others: " before the message.
    fn name_targets(&mut self) {
        let count = self.targets.len();
        let named = if count > MAX_NAMED { MAX_NAMED - 1 } else { count };
        let others = (count > named).then(|| format!("{} others", count - named));
        let names = self.targets.iter().take(named).chain(&others).map(String::as_str);
        let names = enumeration(&names.collect::<Vec<_>>());
        let Some(behind) = self.behind_target().map(|(behind, _)| behind.to_owned()) else { return };
        if let Some(first) = self.message.0.first_mut() {
            *first = Span::Plain(format!("{names}: {behind}"));
        }
    }
}

/// The hits of every row, the worst first; of those, what hurts users now. What is said of several targets in the same words is one hit.
pub(super) fn hits(command: &Command, sections: &[SectionResult]) -> Vec<ThresholdHit> {
    let rows = || sections.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)));
    let thresholds = || command.header.thresholds.values();
    let hits = rows().flat_map(|(section, row)| {
        thresholds().filter_map(move |threshold| threshold_hit(threshold, section, row))
    });
    let mut hits: Vec<ThresholdHit> = hits.collect();
    hits.sort_by_key(|hit| std::cmp::Reverse((hit.severity, hit.is_urgent)));
    merged(hits)
}

fn merged(hits: Vec<ThresholdHit>) -> Vec<ThresholdHit> {
    let mut merged: Vec<ThresholdHit> = Vec::new();
    for hit in hits {
        let is_same = |known: &&mut ThresholdHit| known.severity == hit.severity && known.is_said_of(&hit);
        match merged.iter_mut().find(is_same) {
            Some(known) => known.targets.extend(hit.targets),
            None => merged.push(hit),
        }
    }
    merged.iter_mut().for_each(ThresholdHit::name_targets);
    merged
}

/// The hit of a row's value, if it crosses the threshold and that has a message.
pub(super) fn threshold_hit(
    threshold: &Threshold,
    section: &SectionResult,
    row: &TargetRow,
) -> Option<ThresholdHit> {
    let column = &threshold.column;
    let value = cell(section, row, column)?;
    let severity = value_severity(threshold, value);
    let message = threshold.message.as_deref().unwrap_or("{target}: {value}");
    if severity <= Severity::Ok || message.is_empty() {
        return None;
    }
    let shown = value_text(column, value);
    let words = |placeholder: Placeholder<'_>| match placeholder.column {
        "value" => Some(shown.clone()),
        _ => look_up(section, row)(placeholder),
    };
    let next = threshold.next.as_deref().map(|next| fill_placeholders(next, &words));
    let targets = vec![row.target.label().to_owned()];
    let message = fill_placeholders(message, &words);
    Some(ThresholdHit { severity, is_urgent: threshold.urgent, targets, message, next })
}

pub(super) fn value_severity(threshold: &Threshold, value: &Value) -> Severity {
    value.number().map_or(Severity::Neutral, |number| severity_of(threshold, number))
}

/// The severity of a number by the threshold of its column.
pub fn severity_of(threshold: &Threshold, number: f64) -> Severity {
    let crossed = |limit: Option<f64>| {
        limit.is_some_and(|limit| if threshold.below { number < limit } else { number >= limit })
    };
    match (crossed(threshold.critical), crossed(threshold.warning)) {
        (true, _) => Severity::Critical,
        (_, true) => Severity::Warning,
        _ => Severity::Neutral,
    }
}
