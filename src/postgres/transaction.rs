//! One transaction of SQL that isn't ours, or that calls code which isn't: a team's own, and statements that fire the triggers of
//! an application's table. Names in it are PostgreSQL's own unless a schema stands before them, whatever ran before; strings and
//! times mean one thing; and the whole has a time limit. Its session is closed afterwards: settings, advisory locks, temporary
//! tables, prepared statements and cursors outlive a transaction.

use super::PgRow;
use super::dedicated::{LOCK_CLASS, lock_key};
use super::pool::{Connection, GRACE, PooledClient, QueryError, QueryResult, SqlValues};
use crate::pg_connect::SEARCH_PATH;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The rights of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    Read,
    Write,
    /// Writes and is never committed: for temporary objects that are rolled back, by logins that are read-only by default, too.
    Scratch,
}

/// A statement with its parameters.
#[derive(Clone, Copy)]
pub struct BoundSql<'a> {
    pub sql: &'a str,
    pub values: SqlValues<'a>,
}

/// An open transaction. Its connection is closed with its client: without [`Transaction::commit`] the server rolls back then.
pub struct Transaction<'a> {
    client: &'a PooledClient,
    deadline: Instant,
    limit: Duration,
}

/// Local settings, which the code that ran before in this session can't have changed.
const SETTINGS: &str =
    "SELECT pg_catalog.set_config('search_path'::pg_catalog.text, $1::pg_catalog.text, true),
       pg_catalog.set_config('lock_timeout'::pg_catalog.text, $2::pg_catalog.text, true),
       pg_catalog.set_config('standard_conforming_strings'::pg_catalog.text, 'on'::pg_catalog.text, true),
       pg_catalog.set_config('TimeZone'::pg_catalog.text, 'UTC'::pg_catalog.text, true),
       pg_catalog.set_config('DateStyle'::pg_catalog.text, 'ISO, YMD'::pg_catalog.text, true),
       pg_catalog.set_config('IntervalStyle'::pg_catalog.text, 'postgres'::pg_catalog.text, true),
       pg_catalog.set_config('row_security'::pg_catalog.text, 'on'::pg_catalog.text, true),
       pg_catalog.current_setting('default_transaction_read_only'::pg_catalog.text) AS default_transaction_read_only";

const READ_ONLY_COLUMN: &str = "default_transaction_read_only";

/// Follows the server's name.
pub const READ_ONLY: &str = "is read-only for this login (default_transaction_read_only), as Azure makes it before its storage is full";

/// Settings of one statement.
const STATEMENT_SETTINGS: &str =
    "SELECT pg_catalog.set_config('statement_timeout'::pg_catalog.text, $1::pg_catalog.text, true),
       pg_catalog.set_config('search_path'::pg_catalog.text, $2::pg_catalog.text, true)";

impl PooledClient {
    /// The environment's time limit of a statement.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// Begins a transaction that lasts no longer than the limit. Its session is not used again by others. Where transactions are
    /// read-only by default, one that writes is refused: BEGIN READ WRITE would override what protects a server's storage.
    /// After an error nothing was begun.
    pub async fn begin(&self, access: AccessMode, limit: Duration) -> Result<Transaction<'_>, QueryError> {
        let transaction = Transaction { client: self, deadline: Instant::now() + limit, limit };
        self.single_use.store(true, Ordering::SeqCst);
        let begin = match access {
            AccessMode::Read => "BEGIN READ ONLY",
            AccessMode::Write | AccessMode::Scratch => "BEGIN READ WRITE",
        };
        let work = async {
            let connection = self.connection()?;
            // Not in the transaction: a rollback would take the name back.
            self.set_application_name(connection).await?;
            connection.execute(begin, &[]).await?;
            let lock_timeout = self.lock_timeout.as_millis().to_string();
            let settings = connection.query(SETTINGS, &[&SEARCH_PATH, &lock_timeout]).await?;
            let is_read_only =
                settings.first().and_then(|row| row.value::<String>(READ_ONLY_COLUMN)).as_deref()
                    != Some("off");
            if access == AccessMode::Write && is_read_only {
                connection.execute("ROLLBACK", &[]).await?;
                return Err(QueryError::Refused { code: "25006".to_owned(), message: READ_ONLY.to_owned() });
            }
            Ok(transaction)
        };
        self.with_time_limit(limit + GRACE, work).await
    }
}

