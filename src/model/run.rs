//! A run, as the audit log has it.

use super::{ChatAccount, Conversation, EventKind, Person, Risk};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A run's number: what people type in `show 128`.
pub type RunId = i64;

/// The state of a run: the fold of its events.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray,
)]
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
    pub place: Conversation,
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
    /// Number of events so far: what `append_if` compares.
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
    /// The newest free text of that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.events.iter().rev().find_map(|event| event.texts.get(name)).map(String::as_str)
    }
}

#[cfg(test)]
impl Run {
    /// A request of ana's in a terminal, without an event.
    pub(crate) fn example(
        (command, environment): (&str, Option<&str>),
        at: Timestamp,
        state: RunState,
    ) -> Run {
        let place = Conversation::new(crate::model::PlatformKind::Terminal, "", String::new());
        let request = RunRequest {
            command: command.to_owned(),
            arguments: BTreeMap::new(),
            risk: Risk::Danger,
            environment: environment.map(str::to_owned),
            requester: Person { id: "ana".to_owned(), account: None },
            sender: None,
            place,
            command_hash: String::new(),
            config_hash: String::new(),
            break_glass: false,
        };
        let (opened_at, changed_at) = (at, at);
        Run { id: 7, version: 1, state, request, opened_at, changed_at, deadline: None, events: Vec::new() }
    }

    /// Adds an event of its first second, without a person.
    pub(crate) fn with_event(mut self, kind: EventKind, facts: serde_json::Value) -> Run {
        let (at, state) = (self.opened_at, self.state);
        self.events.push(RunEvent { seq: 1, at, kind, by: None, facts, texts: BTreeMap::new(), state });
        self
    }
}

/// The freeze that is in force: its author and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveFreeze {
    pub by: Person,
    pub at: Timestamp,
    pub reason: Option<String>,
}
