//! A finding of an incident, and what people know of it.

use super::Change;
use crate::model::{AnswerFinding, Severity};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A finding is told again after this time at the soonest, unless it has become critical.
const TELL_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// A finding of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentFinding {
    #[serde(flatten)]
    pub finding: AnswerFinding,
    /// UTC.
    pub since: Timestamp,
    /// UTC; `None` while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The last look didn't show it; a second one without it ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_absent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<Told>,
}

/// What people were last told of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// UTC.
    pub(super) at: Timestamp,
    /// `None`: that it was over.
    pub(super) severity: Option<Severity>,
}

impl IncidentFinding {
    /// What holds now, as it is told.
    pub(super) fn state(&self) -> Option<Severity> {
        self.ended_at.is_none().then_some(self.finding.severity)
    }

    /// What has to be told at that time, if anything: a change that isn't told yet, and not the same finding too often.
    pub(super) fn change(&self, at: Timestamp) -> Option<Change> {
        let state = self.state();
        let is_due = match self.told {
            None => state.is_some(),
            Some(told) => {
                let is_worse = told.severity == Some(Severity::Warning) && state == Some(Severity::Critical);
                told.severity != state && (is_worse || at.duration_since(told.at) >= TELL_AGAIN_AFTER)
            }
        };
        let lasted = self.ended_at.map(|ended_at| ended_at.duration_since(self.since));
        let change =
            Change { finding: self.finding.clone(), lasted_s: lasted.map(|lasted| lasted.as_secs()) };
        is_due.then_some(change)
    }
}
