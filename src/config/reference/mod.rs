//! The reference of the configuration: every key with its type, bounds and default, as data. docs/configuration.md and the JSON schema
//! for editors are made from it, and the tests hold it against the reader.

use std::time::Duration;

mod metrics;
mod redis;
mod render;
mod schedule;
mod sections;

pub use render::{markdown, schema};
pub use sections::SECTIONS;

/// The type of a key's value, with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyType {
    Text,
    Path,
    Boolean,
    /// More than nothing and at most this.
    Duration(Duration),
    /// At most this, or `0s`.
    Pause(Duration),
    /// From 1 to this.
    Count(u16),
    Choice(&'static [&'static str]),
    Texts,
    /// `{ env = "VARIABLE" }` or `{ file = "path" }`.
    Secret,
    Secrets,
    /// A table of texts with names of the team's own as keys.
    TextMap,
    /// A table of texts or secrets.
    Variables,
    /// A table of commands, each with a table of columns, each with `warning` and `critical`.
    Thresholds,
}

/// One key of a section.
#[derive(Debug, Clone, Copy)]
pub struct ConfigKey {
    pub name: &'static str,
    pub kind: KeyType,
    pub is_required: bool,
    /// The value where the key is absent; empty for none.
    pub default: DefaultValue,
    /// A sentence.
    pub meaning: &'static str,
}

/// The value of an absent key.
#[derive(Debug, Clone, Copy)]
pub enum DefaultValue {
    None,
    Text(&'static str),
    Time(Duration),
    Number(usize),
}

/// A table of the file, or each table of an array.
#[derive(Debug, Clone, Copy)]
pub struct ConfigSection {
    /// Dotted; empty for the top of the file.
    pub path: &'static str,
    /// Written with double brackets, once for each entry.
    pub is_array: bool,
    pub is_required: bool,
    /// A sentence.
    pub meaning: &'static str,
    pub keys: &'static [ConfigKey],
}
