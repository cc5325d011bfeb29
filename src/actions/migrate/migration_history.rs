//! Prisma's ledger, by Prisma's own rules, beside the directory of migrations. A migration is open while one of its rows is
//! neither finished nor rolled back, and one open migration makes every later deploy refuse (P3009). One that is to come has no
//! row but rolled-back ones. Source: schema-engine/commands in prisma-engines.

use crate::model::sha256_hex;
use crate::postgres::{DedicatedSession, PooledClient, QueryError, QueryResult};
use crate::prisma::{self, Migration};
use serde::Deserialize;
use std::path::PathBuf;
use tokio_postgres::types::ToSql;

/// Hex digits of a digest on a card: 128 bits.
const DIGEST: usize = 32;

/// Two ways to ask: with a borrowed connection, and with one's own.
pub enum Executor<'a> {
    PooledClient(&'a PooledClient),
    DedicatedSession(&'a DedicatedSession),
}

impl Executor<'_> {
    pub async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        match self {
            Executor::PooledClient(lease) => lease.ask(sql, values).await,
            Executor::DedicatedSession(alone) => alone.ask(sql, values).await,
        }
    }
}

/// One attempt at a migration. Times as JSON has them, in UTC.
#[derive(Debug, Clone, Deserialize)]
pub struct MigrationAttempt {
    pub id: String,
    pub migration_name: String,
    pub checksum: String,
    pub started_at: String,
    pub finished_at: Option<String>,
    pub rolled_back_at: Option<String>,
    pub logs: Option<String>,
}

impl MigrationAttempt {
    fn is_open(&self) -> bool {
        self.finished_at.is_none() && self.rolled_back_at.is_none()
    }

    fn is_applied(&self) -> bool {
        self.finished_at.is_some() && self.rolled_back_at.is_none()
    }
}

/// Why there is nothing to tell. `Display` follows the database's name.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{0}")]
    Server(#[from] QueryError),
    #[error("has Prisma's ledger {0}, which this login may not read")]
    Unreadable(String),
    #[error("has a table _prisma_migrations that is not Prisma's")]
    NotPrismas,
    #[error("has migrations here that can't be compared: the migrations directory {0}")]
    Directory(String),
}

/// What is applied, what is open and what is to come.
#[derive(Debug, Clone)]
pub struct MigrationHistory {
    /// There is a ledger at all.
    pub has_ledger: bool,
    attempts: Vec<MigrationAttempt>,
    /// In Prisma's order; `None` where no directory is configured.
    pub directory: Option<Vec<Migration>>,
}

impl MigrationHistory {
    /// Asks the database, and reads the directory.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn read(
        asker: &Executor<'_>,
        schema: &str,
        directory: Option<&PathBuf>,
    ) -> Result<MigrationHistory, HistoryError> {
        let directory = match directory {
            Some(directory) => Some(prisma::read(directory.clone()).await.map_err(HistoryError::Directory)?),
            None => None,
        };
        let rows = match asker.ask(include_str!("migration_history.sql"), &[&schema]).await {
            // A column or a function for it is missing.
            Err(QueryError::Refused { code, .. }) if code == "42703" || code == "42883" => {
                return Err(HistoryError::NotPrismas);
            }
            rows => rows?,
        };
        let Some(row) = rows.first() else {
            return Ok(MigrationHistory { has_ledger: false, attempts: Vec::new(), directory });
        };
        if !row.get::<_, Option<bool>>("readable").unwrap_or(false) {
            return Err(HistoryError::Unreadable(row.get("name")));
        }
        let json = row.get::<_, Option<String>>("hex").and_then(|text| hex::decode(text).ok());
        let attempts = json.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(MigrationHistory {
            has_ledger: true,
            attempts: attempts.ok_or(HistoryError::NotPrismas)?,
            directory,
        })
    }

    /// Of the ledger's rows.
    pub fn ledger_digest(&self) -> String {
        let rows = self.attempts.iter().map(|attempt| {
            let MigrationAttempt {
                id,
                migration_name,
                checksum,
                started_at,
                finished_at,
                rolled_back_at,
                ..
            } = attempt;
            format!("{id}\0{migration_name}\0{checksum}\0{started_at}\0{finished_at:?}\0{rolled_back_at:?}\n")
        });
        sha256_hex(&[rows.collect::<String>().as_bytes()]).chars().take(DIGEST).collect()
    }

    /// Of the directory's names and contents.
    pub fn directory_digest(&self) -> Option<String> {
        self.directory.as_deref().map(|directory| prisma::digest(directory).chars().take(DIGEST).collect())
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a MigrationAttempt> {
        self.attempts.iter().filter(move |attempt| attempt.migration_name == name)
    }

    pub fn is_applied(&self, name: &str) -> bool {
        self.of(name).any(MigrationAttempt::is_applied) && !self.is_open(name)
    }

    pub fn is_open(&self, name: &str) -> bool {
        self.of(name).any(MigrationAttempt::is_open)
    }

    pub fn was_rolled_back(&self, name: &str) -> bool {
        self.of(name).any(|attempt| attempt.rolled_back_at.is_some())
    }

    /// Whether Prisma refuses to mark it as applied: it was finished once.
    pub fn was_finished(&self, name: &str) -> bool {
        self.of(name).any(|attempt| attempt.finished_at.is_some())
    }

    pub fn is_listed(&self, name: &str) -> bool {
        self.directory.iter().flatten().any(|migration| migration.name == name)
    }

    /// Each once, in the order in which they were begun.
    fn names(&self, run_argument: impl Fn(&MigrationAttempt) -> bool) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for attempt in self.attempts.iter().filter(|attempt| run_argument(attempt)) {
            if !names.contains(&attempt.migration_name.as_str()) {
                names.push(&attempt.migration_name);
            }
        }
        names
    }

    pub fn applied(&self) -> Vec<&str> {
        let mut names = self.names(MigrationAttempt::is_applied);
        names.retain(|name| !self.is_open(name));
        names
    }

    /// The first attempt that bars the way, if any.
    pub fn open(&self) -> Option<&MigrationAttempt> {
        self.attempts.iter().find(|attempt| attempt.is_open())
    }

    /// `None` where that can't be told.
    pub fn to_come(&self) -> Option<Vec<&str>> {
        let names = self.directory.as_ref()?.iter().map(|migration| migration.name.as_str());
        Some(names.filter(|name| !self.is_applied(name) && !self.is_open(name)).collect())
    }

    /// Applied, and the file is another one now.
    pub fn edited(&self) -> Vec<&str> {
        let known = self.directory.iter().flatten();
        let edited = known.filter(|migration| {
            let mut applied = self.of(&migration.name).filter(|attempt| attempt.is_applied());
            applied.any(|attempt| !migration.checksums.contains(&attempt.checksum))
        });
        edited.map(|migration| migration.name.as_str()).collect()
    }

    /// Applied, and not in the directory.
    pub fn gone(&self) -> Vec<&str> {
        match &self.directory {
            Some(_) => self.applied().into_iter().filter(|name| !self.is_listed(name)).collect(),
            None => Vec::new(),
        }
    }

    /// Every name there is, for "did you mean".
    pub fn all_names(&self) -> Vec<&str> {
        let mut names = self.names(|_| true);
        names.extend(self.directory.iter().flatten().map(|migration| migration.name.as_str()));
        names
    }
}
