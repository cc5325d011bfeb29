//! The record of a run and its transitions. One table says which event leads where; every transition is written before the
//! side effect that it allows. Who may cause an event is `access`' business, what it does is `actions`'.

use crate::access::Policy;
use crate::config::Approval;
use crate::model::transitions::next;
use crate::model::{CardKind, Conversation, EventKind, Person, Plan, Risk, Run, RunId, RunRequest, RunState};
use crate::store::{Append, AppendOutcome, NewEvent, NewRun, OpenOutcome, Store, StoreResult};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What closes a run whose way from one state to another was recorded when nobody waited for it any more. `None` if that lets
/// nothing start: an event *within* running doesn't, since that run has started long ago.
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

/// What an event says besides its name.
#[derive(Debug, Clone, Default)]
pub struct EventDetails {
    pub by: Option<Person>,
    /// Stays for ever.
    pub facts: serde_json::Value,
    /// Can be erased.
    pub texts: BTreeMap<String, String>,
    /// How long the state lasts that it leads to; otherwise as long as is usual.
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

/// The record, with the rules of its transitions.
#[derive(Clone)]
pub struct AuditLog {
    pub store: Arc<dyn Store>,
    pub approval: Approval,
}

/// How a run begins.
#[derive(Debug, Clone)]
pub struct Beginning {
    pub request: RunRequest,
    pub delivery_id: String,
    /// What was typed behind the command's name, and the reason.
    pub texts: BTreeMap<String, String>,
    pub plan: Option<Plan>,
    /// What it is asked under.
    pub policy: Policy,
    /// Waits for others.
    pub asks: bool,
    /// Where its card and its outcome are to stand.
    pub cards: Vec<(Conversation, CardKind)>,
    /// Who could approve it when it was asked: nobody who comes later may.
    pub approvers: Vec<String>,
    /// Refused if somebody acted alone since then.
    pub unless_break_glass_since: Option<jiff::Timestamp>,
    /// Not even acting while frozen is refused.
    pub while_frozen: bool,
}

impl AuditLog {
    /// Opens a run: pending if it asks, running otherwise.
    pub async fn open(&self, beginning: Beginning) -> StoreResult<OpenOutcome> {
        let happening = if beginning.asks { EventKind::Requested } else { EventKind::Started };
        let mut told =
            EventDetails { by: Some(beginning.request.requester.clone()), ..EventDetails::default() };
        told.texts = beginning.texts;
        if let Some(plan) = &beginning.plan {
            told.facts = json!({ "plan_sha256": plan.digest() });
            told.texts.insert("plan".to_owned(), plan.stored());
        }
        if beginning.asks {
            told.lasts = Some(beginning.policy.wait);
        }
        if beginning.asks || beginning.request.break_glass {
            told.facts["policy"] = beginning.policy.facts(&beginning.approvers);
        }
        let Some(first) = self.change(None, happening, told) else {
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

    fn change(&self, from: Option<&Run>, happening: EventKind, told: EventDetails) -> Option<NewEvent> {
        let state = next(from.map(|run| run.state), happening)?;
        // Whether or not the keeper has noted it yet.
        let late = from.and_then(|run| run.deadline).is_some_and(|until| until <= jiff::Timestamp::now());
        if late && happening == EventKind::Started {
            return None;
        }
        let lasts = match state {
            RunState::Pending => told.lasts.or(Some(self.approval.wait)),
            RunState::Approved => told.lasts.or(Some(self.approval.start_within)),
            _ => None,
        };
        // An event within a state doesn't prolong it.
        let within = from.filter(|run| run.state == state).and_then(|run| run.deadline);
        Some(NewEvent {
            kind: happening,
            by: told.by,
            facts: told.facts,
            texts: told.texts,
            state,
            deadline: within.or(lasts.map(|lasts| jiff::Timestamp::now() + lasts)),
        })
    }

    /// Appends what happened, if it can happen to the run as we know it and nobody was faster.
    /// An impossible event is answered like a lost race: with the run as it stands.
    pub async fn append(
        &self,
        run: &Run,
        happening: EventKind,
        told: EventDetails,
    ) -> StoreResult<AppendOutcome> {
        self.append_unless(run, happening, (told, false)).await
    }

    /// As [`AuditLog::append`], refused while acting is frozen.
    pub async fn append_unless_frozen(
        &self,
        run: &Run,
        happening: EventKind,
        told: EventDetails,
    ) -> StoreResult<AppendOutcome> {
        self.append_unless(run, happening, (told, true)).await
    }

    /// Appends what happened to a run whatever else happened meanwhile: `None` if it can't happen to it any more.
    ///
    /// # Errors
    /// As [`Store::append_if`].
    pub async fn note(
        &self,
        run: RunId,
        happening: EventKind,
        told: EventDetails,
    ) -> StoreResult<Option<Run>> {
        while let Some(now) = self.store.get(run).await? {
            if next(Some(now.state), happening).is_none() {
                break;
            }
            if let AppendOutcome::Done(run) = self.append(&now, happening, told.clone()).await? {
                return Ok(Some(*run));
            }
        }
        Ok(None)
    }

    async fn append_unless(
        &self,
        run: &Run,
        happening: EventKind,
        (told, unless_frozen): (EventDetails, bool),
    ) -> StoreResult<AppendOutcome> {
        match self.change(Some(run), happening, told) {
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

    const HAPPENINGS: [EventKind; 20] = every!(EventKind: Requested ApprovalAdded Reminded Approved Denied Withdrawn Revoked Expired
        Started Checkpoint StopRequested Resumed Succeeded Failed Partial Stopped Invalidated Interrupted TimedOut Reviewed);

    /// Nothing follows it any more.
    fn is_over(state: RunState) -> bool {
        !state.is_open() && state != RunState::Interrupted
    }

    /// Every pair of state and event, so that a new one has to be thought of here; those of runs that are over are below.
    #[test]
    fn the_table_allows_exactly_these() {
        let mut allowed = Vec::new();
        for from in std::iter::once(None).chain(STATES.map(Some)) {
            for happening in HAPPENINGS.into_iter().filter(|_| !from.is_some_and(is_over)) {
                if let Some(to) = next(from, happening) {
                    let from = from.map_or("-".to_owned(), |state| format!("{state:?}"));
                    allowed.push(format!("{from} {} {to:?}", happening.as_str()));
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
            for happening in HAPPENINGS {
                let to = next(Some(state), happening);
                let reviewed = (happening == EventKind::Reviewed).then_some(state);
                assert_eq!(to, reviewed, "{state:?} {}", happening.as_str());
            }
        }
    }

    /// Whatever the table allows, and nobody hears of.
    #[test]
    fn what_lets_something_start_is_stopped_when_it_is_late() {
        let mut stopped = Vec::new();
        for from in std::iter::once(None).chain(STATES.map(Some)) {
            for happening in HAPPENINGS {
                if let Some(change) = next(from, happening).and_then(|to| on_timeout(from, to)) {
                    assert_eq!(
                        (change.kind, change.state, change.by),
                        (EventKind::TimedOut, RunState::Stopped, None)
                    );
                    stopped.push(happening.as_str());
                }
            }
        }
        assert_eq!(stopped, ["requested", "started", "approved", "started", "resumed"]);
    }
}
