//! A run, as the audit log has it: its request, its events, and the one table of its transitions. Who may cause an event is decided
//! by `access`; what an event does, by `actions`.

use super::{ChatAccount, Conversation, Person};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strum::{Display, EnumIter, IntoStaticStr, VariantArray};

/// A run's number: what people type in `show 128`.
pub type RunId = i64;

/// The state of a run: the result of its events in order. The event of the same name tells how a run gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RunState {
    Pending,
    Approved,
    Running,
    Succeeded,
    Failed,
    Partial,
    Stopped,
    Interrupted,
    Denied,
    Withdrawn,
    Revoked,
    Expired,
    Invalidated,
}

impl RunState {
    /// The state in a word, as people read it.
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// True while the run holds its resource locks. An interrupted run holds none: most of them have ended by then. One that
    /// resumes takes them again with the event that says so.
    pub fn is_open(self) -> bool {
        matches!(self, RunState::Pending | RunState::Approved | RunState::Running)
    }

    /// True for a run that began, and may have left a part of its plan undone.
    pub fn is_incomplete(self) -> bool {
        matches!(self, RunState::Stopped | RunState::Partial | RunState::Failed | RunState::Interrupted)
    }
}

/// The part of a run that is known when it is opened and never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    pub command: String,
    /// The bound arguments by name.
    pub arguments: BTreeMap<String, String>,
    /// By the policy at the time of the request.
    pub risk: Risk,
    pub environment: Option<String>,
    pub requester: Person,
    /// The account that requested it; `None` if no person did.
    pub sender: Option<ChatAccount>,
    #[serde(rename = "place")]
    pub conversation: Conversation,
    /// SHA-256 of the command's file, in hex.
    pub command_hash: String,
    /// SHA-256 of the configuration, in hex.
    pub config_hash: String,
    /// Run by one person without approval (break-glass): another person has to review it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Position in the whole audit log, from 1.
    pub seq: i64,
    /// UTC.
    pub at: Timestamp,
    pub kind: EventKind,
    pub by: Option<Person>,
    pub facts: serde_json::Value,
    /// Free text that has not been erased.
    pub texts: BTreeMap<String, String>,
    pub state: RunState,
}

/// A run with its current state.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    /// Number of events so far: what `append_if_unchanged` compares.
    pub version: i64,
    pub state: RunState,
    pub request: RunRequest,
    pub opened_at: Timestamp,
    /// Time of its last event.
    pub changed_at: Timestamp,
    pub deadline: Option<Timestamp>,
    /// Oldest first.
    pub events: Vec<RunEvent>,
}

impl Run {
    /// The newest event of that kind.
    pub fn event(&self, kind: EventKind) -> Option<&RunEvent> {
        self.events.iter().rev().find(|event| event.kind == kind)
    }
    /// Tells whether `current`, a later state of this run, is still the work of whoever claimed it in this state: it is running, and
    /// nobody has interrupted or resumed it since.
    pub fn is_continued_by(&self, current: &Run) -> bool {
        let taken_over = [EventKind::Interrupted, EventKind::Resumed];
        current.state == RunState::Running && !self.is_followed_by(current, &taken_over)
    }

    /// Tells whether another process has resumed this run by the time of `current`, a later state of it.
    pub fn is_resumed_by(&self, current: &Run) -> bool {
        self.is_followed_by(current, &[EventKind::Resumed])
    }

    fn is_followed_by(&self, current: &Run, kinds: &[EventKind]) -> bool {
        let last = self.events.last().map(|event| event.seq);
        current.events.iter().any(|event| Some(event.seq) > last && kinds.contains(&event.kind))
    }

    /// The newest free text of that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.events.iter().rev().find_map(|event| event.texts.get(name)).map(String::as_str)
    }
}

/// The freeze that is in force: its author and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveFreeze {
    pub by: Person,
    pub at: Timestamp,
    pub reason: Option<String>,
}

/// An event in a run's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// Waits for a second person.
    Requested,
    /// One of several approvals.
    ApprovalAdded,
    /// The approvers were notified again.
    Reminded,
    Approved,
    Denied,
    /// Taken back by its requester before the decision.
    Withdrawn,
    /// The approved run won't start: stopped, frozen or interrupted before, or its approval is no longer valid.
    Revoked,
    Expired,
    /// A process' claim to execute the run: only its writer executes. First event of runs that need no approval.
    Started,
    /// A part of the work is done: a resumable action continues from here.
    Checkpoint,
    /// What a closed run reports of has changed: a finding began, changed or ended.
    Updated,
    /// Asked to stop; what was done by then stays.
    StopRequested,
    /// The claim of a resumable action whose process is gone.
    Resumed,
    Succeeded,
    Failed,
    /// Succeeded on some targets only.
    Partial,
    /// Ended early, as somebody requested.
    Stopped,
    /// Nothing was done: the target is no longer the one that was shown.
    Invalidated,
    /// The process died: the outcome is unknown.
    Interrupted,
    /// The event before was stored too late for its caller: nothing was started, and the run is closed as stopped.
    TimedOut,
    /// Another person has reviewed a break-glass run.
    Reviewed,
}

