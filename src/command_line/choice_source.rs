//! The sources of the live values that a form offers.

/// The live values that a form offers for an argument. Those of a database belong to the argument `service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "lowercase")]
pub enum ChoiceSource {
    /// Client sessions, those first that hold others up.
    Sessions,
    Servers,
    /// Tables of the service's database, the largest first.
    Tables,
    /// Its tables and indexes.
    Relations,
    /// Columns with a time of its tables.
    Columns,
    /// Its migrations, the unresolved first.
    Migrations,
    /// Files in the directory of `[sql]`.
    Files,
    /// Runs, the newest first.
    Runs,
    /// Runs that wait for an approval.
    Pending,
    /// Runs that are approved or running.
    Running,
    /// Runs without approval that nobody has reviewed.
    Unreviewed,
    /// Maintenance windows of the environment.
    Windows,
}

impl ChoiceSource {
    /// True if its values are those of a service's database.
    pub fn needs_service(self) -> bool {
        use ChoiceSource::{Columns, Migrations, Relations, Tables};
        matches!(self, Tables | Relations | Columns | Migrations)
    }

    /// True if its values are those of an environment.
    pub fn needs_environment(self) -> bool {
        use ChoiceSource::{Servers, Sessions, Windows};
        self.needs_service() || matches!(self, Sessions | Servers | Windows)
    }
}
