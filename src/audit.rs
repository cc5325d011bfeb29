//! The audit log of runs and their transitions. One table says which event leads to which state; every transition is written before
//! the side effect that it allows. `access` decides who may cause an event, `actions` do what it allows.

use crate::access::Policy;
use crate::config::ApprovalSettings;
use crate::model::transitions::next;
use crate::model::{CardKind, Conversation, EventKind, Person, Plan, Risk, Run, RunId, RunRequest, RunState};
use crate::store::{Append, AppendOutcome, NewEvent, NewRun, OpenOutcome, Store, StoreResult};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const FIRST_CLOSE_RETRY: Duration = Duration::from_millis(200);
const LONGEST_CLOSE_RETRY: Duration = Duration::from_secs(30);

/// The event that closes a run whose transition was recorded after its caller had timed out. `None` if the transition starts nothing,
/// as an event within `Running` does.
fn on_timeout(from: Option<RunState>, to: RunState) -> Option<NewEvent> {
    let state = next(Some(to), EventKind::TimedOut).filter(|_| from != Some(to))?;
    Some(NewEvent {
        kind: EventKind::TimedOut,
        by: None,
        facts: json!({"why": "recorded too late; nothing was started"}),
        texts: BTreeMap::new(),
        state,
        deadline: None,
    })
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
    pub lasts: Option<Duration>,
}

impl EventDetails {
    pub fn by(person: &Person) -> EventDetails {
        EventDetails { by: Some(person.clone()), ..EventDetails::default() }
    }
    pub fn why(why: &str) -> EventDetails {
        EventDetails { facts: json!({ "why": why }), ..EventDetails::default() }
    }
    pub fn text(mut self, name: &str, text: impl Into<String>) -> EventDetails {
        self.texts.insert(name.to_owned(), text.into());
        self
    }
}

/// The store of runs, with the rules of their transitions.
#[derive(Clone)]
pub struct AuditLog {
    pub store: Arc<dyn Store>,
    pub approval: ApprovalSettings,
}

/// A run that is to be opened.
#[derive(Debug, Clone)]
pub struct Beginning {
    pub request: RunRequest,
    pub delivery_id: String,
    /// The command in canonical form, and the reason.
    pub texts: BTreeMap<String, String>,
    pub plan: Option<Plan>,
    /// The requirements at the time of the request.
    pub policy: Policy,
    /// Waits for approval.
    pub asks: bool,
    /// The conversations of its cards.
    pub cards: Vec<(Conversation, CardKind)>,
    /// People who could approve it when it was requested; nobody else may later.
    pub approvers: Vec<String>,
    /// Refused if break-glass was used since then.
    pub unless_break_glass_since: Option<jiff::Timestamp>,
    /// Allowed while changes are frozen.
    pub while_frozen: bool,
}

impl AuditLog {
    /// Opens a run: pending if it asks, running otherwise.
    pub async fn open(&self, beginning: Beginning) -> StoreResult<OpenOutcome> {
        let kind = if beginning.asks { EventKind::Requested } else { EventKind::Started };
        let mut details =
            EventDetails { by: Some(beginning.request.requester.clone()), ..EventDetails::default() };
        details.texts = beginning.texts;
        if let Some(plan) = &beginning.plan {
            details.facts = json!({ "plan_sha256": plan.digest() });
            details.texts.insert("plan".to_owned(), plan.stored());
        }
        if beginning.asks {
            details.lasts = Some(beginning.policy.wait);
        }
        if beginning.asks || beginning.request.break_glass {
            details.facts["policy"] = beginning.policy.facts(&beginning.approvers);
        }
        let Some(first) = self.change(None, kind, details) else {
            return Err(crate::store::StoreError::Broken("no such beginning".to_owned()));
        };
        let acts = beginning.request.risk != Risk::Read;
        let resource_locks = beginning.plan.map(|plan| plan.resource_locks).unwrap_or_default();
        let new = NewRun {
            request: beginning.request,
            delivery_id: beginning.delivery_id,
            resource_locks,
            on_timeout: on_timeout(None, first.state),
            first,
            cards: beginning.cards,
            unless_break_glass_since: beginning.unless_break_glass_since,
            unless_frozen: acts && !beginning.while_frozen,
        };
        self.store.open(new).await
    }

    fn change(&self, from: Option<&Run>, kind: EventKind, details: EventDetails) -> Option<NewEvent> {
        let state = next(from.map(|run| run.state), kind)?;
        // Also before the supervisor has recorded the expiry.
        let late = from.and_then(|run| run.deadline).is_some_and(|until| until <= jiff::Timestamp::now());
        if late && kind == EventKind::Started {
            return None;
        }
        let lasts = match state {
            RunState::Pending => details.lasts.or(Some(self.approval.wait)),
            RunState::Approved => details.lasts.or(Some(self.approval.start_within)),
            _ => None,
        };
        // An event within a state doesn't prolong it.
        let within = from.filter(|run| run.state == state).and_then(|run| run.deadline);
        Some(NewEvent {
            kind,
            by: details.by,
            facts: details.facts,
            texts: details.texts,
            state,
            deadline: within.or(lasts.map(|lasts| jiff::Timestamp::now() + lasts)),
        })
    }

