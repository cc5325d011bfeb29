//! The one transition table: which event leads a run from which state to which. Who may cause an event is decided by
//! `access`; what an event does, by `actions`.

use super::RunState;
use serde::{Deserialize, Serialize};

/// An event in a run's life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray,
)]
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
    Withdrawn,
    /// An approval taken back, or overtaken, before the start.
    Revoked,
    Expired,
    /// The claim: whoever writes it, and nobody else, acts. Reads and writes begin with it.
    Started,
    /// A part of the work is done: a resumable action continues from here.
    Checkpoint,
    /// Asked to stop; what was done by then stays.
    StopRequested,
    /// The claim of a resumable action whose process is gone.
    Resumed,
    Succeeded,
    Failed,
    /// Some targets, not all.
    Partial,
    Stopped,
    /// Nothing was done: the target is no longer the one that was shown.
    Invalidated,
    /// The process died: the outcome is unknown.
    Interrupted,
    /// Recorded after its caller had timed out: it starts nothing.
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
pub fn next(from: Option<RunState>, event: EventKind) -> Option<RunState> {
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
        (Some(over), E::Reviewed) if !over.is_open() => over,
        _ => return None,
    };
    Some(to)
}
