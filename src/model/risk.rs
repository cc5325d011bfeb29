//! The harm that a command can do, and the login that it needs.

use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};

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

/// Purpose of a login to PostgreSQL, in the order of the names. The configuration maps it to a role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Login {
    Dump,
    Maintain,
    /// Serves every purpose but the reader's that has no login of its own.
    Operator,
    Owner,
    #[default]
    Reader,
    Signal,
}

impl Login {
    /// Every login.
    pub const ALL: [Login; 6] =
        [Login::Dump, Login::Maintain, Login::Operator, Login::Owner, Login::Reader, Login::Signal];

    /// Name in command headers and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Login::Dump => "dump",
            Login::Maintain => "maintain",
            Login::Operator => "operator",
            Login::Owner => "owner",
            Login::Reader => "reader",
            Login::Signal => "signal",
        }
    }
}

impl Display for Login {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
