//! Prisma's migration history, read by Prisma's own rules and compared with the migrations directory. A migration is unresolved
//! while one of its rows is neither finished nor rolled back; one unresolved migration blocks every later deploy (P3009). A pending
//! migration has no row, or only rolled-back ones. Source: schema-engine/commands in prisma-engines.

use crate::model::sha256_hex;
use crate::postgres::{PooledClient, QueryError};
use crate::prisma::{self, Migration};
use serde::Deserialize;
use std::path::PathBuf;

/// Hex digits of a digest on a card: 128 bits.
const DIGEST_DIGITS: usize = 32;

/// One attempt at a migration. Times are UTC, as in JSON.
#[derive(Debug, Clone, Deserialize)]
pub struct MigrationAttempt {
    pub id: String,
    #[serde(rename = "migration_name")]
    pub name: String,
    pub checksum: String,
    pub started_at: String,
    pub finished_at: Option<String>,
    pub rolled_back_at: Option<String>,
    pub logs: Option<String>,
}

impl MigrationAttempt {
    fn is_unresolved(&self) -> bool {
        self.finished_at.is_none() && self.rolled_back_at.is_none()
    }

    fn is_applied(&self) -> bool {
        self.finished_at.is_some() && self.rolled_back_at.is_none()
    }
}

/// An unreadable migration history. Its text continues a sentence that begins with the database's name.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{0}")]
    Server(#[from] QueryError),
    #[error("has a migration history {0}, which this login may not read")]
    Unreadable(String),
    #[error(
        "has a migration history {0} that isn't read: it has a type, an index with an expression, a check or the like that Prisma \
         doesn't create, and reading it could run code of whoever did"
    )]
    Altered(String),
    #[error("has a table _prisma_migrations that is not Prisma's")]
    ForeignTable,
    #[error("can't be compared with its migrations: the migrations directory {0}")]
    Directory(String),
}

/// The attempts in the database and the migrations in the directory.
#[derive(Debug, Clone)]
pub struct MigrationHistory {
    /// The database has Prisma's table.
    pub table_exists: bool,
    attempts: Vec<MigrationAttempt>,
    /// In Prisma's order; `None` where no directory is configured.
    pub directory: Option<Vec<Migration>>,
}

impl MigrationHistory {
    /// Reads the database and the directory.
    pub async fn read(
        client: &PooledClient,
        schema: &str,
        directory: Option<&PathBuf>,
    ) -> Result<MigrationHistory, HistoryError> {
        let directory = match directory {
            Some(directory) => Some(prisma::read(directory.clone()).await.map_err(HistoryError::Directory)?),
            None => None,
        };
        let rows = match client.query(include_str!("migration_history.sql"), &[&schema]).await {
            // A column or a function for it is missing.
            Err(QueryError::Refused { code, .. }) if code == "42703" || code == "42883" => {
                return Err(HistoryError::ForeignTable);
            }
            rows => rows?,
        };
        let Some(row) = rows.first() else {
            return Ok(MigrationHistory { table_exists: false, attempts: Vec::new(), directory });
        };
        if !row.is_true("readable") {
            return Err(HistoryError::Unreadable(row.value("name").unwrap_or_default()));
        }
        if row.value("altered").unwrap_or(true) {
            return Err(HistoryError::Altered(row.value("name").unwrap_or_default()));
        }
        let json = row.value::<String>("hex").and_then(|text| hex::decode(text).ok());
        let attempts =
            json.and_then(|json| serde_json::from_slice(&json).ok()).ok_or(HistoryError::ForeignTable)?;
        Ok(MigrationHistory { table_exists: true, attempts, directory })
    }

    /// Digest of the history's rows.
    pub fn digest(&self) -> String {
        let mut rows = String::new();
        for attempt in &self.attempts {
            let MigrationAttempt { id, name, checksum, started_at, finished_at, rolled_back_at, .. } =
                attempt;
            rows += &format!("{id}\0{name}\0{checksum}\0{started_at}\0{finished_at:?}\0{rolled_back_at:?}\n");
        }
        sha256_hex(&[rows.as_bytes()])[..DIGEST_DIGITS].to_owned()
    }

    /// Digest of the directory's names and contents.
    pub fn directory_digest(&self) -> Option<String> {
        self.directory.as_deref().map(|directory| prisma::digest(directory)[..DIGEST_DIGITS].to_owned())
    }

    fn attempts_for<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a MigrationAttempt> {
        self.attempts.iter().filter(move |attempt| attempt.name == name)
    }

    pub fn is_applied(&self, name: &str) -> bool {
        self.attempts_for(name).any(MigrationAttempt::is_applied) && !self.is_unresolved(name)
    }

    pub fn is_unresolved(&self, name: &str) -> bool {
        self.attempts_for(name).any(MigrationAttempt::is_unresolved)
    }

    pub fn was_rolled_back(&self, name: &str) -> bool {
        self.attempts_for(name).any(|attempt| attempt.rolled_back_at.is_some())
    }

    /// Tells if one of its attempts was finished: Prisma then refuses to mark it as applied.
    pub fn was_finished(&self, name: &str) -> bool {
        self.attempts_for(name).any(|attempt| attempt.finished_at.is_some())
    }

    /// Names of the matching attempts, each once, in the order of their start.
    fn names(&self, predicate: impl Fn(&MigrationAttempt) -> bool) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for attempt in self.attempts.iter().filter(|attempt| predicate(attempt)) {
            if !names.contains(&attempt.name.as_str()) {
                names.push(&attempt.name);
            }
        }
        names
    }

    pub fn applied_names(&self) -> Vec<&str> {
        let mut names = self.names(MigrationAttempt::is_applied);
        names.retain(|name| !self.is_unresolved(name));
        names
    }

    /// The first attempt that blocks deploys, if any.
    pub fn first_unresolved(&self) -> Option<&MigrationAttempt> {
        self.attempts.iter().find(|attempt| attempt.is_unresolved())
    }

    /// `None` where no directory is configured.
    pub fn pending_names(&self) -> Option<Vec<&str>> {
        let names = self.directory.as_ref()?.iter().map(|migration| migration.name.as_str());
        Some(names.filter(|name| !self.is_applied(name) && !self.is_unresolved(name)).collect())
    }

    /// Applied migrations whose file has changed since.
    pub fn edited_names(&self) -> Vec<&str> {
        let is_edited = |migration: &&Migration| {
            let mut applied = self.attempts_for(&migration.name).filter(|attempt| attempt.is_applied());
            applied.any(|attempt| !migration.checksums.contains(&attempt.checksum))
        };
        let edited = self.directory.iter().flatten().filter(is_edited);
        edited.map(|migration| migration.name.as_str()).collect()
    }

    /// Applied migrations that are not in the directory, where one is configured.
    pub fn missing_files(&self) -> Vec<&str> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let mut names = self.applied_names();
        names.retain(|name| !directory.iter().any(|migration| migration.name == *name));
        names
    }

    /// Every known name, for "did you mean".
    pub fn all_names(&self) -> Vec<&str> {
        let mut names = self.names(|_| true);
        names.extend(self.directory.iter().flatten().map(|migration| migration.name.as_str()));
        names
    }
}
