//! One transaction of a team's own SQL, in a session whose settings are known: names are PostgreSQL's own unless a schema stands
//! before them, so that nothing that somebody put into `public` is called in their place (CVE-2018-1058); strings and times mean
//! one thing; and the whole has a time limit.

use super::pool::{Connection, GRACE, PooledClient, QueryError, QueryResult, SqlValues};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The rights of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    Read,
    Write,
}

/// An open transaction. Dropped without [`Transaction::commit`], its connection is closed, and the server rolls back.
pub struct Transaction<'a> {
    client: &'a PooledClient,
    deadline: Instant,
    limit: Duration,
    /// True until the transaction has ended.
    discard_connection: bool,
}

/// Local settings. pg_temp is listed last: unlisted, it would be searched first.
const SETTINGS: &str = "SELECT set_config('search_path', 'pg_catalog, pg_temp', true),
       set_config('standard_conforming_strings', 'on', true), set_config('TimeZone', 'UTC', true),
       set_config('DateStyle', 'ISO, YMD', true), set_config('IntervalStyle', 'postgres', true),
       set_config('lock_timeout', $1, true)";

impl PooledClient {
    /// The environment's time limit of a statement.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// Begins a transaction that lasts no longer than the limit.
    /// After an error nothing was begun.
    pub async fn begin(&self, access: AccessMode, limit: Duration) -> Result<Transaction<'_>, QueryError> {
        let transaction =
            Transaction { client: self, deadline: Instant::now() + limit, limit, discard_connection: true };
        let begin = match access {
            AccessMode::Read => "BEGIN READ ONLY",
            AccessMode::Write => "BEGIN READ WRITE",
        };
        let work = async {
            let connection = self.connection()?;
            // Not in the transaction: a rollback would take the name back.
            self.set_application_name(connection).await?;
            connection.execute(begin, &[]).await?;
            connection.query(SETTINGS, &[&self.lock_timeout.as_millis().to_string()]).await
        };
        self.with_time_limit(limit + GRACE, work).await?;
        Ok(transaction)
    }
}

impl Transaction<'_> {
    /// Runs a query. After an error the transaction can only end.
    pub async fn query(&self, sql: &str, values: SqlValues<'_>) -> QueryResult {
        let connection = self.client.connection()?;
        self.timed(connection, connection.query(sql, values)).await
    }

    /// Runs a statement, and returns the number of rows that it changed or gave. Errors as [`Transaction::query`].
    pub async fn execute(&self, sql: &str, values: SqlValues<'_>) -> Result<u64, QueryError> {
        let connection = self.client.connection()?;
        self.timed(connection, connection.execute(sql, values)).await
    }

    /// The remaining time is the statement's own limit.
    async fn timed<T>(
        &self,
        connection: &Connection,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(QueryError::TimedOut(self.limit));
        }
        let timed = async {
            // 0 would mean no limit.
            let milliseconds = remaining.as_millis().max(1).to_string();
            let set = "SELECT set_config('statement_timeout', $1, true)";
            connection.query(set, &[&milliseconds]).await?;
            work.await
        };
        self.client.with_time_limit(remaining + GRACE, timed).await
    }

    /// Commits. A change counts as made only after this returned `Ok`.
    /// After [`QueryError::Refused`] a deferred check failed, and nothing was changed; after any other the outcome is unknown.
    pub async fn commit(mut self) -> Result<(), QueryError> {
        let connection = self.client.connection()?;
        let committed =
            self.client.with_time_limit(GRACE + self.limit, connection.execute("COMMIT", &[])).await;
        self.discard_connection = false;
        committed.map(drop)
    }

    /// Rolls back, and leaves the connection to the next client.
    pub async fn roll_back(mut self) {
        let Ok(connection) = self.client.connection() else { return };
        let rolled_back = self.client.with_time_limit(GRACE, connection.execute("ROLLBACK", &[])).await;
        self.discard_connection = rolled_back.is_err();
    }

    /// As [`Transaction::roll_back`], and closes the connection: a cancellation may still arrive on it.
    pub async fn discard(mut self) {
        if let Ok(connection) = self.client.connection() {
            // Refused or not, the connection's end rolls it back.
            drop(self.client.with_time_limit(GRACE, connection.execute("ROLLBACK", &[])).await);
        }
        self.discard_connection = true;
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.discard_connection {
            self.client.broken.store(true, Ordering::SeqCst);
        }
    }
}
