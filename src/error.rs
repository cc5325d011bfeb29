//! The two kinds of error. A [`Error::User`] is shown as written and says what to do next; an [`Error::Internal`] is shown
//! as a reference id and logged once, in the workflow.

use futures::FutureExt;
use std::fmt;
use std::panic::AssertUnwindSafe;

/// An error, by who can fix it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The person can fix it: shown to them word for word.
    #[error("{}{}", .0.problem, .0.instead.iter().map(|line| format!(" {line}")).collect::<String>())]
    User(User),
    /// Ours or the network's: the person gets a reference id, the log gets the cause.
    #[error("{0:#}")]
    Internal(anyhow::Error),
}

/// `Result` with this crate's two kinds of error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A mistake that the person can fix, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The problem: one sentence, plain text.
    pub problem: String,
    /// The next step: a line that can be copied, or a sentence.
    pub instead: Option<String>,
}

impl Error {
    /// A mistake without a better line to offer.
    pub fn user(problem: impl Into<String>) -> Self {
        Error::User(User { problem: problem.into(), instead: None })
    }

    /// A mistake, and what to type instead.
    pub fn instead(problem: impl Into<String>, instead: impl Into<String>) -> Self {
        Error::User(User { problem: problem.into(), instead: Some(instead.into()) })
    }

    /// Adds the action that was under way, in lower case: "starting the backup of asset-service".
    pub fn context(self, action: impl fmt::Display + Send + Sync + 'static) -> Self {
        match self {
            Error::Internal(cause) => Error::Internal(cause.context(action)),
            user => user,
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(cause: anyhow::Error) -> Self {
        Error::Internal(cause)
    }
}

/// Turns a panic of the work into an internal error, so that whoever asked is answered and what was opened is closed.
pub async fn contain_panic<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // Nothing of the work is used after it panicked.
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(Error::Internal(anyhow::anyhow!("a task panicked"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_of_whoever_asked() {
        let outcome = contain_panic(async { panic!("a fault") as Result<u8> }).await;
        assert!(matches!(outcome, Err(Error::Internal(_))));
        assert!(matches!(contain_panic(async { Ok(1) }).await, Ok(1)));
        let user = contain_panic(async { Err::<u8, _>(Error::user("no")) }).await;
        assert!(matches!(user, Err(Error::User(_))));
    }
}
