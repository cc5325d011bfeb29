//! Findings: what an answer warns of, each by what stays the same while it lasts.

use super::Severity;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One check of one target that isn't well. No pid and no value is part of it: those change while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AnswerFinding {
    /// The name of the service or the server; empty if it concerns the whole answer.
    pub target: String,
    /// What was looked at: "locks"; empty for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The check in words, as "missing backups".
    pub check: String,
    pub severity: Severity,
    /// It is that the subject could not be looked at: its findings may last or be over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_gap: bool,
}

impl AnswerFinding {
    /// The check of a target that gives no answer.
    pub const NO_ANSWER: &'static str = "no answer";

    /// True if the other finding can't be seen while this one lasts.
    pub fn hides(&self, other: &AnswerFinding) -> bool {
        let is_of_subject = self.subject.is_empty() || self.subject == other.subject;
        let is_of_target = self.target.is_empty() || self.target == other.target;
        self.is_gap && is_of_target && is_of_subject
    }

    /// True for the same check of the same target, whatever its severity.
    pub fn is_same(&self, other: &AnswerFinding) -> bool {
        self.target == other.target && self.check == other.check
    }
}

impl fmt::Display for AnswerFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.target.is_empty() {
            f.write_str(&self.check)
        } else {
            write!(f, "{}: {}", self.target, self.check)
        }
    }
}
