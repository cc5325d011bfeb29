//! The sources of the live values that a form offers.

/// The live values that a form offers for an argument. Those of a database belong to the argument `service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "kebab-case")]
pub enum ChoiceSource {
    /// Client sessions, those first that hold others up.
    Sessions,
    /// Those of them that run a statement.
    ActiveSessions,
    Servers,
    /// Tables of the service's database, the largest first.
    Tables,
    /// Those of them that are not partitioned.
    UnpartitionedTables,
    /// Tables with rows of their own and a column that has a date or a time.
    TablesWithTime,
    /// Its indexes, and the tables that have some.
    Relations,
    /// Columns with a time of its tables.
    Columns,
    /// Its migrations that can be resolved: the unresolved first.
    Migrations,
    /// Files in the directory of `[sql]`.
    Files,
    /// Runs, the newest first.
    Runs,
    /// Runs that wait for an approval.
    Pending,
    /// Runs that are approved, running or interrupted.
    Running,
    /// Runs without approval that nobody has reviewed.
    Unreviewed,
    /// Runs of the command itself that did not complete.
    Incomplete,
    /// Maintenance windows of the environment that are not paused.
    UnpausedWindows,
    /// Those that are.
    PausedWindows,
    /// Findings that last in the environment, as its windows that report changes have found them.
    OpenFindings,
}

impl ChoiceSource {
    /// True if its values are those of a service's database.
    pub fn needs_service(self) -> bool {
        use ChoiceSource::{Columns, Migrations, Relations, Tables, TablesWithTime, UnpartitionedTables};
        matches!(self, Tables | UnpartitionedTables | TablesWithTime | Relations | Columns | Migrations)
    }

    /// True if its values are those of an environment.
    pub fn needs_environment(self) -> bool {
        use ChoiceSource::{ActiveSessions, OpenFindings, PausedWindows, Servers, Sessions, UnpausedWindows};
        self.needs_service()
            || matches!(
                self,
                Sessions | ActiveSessions | Servers | UnpausedWindows | PausedWindows | OpenFindings
            )
    }
}
