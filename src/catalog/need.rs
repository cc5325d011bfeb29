//! The needs that a command's header declares: the one list from which `countersign check` and the command's own refusal are made.

use super::{Command, Header};
use crate::model::LoginKind;
use crate::toml_reader::Reader;

/// A privilege, an extension, a program or a directory that a command needs beyond a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "kebab-case")]
pub enum Need {
    /// To see other roles' sessions and statements, for the reader and for the login that signals.
    Sessions,
    /// To see the settings that PostgreSQL shows to administrators only.
    Settings,
    /// To see the sizes of WAL and of temporary files.
    DiskUse,
    /// To read every sequence.
    Sequences,
    /// To read Prisma's migration table.
    MigrationHistory,
    /// pg_stat_statements: loaded, created, and readable for the reader.
    Statements,
    /// To cancel and end other roles' sessions.
    Signal,
    /// To read every table of a database.
    AllTables,
    /// To run VACUUM, ANALYZE and REINDEX on every table.
    Maintenance,
    /// To reset pg_stat_statements for one database.
    StatementsReset,
    /// To create pg_stat_statements where it is missing.
    StatementsCreation,
    /// To write Prisma's migration table.
    MigrationRecord,
    /// To delete rows of a table.
    RowDeletion,
    /// `pg_dump` and `pg_restore` as new as the server.
    DumpProgram,
    /// The directory of the backups.
    BackupDirectory,
    /// The program and the directory of `[migrate]`.
    MigrateProgram,
    /// The directory of `[sql]`.
    SqlDirectory,
}

impl Need {
    /// The login that has it; `None` for what isn't PostgreSQL's.
    pub fn login(self) -> Option<LoginKind> {
        use Need::{
            AllTables, BackupDirectory, DiskUse, DumpProgram, Maintenance, MigrateProgram, MigrationHistory,
            MigrationRecord, RowDeletion, Sequences, Sessions, Settings, Signal, SqlDirectory, Statements,
            StatementsCreation, StatementsReset,
        };
        match self {
            Sessions | Settings | DiskUse | Sequences | MigrationHistory | Statements => {
                Some(LoginKind::Reader)
            }
            Signal => Some(LoginKind::Signal),
            AllTables => Some(LoginKind::Dump),
            Maintenance | StatementsReset => Some(LoginKind::Maintain),
            StatementsCreation | MigrationRecord | RowDeletion => Some(LoginKind::Owner),
            DumpProgram | BackupDirectory | MigrateProgram | SqlDirectory => None,
        }
    }

    /// True for what holds for a whole server; false for what differs by database.
    pub fn is_of_server(self) -> bool {
        matches!(self, Need::Sessions | Need::Settings | Need::DiskUse | Need::Signal)
    }

    /// True if a command can't do any of its work without it, whatever its arguments are.
    pub fn is_essential(self) -> bool {
        matches!(self, Need::Sessions | Need::Signal | Need::AllTables)
    }

    /// Name in headers.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Command {
    /// The needs that a login has to meet. A login that signals has to see the sessions as well.
    pub fn needs_of(&self, login: LoginKind) -> Vec<Need> {
        let Header { needs, login: own, .. } = &self.header;
        let sees = |need: Need| need == Need::Sessions && login == LoginKind::Signal && *own == login;
        needs.iter().copied().filter(|need| need.login() == Some(login) || sees(*need)).collect()
    }
}

/// Reads `needs`, which a built-in command with targets must have, even if it is empty.
pub(super) fn read(table: &mut Reader<'_>, is_required: bool) -> Vec<Need> {
    if is_required {
        table.required("needs");
    }
    let all = super::header::words::<Need>();
    let known = |word: &str| all.iter().find(|(name, _)| *name == word).map(|(_, need)| *need);
    let needs = table.checked_strings("needs", |word| {
        known(word).is_none().then(|| format!("`{word}` is nothing that a command can need"))
    });
    needs.iter().filter_map(|word| known(word)).collect()
}
