//! The audit log of runs and their transitions. One table says which event leads to which state; every transition is written before
//! the side effect that it allows. `access` decides who may cause an event, `actions` do what the event allows.

use crate::access::Policy;
use crate::config::ApprovalSettings;
use crate::model::{EventKind, Person, Plan, Run, RunId, RunState, next_state};
use crate::store::{
    Append, AppendOutcome, Deadline, DeadlineCondition, NewEvent, NewRun, OpenOutcome, Store, StoreResult,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const FIRST_CLOSE_RETRY: Duration = Duration::from_millis(200);
const LONGEST_CLOSE_RETRY: Duration = Duration::from_secs(30);

/// The event that the store appends if it records a transition too late, when its caller has timed out. `None` if the transition
/// starts nothing, as an event within `Running` does.
fn late_event(from: Option<RunState>, to: RunState) -> Option<NewEvent> {
    let state = next_state(Some(to), EventKind::TimedOut).filter(|_| from != Some(to))?;
    Some(NewEvent {
        kind: EventKind::TimedOut,
        by: None,
        facts: json!({"why": "recorded too late; nothing was started"}),
        texts: BTreeMap::new(),
        state,
        deadline: Deadline::None,
    })
}

/// Conditions of an append besides the run's version.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppendConditions {
    /// Refused while changes are frozen.
    pub unless_frozen: bool,
    /// The run counts as overdue this long after it was opened, even if its deadline is later.
    pub max_age: Option<Duration>,
}

impl AppendConditions {
    /// A decision and a start come before the deadline, an expiry after it: by the store's clock, so that no process needs a right one.
    fn deadline_condition(self, kind: EventKind) -> DeadlineCondition {
        let max_age = self.max_age;
        match kind {
            EventKind::ApprovalAdded
            | EventKind::Approved
            | EventKind::Denied
            | EventKind::Withdrawn
            | EventKind::Started => DeadlineCondition::Ahead { max_age },
            EventKind::Expired => DeadlineCondition::Passed { max_age },
            _ => DeadlineCondition::Ignored,
        }
    }
}

/// The contents of an event besides its kind.
#[derive(Debug, Clone, Default)]
pub struct EventDetails {
    pub by: Option<Person>,
    /// Kept for ever.
    pub facts: serde_json::Value,
    /// Can be erased.
    pub texts: BTreeMap<String, String>,
    /// Duration of the state that it leads to, if not the configured one.
    pub state_duration: Option<Duration>,
}

impl EventDetails {
    pub fn by_person(person: &Person) -> EventDetails {
        EventDetails { by: Some(person.clone()), ..EventDetails::default() }
    }
    pub fn with_reason(reason: &str) -> EventDetails {
        EventDetails { facts: json!({ "why": reason }), ..EventDetails::default() }
    }
    pub fn with_text(mut self, name: &str, text: impl Into<String>) -> EventDetails {
        self.texts.insert(name.to_owned(), text.into());
        self
    }
    pub fn with_plan(mut self, plan: &Plan) -> EventDetails {
        self.facts["plan_sha256"] = plan.digest().into();
        self.with_text("plan", plan.to_json())
    }
    /// Adds a fact that is kept for ever.
    pub fn with_fact(mut self, name: &str, fact: &impl serde::Serialize) -> EventDetails {
        self.facts[name] = json!(fact);
        self
    }
    /// Adds the requirements at the time of the request, and the people who may approve it; the list is fixed from now on.
    pub fn with_policy(mut self, policy: &Policy, approvers: &[Person]) -> EventDetails {
        self.facts["policy"] = policy.facts(approvers);
        self.state_duration = Some(policy.wait);
        self
    }
}

/// The store of runs, with the rules of their transitions.
#[derive(Clone)]
pub struct AuditLog {
    pub store: Arc<dyn Store>,
    pub approval: ApprovalSettings,
}

impl AuditLog {
    /// The first event of a run, which waits for approval or starts.
    pub fn first_event(&self, needs_approval: bool, details: EventDetails) -> NewEvent {
        if needs_approval {
            return self.event(EventKind::Requested, RunState::Pending, details);
        }
        self.event(EventKind::Started, RunState::Running, details)
    }