    /// Appends an event, if it is allowed in the run's state and the run has not changed meanwhile.
    /// An event that isn't allowed is answered like a lost race: with the run as it is.
    pub async fn append(
        &self,
        run: &Run,
        kind: EventKind,
        details: EventDetails,
    ) -> StoreResult<AppendOutcome> {
        self.append_unless(run, kind, details, false).await
    }

    /// As [`AuditLog::append`], refused while changes are frozen.
    pub async fn append_unless_frozen(
        &self,
        run: &Run,
        kind: EventKind,
        details: EventDetails,
    ) -> StoreResult<AppendOutcome> {
        self.append_unless(run, kind, details, true).await
    }

    /// Appends an event whatever else was recorded meanwhile; `None` if it is no longer allowed in the run's state.
    ///
    /// # Errors
    /// As [`Store::append_if`].
    pub async fn note(&self, run: RunId, kind: EventKind, details: EventDetails) -> StoreResult<Option<Run>> {
        while let Some(now) = self.store.get(run).await? {
            if next(Some(now.state), kind).is_none() {
                break;
            }
            if let AppendOutcome::Done(run) = self.append(&now, kind, details.clone()).await? {
                return Ok(Some(*run));
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

    /// Records the end of a run, whose effect is done: this is retried until the store accepts it.
    pub async fn close(&self, run: &Run, kind: EventKind, details: EventDetails) -> Run {
        let mut pause = FIRST_CLOSE_RETRY;
        let mut run = run.clone();
        loop {
            match self.append(&run, kind, details.clone()).await {
                Ok(AppendOutcome::Done(closed)) => return *closed,
                Ok(AppendOutcome::VersionConflict(now))
                    if now.version == run.version || !now.state.is_open() =>
                {
                    return *now;
                }
                Ok(AppendOutcome::VersionConflict(now)) => run = *now,
                Ok(AppendOutcome::Frozen(_) | AppendOutcome::ResourceBusy { .. }) => {}
                Err(error) => {
                    tracing::error!(run = run.id, %error, "recording run outcome failed; will retry")
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_CLOSE_RETRY);
        }
    }

    async fn append_unless(
        &self,
        run: &Run,
        kind: EventKind,
        details: EventDetails,
        unless_frozen: bool,
    ) -> StoreResult<AppendOutcome> {
        match self.change(Some(run), kind, details) {
            Some(change) => {
                let on_timeout = on_timeout(Some(run.state), change.state);
                let append = Append { run: run.id, version: run.version, change, on_timeout, unless_frozen };
                self.store.append_if(append).await
            }
            None => Ok(AppendOutcome::VersionConflict(Box::new(run.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All variants of an enum: with one missing it doesn't compile.
    macro_rules! every {
        ($of:ident: $($one:ident)+) => {{
            fn _has(one: $of) {
                match one {
                    $($of::$one => {})+
                }
            }
            [$($of::$one),+]
        }};
    }

    const STATES: [RunState; 13] = every!(RunState: Pending Approved Running Succeeded Failed Partial Stopped Interrupted Denied
        Withdrawn Revoked Expired Invalidated);

    const KINDS: [EventKind; 20] = every!(EventKind: Requested ApprovalAdded Reminded Approved Denied Withdrawn Revoked Expired
        Started Checkpoint StopRequested Resumed Succeeded Failed Partial Stopped Invalidated Interrupted TimedOut Reviewed);

    /// No event but a review follows it.
    fn is_over(state: RunState) -> bool {
        !state.is_open() && state != RunState::Interrupted
    }

    /// Every pair of state and event, so that a new one has to be thought of here; those of runs that are over are below.
    #[test]
    fn the_table_allows_exactly_these() {
        let mut allowed = Vec::new();
        for from in std::iter::once(None).chain(STATES.map(Some)) {
            for kind in KINDS.into_iter().filter(|_| !from.is_some_and(is_over)) {
                if let Some(to) = next(from, kind) {
                    let from = from.map_or("-".to_owned(), |state| format!("{state:?}"));
                    allowed.push(format!("{from} {} {to:?}", kind.as_str()));
                }
            }
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
    fn what_is_over_stays_so() {
        for state in STATES.into_iter().filter(|state| is_over(*state)) {
            for kind in KINDS {
                let to = next(Some(state), kind);
                let reviewed = (kind == EventKind::Reviewed).then_some(state);
                assert_eq!(to, reviewed, "{state:?} {}", kind.as_str());
            }
        }
    }

    /// Every transition that starts something.
    #[test]
    fn what_lets_something_start_is_stopped_when_it_is_late() {
        let mut stopped = Vec::new();
        for from in std::iter::once(None).chain(STATES.map(Some)) {
            for kind in KINDS {
                if let Some(change) = next(from, kind).and_then(|to| on_timeout(from, to)) {
                    assert_eq!(
                        (change.kind, change.state, change.by),
                        (EventKind::TimedOut, RunState::Stopped, None)
                    );
                    stopped.push(kind.as_str());
                }
            }
        }
        assert_eq!(stopped, ["requested", "started", "approved", "started", "resumed"]);
    }
}
