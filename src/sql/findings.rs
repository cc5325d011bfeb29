//! The findings of sections: thresholds that were crossed, and what was not answered.

use super::coverage::is_silent;
use super::hits::threshold_hit;
use super::{SectionResult, Target};
use crate::catalog::Command;
use crate::model::{AnswerFinding, Severity};

/// Endings of the names of thresholds and columns that tell a unit.
const UNITS: [&str; 5] = ["_s", "_pct", "_bytes", "_times", "_ms"];

/// The findings, one for each check of each target, with the severity of its worst row.
pub(super) fn findings(command: &Command, sections: &[SectionResult]) -> Vec<AnswerFinding> {
    let mut found: Vec<AnswerFinding> = Vec::new();
    let mut add = |target: &Target, subject: &str, check: String, severity, is_gap| {
        let (target, subject) = (target.label().to_owned(), subject.to_owned());
        let finding = AnswerFinding { target, subject, check, severity, is_gap };
        match found.iter_mut().find(|known| known.is_same(&finding)) {
            Some(known) => known.severity = severity.max(known.severity),
            None => found.push(finding),
        }
    };
    for section in sections {
        for row in &section.rows {
            for (name, threshold) in &command.header.thresholds {
                if let Some(hit) = threshold_hit(threshold, section, row) {
                    add(&row.target, &section.subject, in_words(name), hit.severity, false);
                }
            }
        }
        for (target, _) in &section.failures {
            if is_silent(sections, target) {
                add(target, "", AnswerFinding::NO_ANSWER.to_owned(), Severity::Critical, true);
            } else {
                let check = format!("{} not checked", section.subject);
                add(target, &section.subject, check, Severity::Warning, true);
            }
        }
    }
    found
}

/// "backup age" for the threshold `backup_age_s`.
fn in_words(threshold: &str) -> String {
    let name = UNITS.iter().find_map(|unit| threshold.strip_suffix(unit)).unwrap_or(threshold);
    name.replace('_', " ")
}
