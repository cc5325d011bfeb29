//! The write that follows a commit whose caller has gone: the same for every store, which only writes it.

use super::NewEvent;
use crate::model::{Run, RunId};

/// The write that follows a commit whose caller timed out.
#[derive(Debug, Clone)]
pub(super) enum Compensation {
    /// The run as it was committed, and its next event: written unless the run has changed since.
    Run { run: RunId, version: i64, event: NewEvent },
    /// A claim on a card, to be released: this process is alive and doesn't know of it, so that nobody would send the card
    /// until the claim ends.
    Claim { card: i64, claimed_by: String },
}

impl Compensation {
    /// The compensation of a commit that left `run` so.
    pub fn of_run(run: &Run, late_event: Option<&NewEvent>) -> Option<Compensation> {
        Some(Compensation::Run { run: run.id, version: run.version, event: late_event?.clone() })
    }
}

/// The result of committed work, with its compensation in case that the caller timed out.
#[derive(Debug)]
pub(super) struct Committed<T> {
    pub value: T,
    pub compensation: Option<Compensation>,
}

impl<T> From<T> for Committed<T> {
    fn from(value: T) -> Self {
        Committed { value, compensation: None }
    }
}
