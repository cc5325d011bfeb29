//! The harm that a command can do.

use serde::{Deserialize, Serialize};

/// How much harm a command can do, and so who has to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
        match self {
            Risk::Read => "read",
            Risk::Write => "write",
            Risk::Danger => "danger",
        }
    }
}