    /// Opens a run with its first event.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn open(&self, new_run: NewRun) -> StoreResult<OpenOutcome> {
        let late_event = late_event(None, new_run.first_event.state);
        self.store.open(NewRun { late_event, ..new_run }).await
    }

    fn event(&self, kind: EventKind, state: RunState, details: EventDetails) -> NewEvent {
        let EventDetails { by, facts, texts, state_duration } = details;
        let state_duration = match state {
            RunState::Pending => state_duration.or(Some(self.approval.wait)),
            RunState::Approved => state_duration.or(Some(self.approval.start_within)),
            _ => None,
        };
        let deadline = state_duration.map_or(Deadline::None, Deadline::After);
        NewEvent { kind, by, facts, texts, state, deadline }
    }

    fn next_event(&self, run: &Run, kind: EventKind, details: EventDetails) -> Option<NewEvent> {
        let state = next_state(Some(run.state), kind)?;
        let event = self.event(kind, state, details);
        // An event within a state doesn't prolong it.
        let deadline = if run.state == state { Deadline::Unchanged } else { event.deadline };
        Some(NewEvent { deadline, ..event })
    }

    /// Appends an event, if it is allowed in the run's state and the run has not changed meanwhile.
    /// An event that isn't allowed gives [`AppendOutcome::VersionConflict`] with the current run.
    pub async fn append(
        &self,
        run: &Run,
        kind: EventKind,
        details: EventDetails,
    ) -> StoreResult<AppendOutcome> {
        self.append_if(run, kind, details, AppendConditions::default()).await
    }

    /// As [`AuditLog::append`], on more conditions.
    pub async fn append_if(
        &self,
        run: &Run,
        kind: EventKind,
        details: EventDetails,
        conditions: AppendConditions,
    ) -> StoreResult<AppendOutcome> {
        let Some(event) = self.next_event(run, kind, details) else {
            return Ok(AppendOutcome::VersionConflict(Box::new(run.clone())));
        };
        let late_event = late_event(Some(run.state), event.state);
        let append = Append {
            run: run.id,
            version: run.version,
            event,
            late_event,
            unless_frozen: conditions.unless_frozen,
            deadline_condition: conditions.deadline_condition(kind),
        };
        self.store.append_if_unchanged(append).await
    }

    /// Tells whether a run is still executed by this process, which claimed it with the last event of `claimed`.
    ///
    /// # Errors
    /// As [`Store::check_instance`] and [`Store::get`].
    pub async fn is_current(&self, claimed: &Run) -> StoreResult<bool> {
        self.store.check_instance().await?;
        Ok(self.store.get(claimed.id).await?.is_some_and(|current| claimed.is_continued_by(&current)))
    }

    /// Appends an event whatever else was recorded meanwhile; `None` if it is no longer allowed in the run's state.
    ///
    /// # Errors
    /// As [`Store::append_if_unchanged`].
    pub async fn append_to_current(
        &self,
        run: RunId,
        kind: EventKind,
        details: EventDetails,
    ) -> StoreResult<Option<Run>> {
        self.append_while(run, kind, details, |_| true).await
    }

    /// As [`AuditLog::append_to_current`], by the process that claimed the run with the last event of `claimed`; `None` also if
    /// another has taken the run over.
    ///
    /// # Errors
    /// As [`Store::append_if_unchanged`].
    pub async fn append_to_claimed(
        &self,
        claimed: &Run,
        kind: EventKind,
        details: EventDetails,
    ) -> StoreResult<Option<Run>> {
        self.append_while(claimed.id, kind, details, |current| claimed.is_continued_by(current)).await
    }

    async fn append_while(
        &self,
        run: RunId,
        kind: EventKind,
        details: EventDetails,
        is_allowed: impl Fn(&Run) -> bool,
    ) -> StoreResult<Option<Run>> {
        while let Some(current) = self.store.get(run).await? {
            if next_state(Some(current.state), kind).is_none() || !is_allowed(&current) {
                break;
            }
            match self.append(&current, kind, details.clone()).await? {
                AppendOutcome::Done(run) => return Ok(Some(*run)),
                AppendOutcome::Overdue(_) | AppendOutcome::NotOverdue(_) => break,
                _ => {}
            }
        }
        Ok(None)
    }

    /// As [`AuditLog::append`], where a failure is only logged.
    pub async fn append_or_log(&self, run: &Run, kind: EventKind, details: EventDetails) {
        if let Err(error) = self.append(run, kind, details).await {
            tracing::error!(run = run.id, %error, event = kind.as_str(), "recording event failed");
        }
    }

    /// Records a run's outcome. Retries until the store accepts it, since the effect can't be undone. A run that another process has
    /// resumed is that one's to close.
    pub async fn close(&self, claimed: &Run, kind: EventKind, details: EventDetails) -> Run {
        let mut pause = FIRST_CLOSE_RETRY;
        let mut run = claimed.clone();
        loop {
            match self.append(&run, kind, details.clone()).await {
                Ok(AppendOutcome::Done(closed)) => return *closed,
                // A run that was marked as interrupted a moment before still gets its outcome.
                Ok(AppendOutcome::VersionConflict(current))
                    if current.version == run.version
                        || next_state(Some(current.state), kind).is_none()
                        || claimed.is_resumed_by(&current) =>
                {
                    return *current;
                }
                Ok(AppendOutcome::VersionConflict(current)) => run = *current,
                Ok(AppendOutcome::Overdue(current) | AppendOutcome::NotOverdue(current)) => return *current,
                Ok(AppendOutcome::Frozen(_) | AppendOutcome::ResourceBusy { .. }) => {}
                Err(error) => {
                    tracing::error!(run = run.id, %error, "recording run outcome failed; will retry")
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_CLOSE_RETRY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::VariantArray;

    /// Only a review can follow, and what the run reports of can change if it came to its own end.
    fn is_over(state: RunState) -> bool {
        !state.is_open() && state != RunState::Interrupted
    }

    fn transitions() -> impl Iterator<Item = (Option<RunState>, EventKind, RunState)> {
        let states = std::iter::once(None).chain(RunState::VARIANTS.iter().copied().map(Some));
        let pairs = states.flat_map(|from| EventKind::VARIANTS.iter().map(move |kind| (from, *kind)));
        pairs.filter_map(|(from, kind)| Some((from, kind, next_state(from, kind)?)))
    }

    /// Every pair of state and event, so that a new pair has to be added here; closed runs are tested below.
    #[test]
    fn the_table_allows_exactly_these() {
        let mut allowed = Vec::new();
        for (from, kind, to) in transitions().filter(|(from, ..)| !from.is_some_and(is_over)) {
            let from = from.map_or("-".to_owned(), |state| format!("{state:?}"));
            allowed.push(format!("{from} {} {to:?}", kind.as_str()));
        }
        let expected = "- requested Pending|- started Running|Pending approval_added Pending|Pending reminded Pending|Pending approved Approved|Pending denied Denied|\
            Pending withdrawn Withdrawn|Pending expired Expired|Pending invalidated Invalidated|Pending timed_out Stopped|Approved revoked Revoked|\
            Approved expired Expired|Approved started Running|Approved invalidated Invalidated|Approved timed_out Stopped|Running checkpoint Running|\
            Running stop_requested Running|Running succeeded Succeeded|Running failed Failed|Running partial Partial|\
            Running stopped Stopped|Running invalidated Invalidated|Running interrupted Interrupted|Running timed_out Stopped|Interrupted resumed Running|Interrupted succeeded Succeeded|Interrupted failed Failed|Interrupted partial Partial|\
            Interrupted stopped Stopped|Interrupted invalidated Invalidated|Interrupted reviewed Interrupted";
        assert_eq!(allowed.join("|"), expected);
    }

    #[test]
    fn a_closed_run_stays_closed() {
        for state in RunState::VARIANTS.iter().copied().filter(|state| is_over(*state)) {
            for kind in EventKind::VARIANTS.iter().copied() {
                let to = next_state(Some(state), kind);
                let may_change = [RunState::Succeeded, RunState::Failed, RunState::Partial].contains(&state);
                let is_allowed = kind == EventKind::Reviewed || kind == EventKind::Updated && may_change;
                assert_eq!(to, is_allowed.then_some(state), "{state:?} {}", kind.as_str());
            }
        }
    }

    /// Every transition that starts something.
    #[test]
    fn a_start_recorded_too_late_is_stopped() {
        let mut stopped = Vec::new();
        for (from, kind, to) in transitions() {
            if let Some(change) = late_event(from, to) {
                let closed = (change.kind, change.state, change.by);
                assert_eq!(closed, (EventKind::TimedOut, RunState::Stopped, None));
                stopped.push(kind.as_str());
            }
        }
        assert_eq!(stopped, ["requested", "started", "approved", "started", "resumed"]);
    }
}
