//! Messages about an incident: what has changed, and what is called to mind.

use crate::model::{AnswerFinding, Run, Severity};
use crate::sql::duration;
use serde::{Deserialize, Serialize};

/// A change that people are told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    #[serde(flatten)]
    pub finding: AnswerFinding,
    /// Time for which it lasted, in seconds; `None` if it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_s: Option<i64>,
}

/// A message about an incident: the content of an event's facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentMessage {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// It only calls the incident to mind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_reminder: bool,
}

impl Change {
    /// "asset-service: blocked (critical)", or "asset-service: blocked, after 12 min 5 s".
    fn words(&self) -> String {
        match self.lasted_s {
            None => with_severity(&self.finding),
            Some(lasted) => format!("{}, after {}", self.finding, duration(lasted as f64)),
        }
    }
}

/// "asset-service: blocked (critical)".
pub fn with_severity(finding: &AnswerFinding) -> String {
    let is_critical = finding.severity == Severity::Critical;
    format!("{finding} ({})", if is_critical { "critical" } else { "warning" })
}

impl IncidentMessage {
    /// Name of the fact.
    pub const FACT: &'static str = "incident_message";

    /// True if there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.is_reminder
    }

    /// What it tells that has become critical.
    pub fn critical_findings(&self) -> impl Iterator<Item = &AnswerFinding> {
        let begun = self.begun().map(|change| &change.finding);
        begun.filter(|finding| finding.severity == Severity::Critical)
    }

    /// True if it tells that something has become critical.
    pub fn is_critical(&self) -> bool {
        self.critical_findings().next().is_some()
    }

    fn begun(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.lasted_s.is_none())
    }

    /// The worst that it tells; [`Severity::Ok`] if it only tells of ends.
    pub fn severity(&self) -> Severity {
        self.begun().map(|change| change.finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// "New or changed: asset-service: blocked (warning)." and "Over: auth-service: blocked, after 12 min 5 s.", as far as there are any.
    pub fn lines(&self) -> Vec<String> {
        let line = |title: &str, is_over: bool| {
            let changes = self.changes.iter().filter(|change| change.lasted_s.is_some() == is_over);
            let parts: Vec<String> = changes.map(Change::words).collect();
            (!parts.is_empty()).then(|| format!("{title}: {}.", parts.join("; ")))
        };
        [line("New or changed", false), line("Over", true)].into_iter().flatten().collect()
    }

    /// The messages of a run but for the first, which is its card: oldest first.
    pub fn later_of(run: &Run) -> Vec<IncidentMessage> {
        let facts = run.events.iter().filter_map(|event| event.facts.get(IncidentMessage::FACT));
        let messages = facts.filter_map(|fact| serde_json::from_value(fact.clone()).ok());
        messages.skip(1).filter(|message: &IncidentMessage| !message.is_empty()).collect()
    }
}
