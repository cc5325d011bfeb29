//! The findings of a window that reports changes: which are open, by what its starts have recorded, and what a new look changes. The
//! record of a start is a fact of its run's last event, so that replicas and restarts tell a change once.

use crate::model::{AnswerFinding, Run, Severity, Text};
use crate::schedule::EnvironmentWindow;
use crate::sql::duration;
use crate::store::{Filter, Store, StoreResult};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A finding that is new is looked at again after this time: what is over by then was no finding.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_secs(5);

/// Starts before a new one that are searched for the last record: a start that was interrupted has none.
const MAX_SEARCHED: usize = 20;

/// A finding that hasn't ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OpenFinding {
    #[serde(flatten)]
    finding: AnswerFinding,
    /// UTC.
    since: Timestamp,
    /// The last look didn't show it; a second one without it ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_absent: bool,
}

/// What a start recorded of its window's findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FindingRecord {
    /// Those that are open after it.
    open: Vec<OpenFinding>,
    /// Those that began, or changed their severity, with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    begun: Vec<AnswerFinding>,
    /// Those that ended with it, and when each had begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ended: Vec<OpenFinding>,
}

impl FindingRecord {
    /// Name of the fact.
    pub const FACT: &'static str = "findings";

    /// The record of a start; `None` of a run that has none.
    pub fn of(run: &Run) -> Option<FindingRecord> {
        let fact = run.events.last()?.facts.get(FindingRecord::FACT)?;
        serde_json::from_value(fact.clone()).ok()
    }