impl Transaction<'_> {
    /// Runs a query. After an error the transaction can only end.
    pub async fn query(&self, sql: &str, values: SqlValues<'_>) -> QueryResult {
        let connection = self.client.connection()?;
        self.timed(connection, SEARCH_PATH, connection.query(sql, values)).await
    }

    /// Runs a query that fires an application's triggers, which may name its tables without a schema: `public` is on the
    /// search_path. In such a query every function and operator needs its schema.
    pub async fn query_with_public(&self, sql: &str, values: SqlValues<'_>) -> QueryResult {
        let connection = self.client.connection()?;
        self.timed(connection, "pg_catalog, public, pg_temp", connection.query(sql, values)).await
    }

    /// Runs a statement, and returns the number of rows that it changed or gave. Errors as [`Transaction::query`].
    pub async fn execute(&self, sql: &str, values: SqlValues<'_>) -> Result<u64, QueryError> {
        let connection = self.client.connection()?;
        self.timed(connection, SEARCH_PATH, connection.execute(sql, values)).await
    }

    /// Runs a query right behind a guard, in one go: `None`, and nothing was run, if the guard failed with a division by zero.
    pub async fn query_behind(
        &self,
        guard: BoundSql<'_>,
        query: BoundSql<'_>,
    ) -> Result<Option<Vec<PgRow>>, QueryError> {
        let connection = self.client.connection()?;
        self.behind(connection, guard, query.sql, connection.query(query.sql, query.values)).await
    }

    /// As [`Transaction::query_behind`]; the number of rows that the statement changed or gave.
    pub async fn execute_behind(
        &self,
        guard: BoundSql<'_>,
        statement: BoundSql<'_>,
    ) -> Result<Option<u64>, QueryError> {
        let connection = self.client.connection()?;
        self.behind(connection, guard, statement.sql, connection.execute(statement.sql, statement.values))
            .await
    }

    async fn behind<T>(
        &self,
        connection: &Connection,
        guard: BoundSql<'_>,
        sql: &str,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<Option<T>, QueryError> {
        let pipelined = async {
            // Before, so that no round trip parts the two.
            connection.prepare(guard.sql).await?;
            connection.prepare(sql).await?;
            // tokio-postgres pipelines in the order of the first polls.
            match tokio::join!(connection.query(guard.sql, guard.values), work) {
                (Err(QueryError::Refused { code, .. }), _) if code == "22012" => Ok(None),
                (guarded, worked) => guarded.and(worked.map(Some)),
            }
        };
        self.timed(connection, SEARCH_PATH, pipelined).await
    }

    /// Gives up the right to write, for the rest of the transaction.
    pub async fn set_read_only(&self) -> Result<(), QueryError> {
        self.execute("SET TRANSACTION READ ONLY", &[]).await.map(drop)
    }

    /// The remaining time is the statement's own limit. The statement before may have called a function that changed the
    /// search_path.
    async fn timed<T>(
        &self,
        connection: &Connection,
        search_path: &str,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(QueryError::TimedOut(self.limit));
        }
        let timed = async {
            // 0 would mean no limit.
            let milliseconds = remaining.as_millis().max(1).to_string();
            connection.query(STATEMENT_SETTINGS, &[&milliseconds, &search_path]).await?;
            work.await
        };
        self.client.with_time_limit(remaining + GRACE, timed).await
    }

    /// Locks a resource of the database against every other Countersign instance, until the transaction ends. Waits as long as for
    /// any lock.
    pub async fn lock(&self, resource: &str) -> Result<(), QueryError> {
        let sql = "SELECT pg_advisory_xact_lock($1::int4, $2::int4)";
        self.query(sql, &[&LOCK_CLASS, &lock_key(resource)]).await.map(drop)
    }

    /// Commits. A change counts as made only after this returned `Ok`.
    /// After [`QueryError::Refused`] a deferred check failed, and nothing was changed; after any other the outcome is unknown.
    pub async fn commit(self) -> Result<(), QueryError> {
        let connection = self.client.connection()?;
        let commit = connection.execute("COMMIT", &[]);
        self.client.with_time_limit(GRACE + self.limit, commit).await.map(drop)
    }

    /// Rolls back. Refused or not, the connection's end does it at the latest.
    pub async fn roll_back(self) {
        if let Ok(connection) = self.client.connection() {
            drop(self.client.with_time_limit(GRACE, connection.execute("ROLLBACK", &[])).await);
        }
    }
}
