//! Statements that PostgreSQL takes in no transaction and that may last for hours: VACUUM, ANALYZE, REINDEX CONCURRENTLY. They have
//! a connection of their own, without a time limit, and what PostgreSQL warns of is part of the answer: it calls a VACUUM done
//! that skipped the table.

use super::lease::{Asked, Lease, QueryError};
use crate::redact;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::error::DbError;
use tokio_postgres::types::ToSql;

/// Nothing here is meant to last longer.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// More than this is not kept: a statement that warns of every row would fill the memory.
const MOST: usize = 200;

/// What PostgreSQL said besides its answers, on one connection, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Keeps a notice if it warns.
    pub(super) fn hear(&self, notice: &DbError) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notice.severity() == "WARNING" && heard.len() < MOST {
            heard.push(redact::text(notice.message()));
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection that nobody else gets afterwards: its settings are its own.
pub struct Alone {
    lease: Lease,
    /// The backend's process id.
    pub pid: i32,
}

impl Lease {
    /// Takes the connection out of the pool.
    ///
    /// # Errors
    /// As [`Lease::ask`].
    pub async fn alone(self) -> Result<Alone, QueryError> {
        let mut alone = Alone { lease: self, pid: 0 };
        let sql = "SELECT pg_backend_pid(), set_config('statement_timeout', '0', false), set_config('lock_timeout', $1, false),
                          set_config('search_path', 'pg_catalog, pg_temp', false)";
        let lock = alone.lease.limits.lock.as_millis().to_string();
        let rows = alone.lease.ask(sql, &[&lock]).await?;
        alone.pid = rows.first().map_or(0, |row| row.get(0));
        Ok(alone)
    }
}

impl Alone {
    pub async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Asked {
        self.lease.ask(sql, values).await
    }

    /// Runs one statement to its end: what PostgreSQL warned of, redacted.
    ///
    /// # Errors
    /// [`QueryError`]; after anything but [`QueryError::Refused`] nobody knows what became of it.
    pub async fn run(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        let connection = self.lease.connection().ok_or(QueryError::Lost)?;
        drop(connection.warnings.take());
        self.lease.within(LONGEST, connection.plainly(sql)).await?;
        Ok(connection.warnings.take())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.lease.broken.store(true, Ordering::SeqCst);
    }
}
