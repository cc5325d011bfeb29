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

/// Targets that a group names.
const MAX_TARGETS: usize = 2;

/// "asset-service: blocked (critical)" for each check, the worst first; "asset-service, auth-service and 7 more: missing backups (warning)".
pub fn with_severity<'f>(findings: impl IntoIterator<Item = &'f AnswerFinding>) -> Vec<String> {
    let mut findings: Vec<&AnswerFinding> = findings.into_iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    by_check(
        &findings,
        |finding| if finding.severity == Severity::Critical { " (critical)" } else { " (warning)" },
    )
}

/// One text for each check, with the same ending after it; the findings are in order.
fn by_check<'e>(findings: &[&AnswerFinding], ending: impl Fn(&AnswerFinding) -> &'e str) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for finding in findings {
        let check = format!("{}{}", finding.check, ending(finding));
        match groups.iter_mut().find(|(known, _)| *known == check) {
            Some((_, targets)) => targets.push(&finding.target),
            None => groups.push((check, vec![&finding.target])),
        }
    }
    let words = |(check, targets): (String, Vec<&str>)| {
        let more = targets.len().saturating_sub(MAX_TARGETS);
        let named = targets.into_iter().filter(|target| !target.is_empty()).take(MAX_TARGETS);
        let named = named.collect::<Vec<_>>().join(", ");
        match (named.is_empty(), more) {
            (true, _) => check,
            (false, 0) => format!("{named}: {check}"),
            (false, more) => format!("{named} and {more} more: {check}"),
        }
    };
    groups.into_iter().map(words).collect()
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

    /// True if something has begun or changed.
    pub fn tells_of_a_beginning(&self) -> bool {
        self.begun().next().is_some()
    }

    /// The worst that it tells; [`Severity::Ok`] if it only tells of ends.
    pub fn severity(&self) -> Severity {
        self.begun().map(|change| change.finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// "New or changed: asset-service: blocked (warning)." and "Over: auth-service: blocked, after 12 min 5 s.", as far as there are any.
    pub fn lines(&self) -> Vec<String> {
        let begun = with_severity(self.begun().map(|change| &change.finding));
        let mut over: Vec<String> = Vec::new();
        let mut times: Vec<i64> = self.changes.iter().filter_map(|change| change.lasted_s).collect();
        times.sort_unstable();
        times.dedup();
        for lasted in times {
            let ended = self.changes.iter().filter(|change| change.lasted_s == Some(lasted));
            let ended: Vec<&AnswerFinding> = ended.map(|change| &change.finding).collect();
            let after = format!(", after {}", duration(lasted as f64));
            over.extend(by_check(&ended, |_| &after));
        }
        let line = |title: &str, parts: Vec<String>| {
            (!parts.is_empty()).then(|| format!("{title}: {}.", parts.join("; ")))
        };
        [line("New or changed", begun), line("Over", over)].into_iter().flatten().collect()
    }

    /// The messages of a run but for the first, which is its card: oldest first.
    pub fn later_of(run: &Run) -> Vec<IncidentMessage> {
        let facts = run.events.iter().filter_map(|event| event.facts.get(IncidentMessage::FACT));
        let messages = facts.filter_map(|fact| serde_json::from_value(fact.clone()).ok());
        messages.skip(1).filter(|message: &IncidentMessage| !message.is_empty()).collect()
    }
}