    /// The record of the newest start of a window before a run; an empty one if there is none. `None` while that start still looks.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn before(
        store: &dyn Store,
        window: &EnvironmentWindow,
        run: &Run,
    ) -> StoreResult<Option<FindingRecord>> {
        let filter = Filter {
            environment: Some(window.environment.clone()),
            requester: Some(window.requester().id),
            include_reads: true,
            before: Some(run.id),
            limit: MAX_SEARCHED,
            ..Filter::default()
        };
        let starts = store.list(filter).await?.runs;
        let starts: Vec<&Run> = starts.iter().filter(|start| window.requested(start)).collect();
        if starts.first().is_some_and(|start| start.state.is_open()) {
            return Ok(None);
        }
        Ok(Some(starts.into_iter().find_map(FindingRecord::of).unwrap_or_default()))
    }

    /// True if a look shows a finding that isn't open, or is open with another severity.
    pub fn has_news(&self, found: &[AnswerFinding]) -> bool {
        found.iter().any(|finding| !self.open.iter().any(|open| open.finding == *finding))
    }

    /// What two looks have in common: of the second, what is open already, and what the first shows, too.
    pub fn confirmed(&self, first: &[AnswerFinding], second: &[AnswerFinding]) -> Vec<AnswerFinding> {
        let confirm = |finding: &AnswerFinding| {
            if first.contains(finding) {
                return Some(finding.clone());
            }
            self.open.iter().find(|open| open.finding.is_same(finding)).map(|open| open.finding.clone())
        };
        second.iter().filter_map(confirm).collect()
    }

    /// The record after a look at that time (UTC). What the look could not see, by all that it has `seen`, is not over.
    pub fn after(self, found: &[AnswerFinding], seen: &[AnswerFinding], at: Timestamp) -> FindingRecord {
        let mut record = FindingRecord::default();
        for finding in found {
            let known = self.open.iter().find(|open| open.finding.is_same(finding));
            if known.is_none_or(|known| known.finding.severity != finding.severity) {
                record.begun.push(finding.clone());
            }
            let since = known.map_or(at, |known| known.since);
            record.open.push(OpenFinding { finding: finding.clone(), since, is_absent: false });
        }
        for open in self.open {
            if found.iter().any(|finding| finding.is_same(&open.finding)) {
                continue;
            }
            if found.iter().chain(seen).any(|finding| finding.hides(&open.finding)) {
                record.open.push(open);
            } else if open.is_absent {
                record.ended.push(open);
            } else {
                record.open.push(OpenFinding { is_absent: true, ..open });
            }
        }
        record
    }

    /// True if people are told of it.
    pub fn is_change(&self) -> bool {
        !self.begun.is_empty() || !self.ended.is_empty()
    }

    /// "New or changed: asset-service: blocked (warning)." and "Over: auth-service: blocked, after 12 min 5 s.", as far as there are any.
    pub fn lines(&self, at: Timestamp) -> Vec<Text> {
        let begun = self.begun.iter().map(|finding| {
            let is_critical = finding.severity == Severity::Critical;
            format!("{finding} ({})", if is_critical { "critical" } else { "warning" })
        });
        let ended = self.ended.iter().map(|open| {
            format!("{}, after {}", open.finding, duration(at.duration_since(open.since).as_secs_f64()))
        });
        let line = |title: &str, parts: Vec<String>| {
            let text = format!("{title}: {}.", parts.join("; "));
            (!parts.is_empty()).then(|| Text::from(text))
        };
        let lines = [line("New or changed", begun.collect()), line("Over", ended.collect())];
        lines.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finding(target: &str, severity: Severity) -> AnswerFinding {
        AnswerFinding {
            target: target.to_owned(),
            subject: "locks".to_owned(),
            check: "blocked".to_owned(),
            severity,
            is_gap: false,
        }
    }

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    fn lines(record: &FindingRecord, at: i64) -> Vec<String> {
        record.lines(minute(at)).iter().map(Text::words).collect()
    }

    #[test]
    fn a_finding_is_told_when_it_begins_gets_worse_and_has_not_been_seen_twice() {
        let warning = [finding("a", Severity::Warning)];
        let critical = [finding("a", Severity::Critical)];
        let looks: [(&[AnswerFinding], &[&str]); 8] = [
            (&warning, &["New or changed: a: blocked (warning)."]),
            (&warning, &[]),
            (&critical, &["New or changed: a: blocked (critical)."]),
            (&[], &[]),
            (&critical, &[]),
            (&[], &[]),
            (&[], &["Over: a: blocked, after 6 min 0 s."]),
            (&[], &[]),
        ];
        let mut record = FindingRecord::default();
        for (at, (found, told)) in (0..).zip(looks) {
            record = record.after(found, found, minute(at));
            assert_eq!(lines(&record, at), told, "look {at}");
            assert_eq!(record.is_change(), !told.is_empty(), "look {at}");
        }
    }

    #[test]
    fn what_can_not_be_seen_is_not_over() {
        let no_answer = |target: &str| AnswerFinding {
            subject: String::new(),
            check: AnswerFinding::NO_ANSWER.to_owned(),
            is_gap: true,
            ..finding(target, Severity::Critical)
        };
        let before = [finding("a", Severity::Warning), finding("b", Severity::Warning)];
        for (gap, told) in
            [(no_answer("a"), vec!["Over: b: blocked, after 2 min 0 s."]), (no_answer(""), vec![])]
        {
            let found = std::slice::from_ref(&gap);
            let mut record =
                FindingRecord::default().after(&before, &before, minute(0)).after(found, found, minute(1));
            assert_eq!(record.begun, found);
            record = record.after(found, found, minute(2));
            assert_eq!(lines(&record, 2), told, "{gap}");
            assert!(record.open.iter().any(|open| open.finding == before[0]));
        }
    }

    #[test]
    fn a_gap_of_one_subject_hides_its_findings_alone() {
        let gap = |subject: &str| AnswerFinding {
            subject: subject.to_owned(),
            check: format!("{subject} not checked"),
            is_gap: true,
            ..finding("a", Severity::Warning)
        };
        let open = finding("a", Severity::Warning);
        assert!(gap("locks").hides(&open) && !gap("sequences").hides(&open));
    }

    #[test]
    fn what_the_second_look_alone_could_not_see_is_not_over() {
        let open = [finding("a", Severity::Warning)];
        let known = FindingRecord::default().after(&open, &open, minute(0)).after(&[], &[], minute(1));
        let first = [finding("b", Severity::Warning)];
        let silent = AnswerFinding {
            target: String::new(),
            subject: String::new(),
            check: AnswerFinding::NO_ANSWER.to_owned(),
            severity: Severity::Critical,
            is_gap: true,
        };
        let seen = [silent];
        let found = known.confirmed(&first, &seen);
        assert!(found.is_empty() && !known.after(&found, &seen, minute(2)).is_change());
    }

    #[test]
    fn what_only_one_of_two_looks_shows_is_not_told() {
        let known = FindingRecord::default().after(&[finding("open", Severity::Warning)], &[], minute(0));
        let first = [finding("open", Severity::Critical), finding("short", Severity::Warning)];
        assert!(known.has_news(&first));
        let second = [finding("open", Severity::Warning), finding("later", Severity::Warning)];
        let confirmed = known.confirmed(&first, &second);
        assert_eq!(confirmed, [finding("open", Severity::Warning)]);
        assert!(!known.has_news(&confirmed) && !known.after(&confirmed, &second, minute(1)).is_change());
    }

    proptest! {
        /// Whoever reads only what is told knows at each time what was found, but for what was absent once.
        #[test]
        fn what_is_told_adds_up_to_what_is_open(looks in prop::collection::vec(prop::collection::vec(0_u8..3, 3), 0..40)) {
            let mut record = FindingRecord::default();
            let mut told: Vec<AnswerFinding> = Vec::new();
            for (at, look) in (0..).zip(looks) {
                let severity = |level| if level == 1 { Severity::Warning } else { Severity::Critical };
                let targets = ["a", "b", "c"].into_iter().zip(look).filter(|(_, level)| *level > 0);
                let found: Vec<AnswerFinding> = targets.map(|(target, level)| finding(target, severity(level))).collect();
                record = record.after(&found, &found, minute(at));
                told.retain(|known| !record.ended.iter().any(|ended| ended.finding == *known));
                told.retain(|known| !record.begun.iter().any(|begun| begun.is_same(known)));
                told.extend(record.begun.iter().cloned());
                for finding in &found {
                    prop_assert!(told.contains(finding), "{finding} at {at}");
                }
                for known in &told {
                    prop_assert!(record.open.iter().any(|open| open.finding == *known), "{known} at {at}");
                }
                let kept = serde_json::to_value(&record).unwrap();
                prop_assert_eq!(&serde_json::from_value::<FindingRecord>(kept).unwrap(), &record);
            }
        }
    }
}
