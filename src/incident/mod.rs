//! Incidents of a window that reports changes: each lasts from its first finding to the end of its last. Its run is recorded with the
//! first finding; each change of it is an event of that run, so that replicas and restarts tell a change once.

use crate::model::{AnswerFinding, Run, RunId, Severity};
use crate::schedule::EnvironmentWindow;
use crate::store::{Filter, Store, StoreResult};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

mod finding;
mod message;
mod quiet;

pub use finding::IncidentFinding;
use finding::Told;
pub use message::{Change, IncidentMessage, with_severity};
pub use quiet::{LONGEST_QUIET, QUIET, QuietFinding};

/// A finding that comes back within this time after the end belongs to the same incident.
const REOPENED_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// What begins so long after an incident is told in a message of its own, which takes over what still lasts: nobody reads the thread of
/// an old message.
const TAKEN_OVER_AFTER: SignedDuration = SignedDuration::from_hours(12);

/// An incident that nothing was told of for so long is called to mind, once.
const REMIND_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// Findings that an incident keeps; those that ended first are dropped.
const MAX_FINDINGS: usize = 100;

/// Runs of a window that are searched for its newest incident: one that was interrupted holds none.
const MAX_SEARCHED: usize = 10;

/// The findings that last in an environment, by the newest incident of each of its windows that report changes.
///
/// # Errors
/// When the store can't be read.
pub async fn open_findings(
    store: &dyn Store,
    windows: &[EnvironmentWindow],
    environment: &str,
) -> StoreResult<Vec<AnswerFinding>> {
    let watching = windows.iter().filter(|window| window.environment == environment && window.is_watching());
    let mut findings: Vec<AnswerFinding> = Vec::new();
    for window in watching {
        let Some((_, incident)) = Incident::newest(store, window).await? else { continue };
        for known in incident.open_findings() {
            if !findings.iter().any(|finding| finding.is_same(&known.finding)) {
                findings.push(known.finding.clone());
            }
        }
    }
    Ok(findings)
}

/// An incident, as of its newest change or look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Due time of the newest look that it includes (UTC).
    pub looked_at: Timestamp,
    /// Due time of the look that began it (UTC).
    #[serde(default)]
    pub opened_at: Timestamp,
    /// The run that has taken over what lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_by: Option<RunId>,
    pub findings: Vec<IncidentFinding>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_reminded: bool,
}

impl Incident {
    /// Name of the fact.
    pub const FACT: &'static str = "incident";

    /// The incident that a run is about, as of its newest event; `None` of any other run.
    pub fn of(run: &Run) -> Option<Incident> {
        let fact = run.events.iter().rev().find_map(|event| event.facts.get(Incident::FACT))?;
        serde_json::from_value(fact.clone()).ok()
    }

