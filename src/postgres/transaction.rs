//! One transaction of a team's own SQL, in a session whose settings are known: names are PostgreSQL's own unless a schema stands
//! before them, so that nothing that somebody put into `public` is called in their place (CVE-2018-1058); strings and times mean
//! one thing; and the whole has a time limit.

use super::pool::{GRACE, PooledClient, QueryError, QueryResult};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    Read,
    Write,
}

/// An open transaction. Dropped without [`Transaction::commit`], it takes its connection along, and the server rolls back.
pub struct Transaction<'a> {
    lease: &'a PooledClient,
    until: Instant,
    limit: Duration,
    open: bool,
}

/// Local settings. pg_temp stands last, since it is searched first where it doesn't stand at all.
const SETTINGS: &str = "SELECT set_config('search_path', 'pg_catalog, pg_temp', true),
       set_config('standard_conforming_strings', 'on', true), set_config('TimeZone', 'UTC', true),
       set_config('DateStyle', 'ISO, YMD', true), set_config('IntervalStyle', 'postgres', true),
       set_config('lock_timeout', $1, true)";

impl PooledClient {
    /// The environment's.
    pub fn statement_timeout(&self) -> Duration {
        self.limits.statement.saturating_sub(GRACE)
    }

    /// Begins a transaction that lasts no longer than the limit.
    ///
    /// # Errors
    /// [`QueryError`]; nothing was begun then.
    pub async fn begin(&self, access: AccessMode, limit: Duration) -> Result<Transaction<'_>, QueryError> {
        let mut transaction = Transaction { lease: self, until: Instant::now() + limit, limit, open: false };
        let begin = match access {
            AccessMode::Read => "BEGIN READ ONLY",
            AccessMode::Write => "BEGIN READ WRITE",
        };
        let work = async {
            let connection = self.connection().ok_or(QueryError::Lost)?;
            // Not in the transaction: a rollback would take the name back.
            self.introduce(connection).await?;
            connection.execute(begin, &[]).await?;
            connection.query(SETTINGS, &[&self.limits.lock.as_millis().to_string()]).await
        };
        transaction.open = true;
        self.within(limit + GRACE, work).await?;
        Ok(transaction)
    }
}

impl Transaction<'_> {
    /// Asks a statement.
    ///
    /// # Errors
    /// [`QueryError`]; the transaction can only end then.
    pub async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        let connection = self.lease.connection().ok_or(QueryError::Lost)?;
        self.timed(async { connection.query(sql, values).await }).await
    }

    /// Runs a statement: how many rows it changed, or gave.
    ///
    /// # Errors
    /// As [`Transaction::ask`].
    pub async fn run(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, QueryError> {
        let connection = self.lease.connection().ok_or(QueryError::Lost)?;
        self.timed(async { connection.execute(sql, values).await }).await
    }

    /// What is left of the time is the statement's own limit.
    async fn timed<T>(&self, work: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(QueryError::TimedOut(self.limit));
        }
        let connection = self.lease.connection().ok_or(QueryError::Lost)?;
        let timed = async {
            // 0 would mean no limit.
            let milliseconds = left.as_millis().max(1).to_string();
            let set = "SELECT set_config('statement_timeout', $1, true)";
            connection.query(set, &[&milliseconds]).await?;
            work.await
        };
        self.lease.within(left + GRACE, timed).await
    }

    /// Commits. Only when PostgreSQL has said so is anything done.
    ///
    /// # Errors
    /// [`QueryError::Refused`]: a check that waited for the end failed, and nothing was changed. Any other: it is unknown.
    pub async fn commit(mut self) -> Result<(), QueryError> {
        let connection = self.lease.connection().ok_or(QueryError::Lost)?;
        let committed = self.lease.within(GRACE + self.limit, connection.execute("COMMIT", &[])).await;
        self.open = false;
        committed.map(drop)
    }

    /// Takes everything back, and leaves the connection for the next.
    pub async fn roll_back(mut self) {
        let Some(connection) = self.lease.connection() else { return };
        let rolled_back = self.lease.within(GRACE, connection.execute("ROLLBACK", &[])).await;
        self.open = rolled_back.is_err();
    }

    /// As [`Transaction::roll_back`], and nobody else gets the connection: a cancellation may still be on its way to it.
    pub async fn give_up(mut self) {
        if let Some(connection) = self.lease.connection() {
            // Refused or not, the connection's end rolls it back.
            drop(self.lease.within(GRACE, connection.execute("ROLLBACK", &[])).await);
        }
        self.open = true;
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            self.lease.broken.store(true, Ordering::SeqCst);
        }
    }
}
