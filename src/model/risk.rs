//! The harm that a command can do, and the login that it needs.

use serde::{Deserialize, Serialize};

/// The harm that a command can do, which decides if it needs an approval.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr,
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
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::IntoStaticStr,
)]
#[strum(serialize_all = "lowercase")]
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
        self.into()
    }
}