    /// The newest incident of a window, with its run.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn newest(
        store: &dyn Store,
        window: &EnvironmentWindow,
    ) -> StoreResult<Option<(Run, Incident)>> {
        let filter = Filter {
            environment: Some(window.environment.clone()),
            requester: Some(window.requester().id),
            include_reads: true,
            limit: MAX_SEARCHED,
            ..Filter::default()
        };
        let runs = store.list(filter).await?.runs;
        let mut runs = runs.into_iter().filter(|run| window.requested(run));
        Ok(runs.find_map(|run| Some((run.clone(), Incident::of(&run)?))))
    }

    pub fn open_findings(&self) -> impl Iterator<Item = &IncidentFinding> {
        self.findings.iter().filter(|known| known.ended_at.is_none())
    }

    /// True if nothing of it lasts.
    pub fn is_over(&self) -> bool {
        self.open_findings().next().is_none()
    }

    /// True while somebody should look at it.
    pub fn needs_people(&self) -> bool {
        !self.is_over() && self.continued_by.is_none()
    }

    /// The worst of what lasts; [`Severity::Ok`] if nothing does.
    pub fn severity(&self) -> Severity {
        self.open_findings().map(|known| known.finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// The start of its first finding (UTC).
    pub fn since(&self) -> Timestamp {
        self.findings.iter().map(|known| known.since).min().unwrap_or(self.looked_at)
    }

    /// The end of its last finding (UTC), once it is over.
    pub fn ended_at(&self) -> Option<Timestamp> {
        let end = self.findings.iter().filter_map(|known| known.ended_at).max();
        end.filter(|_| self.is_over())
    }

    /// True if that finding lasts, whatever its severity.
    pub fn has(&self, finding: &AnswerFinding) -> bool {
        self.open_findings().any(|known| known.finding.is_same(finding))
    }

    /// True if a look shows a finding that isn't open, or is open with another severity.
    pub fn has_news(&self, found: &[AnswerFinding]) -> bool {
        found.iter().any(|finding| !self.open_findings().any(|known| known.finding == *finding))
    }

    /// What two looks have in common: of the second, what is open already, and what the first shows, too.
    pub fn confirmed(&self, first: &[AnswerFinding], second: &[AnswerFinding]) -> Vec<AnswerFinding> {
        let confirm = |finding: &AnswerFinding| {
            if first.contains(finding) {
                return Some(finding.clone());
            }
            self.open_findings()
                .find(|known| known.finding.is_same(finding))
                .map(|known| known.finding.clone())
        };
        second.iter().filter_map(confirm).collect()
    }

    /// True if what a look at that time has found belongs to this incident; otherwise it begins another one.
    pub fn includes(&self, found: &[AnswerFinding], at: Timestamp) -> bool {
        let comes_back = |known: &IncidentFinding| {
            let is_recent = known.ended_at.is_some_and(|end| at.duration_since(end) < REOPENED_WITHIN);
            is_recent && found.iter().any(|finding| finding.is_same(&known.finding))
        };
        // Its end is still to be told.
        let is_untold = |known: &IncidentFinding| {
            known.told.is_some_and(|told| {
                told.severity != known.state() && at.duration_since(told.at) < REOPENED_WITHIN
            })
        };
        let belongs = |known: &IncidentFinding| comes_back(known) || is_untold(known);
        !self.is_over() || found.is_empty() || self.findings.iter().any(belongs)
    }

    /// The incident after a look at that time (UTC). What the look could not see, by all that it has `seen`, is not over.
    pub fn after(mut self, found: &[AnswerFinding], seen: &[AnswerFinding], at: Timestamp) -> Incident {
        self.looked_at = at;
        if self.findings.is_empty() {
            self.opened_at = at;
        }
        for known in self.findings.iter_mut().filter(|known| known.ended_at.is_none()) {
            let is_found = found.iter().any(|finding| finding.is_same(&known.finding));
            let is_hidden = found.iter().chain(seen).any(|finding| finding.hides(&known.finding));
            if is_found || is_hidden {
                known.is_absent &= !is_found;
            } else if known.is_absent {
                known.ended_at = Some(at);
            } else {
                known.is_absent = true;
            }
        }
        for finding in found {
            match self.findings.iter_mut().find(|known| known.finding.is_same(finding)) {
                Some(known) => {
                    known.finding = finding.clone();
                    if known.ended_at.take().is_some() {
                        (known.since, known.is_absent) = (at, false);
                    }
                }
                None => self.findings.push(IncidentFinding {
                    finding: finding.clone(),
                    since: at,
                    ended_at: None,
                    is_absent: false,
                    told: None,
                }),
            }
        }
        while self.findings.len() > MAX_FINDINGS
            && let Some(first) = self.findings.iter().position(|known| known.ended_at.is_some())
        {
            self.findings.remove(first);
        }
        self
    }

    /// Takes what people have to be told at that time (UTC), and keeps in mind that they were. What is quiet is told later, if it holds
    /// then.
    pub fn take_message(&mut self, at: Timestamp, quiet: &[QuietFinding]) -> IncidentMessage {
        let is_quiet = |known: &IncidentFinding| quiet.iter().any(|quiet| quiet.is_about(&known.finding));
        let newest = self.findings.iter().filter_map(|known| Some(known.told?.at)).max();
        let mut changes = Vec::new();
        for known in self.findings.iter_mut().filter(|known| !is_quiet(known)) {
            if let Some(change) = known.change(at) {
                changes.push(change);
                known.told = Some(Told { at, severity: known.state() });
            }
        }
        let is_long_ago = newest.is_some_and(|newest| at.duration_since(newest) >= REMIND_AFTER);
        let is_open = self.open_findings().any(|known| !is_quiet(known));
        let is_reminder = changes.is_empty() && is_open && !self.is_reminded && is_long_ago;
        self.is_reminded |= is_reminder;
        IncidentMessage { changes, is_reminder }
    }

    /// What takes over from this incident at that time (UTC), if the message is one that should not be told in its thread.
    pub fn successor(&self, message: &IncidentMessage, at: Timestamp) -> Option<Incident> {
        let is_old = at.duration_since(self.opened_at) >= TAKEN_OVER_AFTER;
        let findings = self.open_findings().cloned().collect();
        let next = Incident { looked_at: at, opened_at: at, findings, ..Incident::default() };
        (is_old && message.tells_of_a_beginning()).then_some(next)
    }

    /// True if the card of one shows something else than that of the other.
    pub fn is_shown_as(&self, other: &Incident) -> bool {
        let shown = |incident: &Incident| -> Vec<(AnswerFinding, Option<Timestamp>)> {
            incident.findings.iter().map(|known| (known.finding.clone(), known.ended_at)).collect()
        };
        shown(self) == shown(other)
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

    fn no_answer(target: &str) -> AnswerFinding {
        AnswerFinding {
            subject: String::new(),
            check: AnswerFinding::NO_ANSWER.to_owned(),
            is_gap: true,
            ..finding(target, Severity::Critical)
        }
    }

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    /// What is told after each look, a minute after the one before.
    fn told(looks: &[&[AnswerFinding]]) -> Vec<Vec<String>> {
        let mut incident = Incident::default();
        let look = |(at, found): (i64, &&[AnswerFinding])| {
            if !incident.includes(found, minute(at)) {
                incident = Incident::default();
            }
            incident = std::mem::take(&mut incident).after(found, found, minute(at));
            let message = incident.take_message(minute(at), &[]);
            let reminder = message.is_reminder.then(|| "reminder".to_owned());
            message.lines().into_iter().chain(reminder).collect()
        };
        (0..).zip(looks).map(look).collect()
    }

    #[test]
    fn a_finding_is_told_when_it_begins_gets_worse_and_has_not_been_seen_twice() {
        let warning: &[AnswerFinding] = &[finding("a", Severity::Warning)];
        let critical: &[AnswerFinding] = &[finding("a", Severity::Critical)];
        let looks = [warning, warning, critical, &[], critical, critical, &[], &[], &[]];
        let mut expected = vec![Vec::new(); looks.len()];
        expected[0] = vec!["New or changed: a: blocked (warning).".to_owned()];
        expected[2] = vec!["New or changed: a: blocked (critical).".to_owned()];
        expected[7] = vec!["Over: a: blocked, after 7 min 0 s.".to_owned()];
        assert_eq!(told(&looks), expected);
    }

    #[test]
    fn what_ends_soon_is_told_to_be_over_after_five_minutes() {
        let warning: &[AnswerFinding] = &[finding("a", Severity::Warning)];
        let messages = told(&[warning, &[], &[], &[], &[], &[], &[]]);
        assert_eq!(messages[5], ["Over: a: blocked, after 2 min 0 s."]);
        assert_eq!(messages.concat().len(), 2, "{messages:?}");
    }

    #[test]
    fn what_lasts_is_called_to_mind_once() {
        let warning: &[AnswerFinding] = &[finding("a", Severity::Warning)];
        let messages = told(&vec![warning; 90]);
        let reminders: Vec<usize> = (0..90).filter(|at| messages[*at] == ["reminder"]).collect();
        assert_eq!((reminders, messages.concat().len()), (vec![30], 2));
    }

    #[test]
    fn what_begins_twelve_hours_later_is_told_in_a_message_of_its_own() {
        let (old, new) = (finding("a", Severity::Warning), finding("b", Severity::Warning));
        let mut incident = Incident::default().after(std::slice::from_ref(&old), &[], minute(0));
        let message = incident.take_message(minute(0), &[]);
        assert!(incident.successor(&message, minute(0)).is_none());
        let both = [old, new];
        let mut incident = incident.after(&both, &both, minute(12 * 60));
        let message = incident.take_message(minute(12 * 60), &[]);
        let next = incident.successor(&message, minute(12 * 60)).unwrap();
        assert_eq!((next.since(), next.opened_at), (minute(0), minute(12 * 60)));
        assert!(both.iter().all(|finding| next.has(finding)));
        // What is told of already is not told again.
        assert!(next.clone().take_message(minute(12 * 60), &[]).is_empty());
        let ended = IncidentMessage { changes: Vec::new(), is_reminder: true };
        assert!(incident.successor(&ended, minute(12 * 60)).is_none());
    }

    #[test]
    fn what_is_quiet_is_told_when_the_time_is_over() {
        let critical = [finding("a", Severity::Critical)];
        let quiet = QuietFinding { target: "a".to_owned(), check: "blocked".to_owned(), until: minute(60) };
        let mut incident = Incident::default().after(&[finding("a", Severity::Warning)], &[], minute(0));
        assert!(!incident.take_message(minute(0), &[]).is_empty());
        for at in 1..60 {
            incident = incident.after(&critical, &critical, minute(at));
            assert!(incident.take_message(minute(at), std::slice::from_ref(&quiet)).is_empty(), "{at}");
        }
        let message = incident.take_message(minute(60), &[]);
        assert_eq!(message.lines(), ["New or changed: a: blocked (critical)."]);
    }

    #[test]
    fn what_comes_back_within_ten_minutes_belongs_to_the_same_incident() {
        let warning = [finding("a", Severity::Warning)];
        let over = Incident::default().after(&warning, &warning, minute(0));
        let over = over.after(&[], &[], minute(1)).after(&[], &[], minute(2));
        assert!(over.is_over() && over.ended_at() == Some(minute(2)));
        assert!(over.includes(&warning, minute(11)) && !over.includes(&warning, minute(12)));
        assert!(!over.includes(&[finding("b", Severity::Warning)], minute(3)));
        assert!(over.includes(&[], minute(90)));
    }

    #[test]
    fn no_other_incident_begins_before_the_end_is_told() {
        let (a, b) = ([finding("a", Severity::Warning)], [finding("b", Severity::Warning)]);
        assert_eq!(
            told(&[&a, &[], &[], &b, &b, &b]).concat(),
            [
                "New or changed: a: blocked (warning).",
                "New or changed: b: blocked (warning).",
                "Over: a: blocked, after 2 min 0 s."
            ]
        );
    }

    #[test]
    fn what_can_not_be_seen_is_not_over() {
        let before = [finding("a", Severity::Warning), finding("b", Severity::Warning)];
        for (gap, over) in [(no_answer("a"), 1), (no_answer(""), 0)] {
            let found = std::slice::from_ref(&gap);
            let mut incident = Incident::default().after(&before, &before, minute(0));
            for at in 1..3 {
                incident = incident.after(found, found, minute(at));
            }
            assert!(incident.open_findings().any(|known| known.finding == before[0]), "{gap}");
            let ended = incident.findings.iter().filter(|known| known.ended_at.is_some()).count();
            assert_eq!(ended, over, "{gap}");
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
        let known = Incident::default().after(&open, &open, minute(0)).after(&[], &[], minute(1));
        let first = [finding("b", Severity::Warning)];
        let seen = [no_answer("")];
        let found = known.confirmed(&first, &seen);
        assert!(found.is_empty() && !known.after(&found, &seen, minute(2)).is_over());
    }

    #[test]
    fn what_only_one_of_two_looks_shows_is_not_told() {
        let known = Incident::default().after(&[finding("open", Severity::Warning)], &[], minute(0));
        let first = [finding("open", Severity::Critical), finding("short", Severity::Warning)];
        assert!(known.has_news(&first));
        let second = [finding("open", Severity::Warning), finding("later", Severity::Warning)];
        let confirmed = known.confirmed(&first, &second);
        assert_eq!(confirmed, [finding("open", Severity::Warning)]);
        assert!(!known.has_news(&confirmed));
    }

    proptest! {
        /// Whoever reads only the messages knows, five minutes after the last change, what lasts; and one finding, however it flaps,
        /// makes a message in five minutes, and another when it becomes critical.
        #[test]
        fn messages_are_true_and_few(looks in prop::collection::vec(prop::collection::vec(0_u8..3, 3), 0..60)) {
            let severity = |level| if level == 1 { Severity::Warning } else { Severity::Critical };
            let found = |look: &[u8]| -> Vec<AnswerFinding> {
                let targets = ["a", "b", "c"].into_iter().zip(look).filter(|(_, level)| **level > 0);
                targets.map(|(target, level)| finding(target, severity(*level))).collect()
            };
            let last = looks.last().cloned().unwrap_or_default();
            let quiet_end = std::iter::repeat_n(last, 8);
            let mut incident = Incident::default();
            let mut known: std::collections::BTreeMap<String, Option<Severity>> = Default::default();
            let mut times: Vec<(i64, String, bool)> = Vec::new();
            for (at, look) in (0..).zip(looks.into_iter().chain(quiet_end)) {
                let found = found(&look);
                if !incident.includes(&found, minute(at)) {
                    incident = Incident::default();
                }
                incident = incident.after(&found, &found, minute(at));
                for change in incident.take_message(minute(at), &[]).changes {
                    let state = change.lasted_s.is_none().then_some(change.finding.severity);
                    let before = known.insert(change.finding.target.clone(), state).flatten();
                    let is_worse = before == Some(Severity::Warning) && state == Some(Severity::Critical);
                    times.push((at, change.finding.target, is_worse));
                }
                let kept = serde_json::to_value(&incident).unwrap();
                prop_assert_eq!(&serde_json::from_value::<Incident>(kept).unwrap(), &incident);
            }
            for open in incident.open_findings() {
                prop_assert_eq!(known.get(&open.finding.target), Some(&Some(open.finding.severity)));
            }
            let lasts = known.iter().filter(|(_, state)| state.is_some());
            for (target, _) in lasts {
                prop_assert!(incident.open_findings().any(|open| open.finding.target == *target), "{target}");
            }
            for (index, (at, target, is_worse)) in times.iter().enumerate() {
                let earlier = times[..index].iter().rev().find(|(_, other, _)| other == target);
                prop_assert!(earlier.is_none_or(|(earlier, ..)| at - earlier >= 5 || *is_worse), "{times:?}");
            }
        }
    }
}
