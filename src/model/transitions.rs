//! The one transition table: which event leads a run from which state to which. Who may cause an event is decided by
//! `access`; what an event does, by `actions`.

use super::RunState;
use serde::{Deserialize, Serialize};

/// What can happen to a run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// Asked for; a second person must agree.
    Requested,
    /// One of several who must.
    ApprovalAdded,
    /// Whoever could approve was told once more.
    Reminded,
    Approved,
    Denied,
    Withdrawn,
    /// An approval taken back, or overtaken, before the start.
    Revoked,
    Expired,
    /// The claim: whoever writes it, and nobody else, acts. Reads and writes begin with it.
    Started,
    /// A part of the work is done, and would not be done again: what a resumable action goes on from.
    Checkpoint,
    /// Somebody asked it to stop; what was done by then stays.
    StopRequested,
    /// The claim of a resumable action whose process is gone.
    Resumed,
    Succeeded,
    Failed,
    /// Some targets, not all.
    Partial,
    Stopped,
    /// Nothing was done, since the target is no longer what was shown.
    Invalidated,
    /// The process is gone, and with it the knowledge of what became of the effect.
    Interrupted,
    /// Written after its caller had given it up: whatever it let start is not started.
    TimedOut,
    /// Another person has looked at what somebody did alone.
    Reviewed,
}

impl EventKind {
    /// The event's name in the audit log.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The one transition table. `None` before the first event; `None` as the answer: it can't happen.
/// An `unknown` run is closed by a reconciling observation, which may find any outcome.
pub fn next(from: Option<RunState>, happening: EventKind) -> Option<RunState> {
    use EventKind as H;
    use RunState as S;
    let to = match (from, happening) {
        (None, H::Requested) => S::Pending,
        (None | Some(S::Approved), H::Started) => S::Running,
        (Some(S::Running), H::Checkpoint | H::StopRequested) => S::Running,
        (Some(S::Interrupted), H::Resumed) => S::Running,
        (Some(S::Pending), H::ApprovalAdded | H::Reminded) => S::Pending,
        (Some(S::Pending), H::Approved) => S::Approved,
        (Some(S::Pending), H::Denied) => S::Denied,
        (Some(S::Pending), H::Withdrawn) => S::Withdrawn,
        (Some(S::Approved), H::Revoked) => S::Revoked,
        (Some(S::Pending | S::Approved), H::Expired) => S::Expired,
        (Some(S::Pending | S::Approved | S::Running | S::Interrupted), H::Invalidated) => S::Invalidated,
        (Some(S::Running | S::Interrupted), H::Succeeded) => S::Succeeded,
        (Some(S::Running | S::Interrupted), H::Failed) => S::Failed,
        (Some(S::Running | S::Interrupted), H::Partial) => S::Partial,
        (Some(S::Running | S::Interrupted), H::Stopped) => S::Stopped,
        (Some(S::Running), H::Interrupted) => S::Interrupted,
        (Some(S::Pending | S::Approved | S::Running), H::TimedOut) => S::Stopped,
        (Some(over), H::Reviewed) if !over.is_open() => over,
        _ => return None,
    };
    Some(to)
}