impl EventKind {
    /// The event's name in the audit log.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The one transition table. `from` is `None` before the first event; the result is `None` for an event that can't happen.
/// An interrupted run is closed by the reconciler, which may find any outcome.
pub fn next_state(from: Option<RunState>, event: EventKind) -> Option<RunState> {
    use EventKind as E;
    use RunState as S;
    let to = match (from, event) {
        (None, E::Requested) => S::Pending,
        (None | Some(S::Approved), E::Started) => S::Running,
        (Some(S::Running), E::Checkpoint | E::StopRequested) => S::Running,
        (Some(S::Interrupted), E::Resumed) => S::Running,
        (Some(S::Pending), E::ApprovalAdded | E::Reminded) => S::Pending,
        (Some(S::Pending), E::Approved) => S::Approved,
        (Some(S::Pending), E::Denied) => S::Denied,
        (Some(S::Pending), E::Withdrawn) => S::Withdrawn,
        (Some(S::Approved), E::Revoked) => S::Revoked,
        (Some(S::Pending | S::Approved), E::Expired) => S::Expired,
        (Some(S::Pending | S::Approved | S::Running | S::Interrupted), E::Invalidated) => S::Invalidated,
        (Some(S::Running | S::Interrupted), E::Succeeded) => S::Succeeded,
        (Some(S::Running | S::Interrupted), E::Failed) => S::Failed,
        (Some(S::Running | S::Interrupted), E::Partial) => S::Partial,
        (Some(S::Running | S::Interrupted), E::Stopped) => S::Stopped,
        (Some(S::Running), E::Interrupted) => S::Interrupted,
        (Some(S::Pending | S::Approved | S::Running), E::TimedOut) => S::Stopped,
        (Some(state @ (S::Succeeded | S::Failed | S::Partial)), E::Updated) => state,
        (Some(closed), E::Reviewed) if !closed.is_open() => closed,
        _ => return None,
    };
    Some(to)
}

/// The harm that a command can do, which decides if it needs an approval.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr, EnumIter,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Risk {
    /// Answers at once.
    Read,
    /// Runs at once and is recorded.
    Write,
    /// Waits for a second person.
    Danger,
}

impl Risk {
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// Purpose of a login to PostgreSQL, in the order of the names. The configuration maps it to a role.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Display, IntoStaticStr, EnumIter,
)]
#[strum(serialize_all = "lowercase")]
pub enum LoginKind {
    Dump,
    Maintain,
    /// Used for every purpose without a login of its own, except `Reader`.
    Operator,
    Owner,
    #[default]
    Reader,
    Signal,
}

impl LoginKind {
    /// Every login.
    pub const ALL: [LoginKind; 6] = [
        LoginKind::Dump,
        LoginKind::Maintain,
        LoginKind::Operator,
        LoginKind::Owner,
        LoginKind::Reader,
        LoginKind::Signal,
    ];

    /// Name in command headers and in the configuration.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
impl Run {
    /// A request of ana's in a terminal, after one event, which is not included.
    pub fn example((command, environment): (&str, Option<&str>), at: Timestamp, state: RunState) -> Run {
        let request = RunRequest {
            command: command.to_owned(),
            arguments: BTreeMap::new(),
            risk: Risk::Danger,
            environment: environment.map(str::to_owned),
            requester: Person { id: "ana".to_owned(), account: None },
            sender: None,
            conversation: Conversation::new(super::PlatformKind::Terminal, "", String::new()),
            command_hash: String::new(),
            config_hash: String::new(),
            break_glass: false,
        };
        let (opened_at, changed_at) = (at, at);
        Run { id: 7, version: 1, state, request, opened_at, changed_at, deadline: None, events: Vec::new() }
    }

    /// Adds an event of its first second, without a person.
    pub fn with_event(mut self, kind: EventKind, facts: serde_json::Value) -> Run {
        let (at, state) = (self.opened_at, self.state);
        let seq = 1 + self.events.last().map_or(0, |event| event.seq);
        self.events.push(RunEvent { seq, at, kind, by: None, facts, texts: BTreeMap::new(), state });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(kinds: &[EventKind]) -> Run {
        let run = Run::example(("purge", None), Timestamp::UNIX_EPOCH, RunState::Running);
        kinds.iter().fold(run, |run, kind| run.with_event(*kind, serde_json::Value::Null))
    }

    #[test]
    fn a_claim_ends_with_an_interruption_even_if_another_process_runs_it_now() {
        use EventKind::{Checkpoint, Interrupted, Requested, Resumed, Started, StopRequested};
        let claimed = running(&[Requested, Started]);
        for (later, is_continued, is_resumed) in [
            (&[][..], true, false),
            (&[Checkpoint, StopRequested], true, false),
            (&[Checkpoint, Interrupted], false, false),
            (&[Interrupted, Resumed], false, true),
            (&[Interrupted, Resumed, Checkpoint], false, true),
        ] {
            let now = running(&[&[Requested, Started], later].concat());
            assert_eq!(
                (claimed.is_continued_by(&now), claimed.is_resumed_by(&now)),
                (is_continued, is_resumed)
            );
        }
        // The process that resumed it has its own claim.
        let resumed = running(&[Started, Interrupted, Resumed]);
        assert!(resumed.is_continued_by(&resumed) && !resumed.is_resumed_by(&resumed));
        let closed = Run { state: RunState::Succeeded, ..resumed.clone() };
        assert!(!resumed.is_continued_by(&closed));
    }
}
