//! Pooled connections: a bounded number per environment, idle ones kept for the next query, and every query under a time limit
//! of our own, since a server that hangs doesn't enforce its own. A warm connection stays open outside the pool, one for each
//! server and login, so that the bot still answers when every slot is taken.

use super::Address;
use crate::config::Environment;
use crate::metrics::ConnectionUsage;
use crate::pg_connect::{Canceller, ColumnError, OpenedConnection, PgRow, Unreachable, Warnings, error_text};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// Idle connections to service databases are closed after this time, so that an idle bot holds only its warm connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// An approved run waits this long for a connection of ours: the reads that were first, and other runs, end sooner.
const RUN_WAIT: Duration = Duration::from_secs(60);

/// One in so many connections is kept for runs, one at least: the answers to many questions must not stop what people have agreed on.
const RUN_SHARE: usize = 4;

/// The server's own `statement_timeout` fires first; this much later we stop waiting for it.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// One open connection, its prepared statements, and its place in the budget.
pub struct Connection {
    client: Client,
    major: u32,
    /// Its server's messages are in English, as far as `lc_messages` tells.
    speaks_english: bool,
    prepared: Mutex<HashMap<String, Statement>>,
    application_name: Mutex<String>,
    _permit: Option<OwnedSemaphorePermit>,
    pub(super) warnings: Warnings,
    pub(super) canceller: Canceller,
}

impl From<OpenedConnection> for Connection {
    fn from(opened: OpenedConnection) -> Connection {
        let OpenedConnection { client, major, speaks_english, warnings, canceller } = opened;
        let (prepared, application_name) = (Mutex::default(), Mutex::default());
        Connection {
            client,
            major,
            speaks_english,
            prepared,
            application_name,
            _permit: None,
            warnings,
            canceller,
        }
    }
}

impl Connection {
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// The work that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// Answers and plans.
    Read,
    /// A run that was recorded, and approved if it had to be: it may use all connections.
    Run,
}

/// The way in which a client gets its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// From the pool, and back to it.
    Shared,
    /// A new one, which has the defaults that the database and the role have now. It is closed after its client.
    SingleUse,
}

/// The use that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionUse {
    pub priority: Priority,
    pub lifetime: Lifetime,
}

/// An environment's connections: so many may be open, idle ones included, and fewer in use by reads at once, since some are
/// kept for runs.
pub struct ConnectionPool {
    limit: usize,
    open: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    idle: Mutex<Vec<(Address, Connection, Instant)>>,
    /// Clients that wait for another's connection to be closed.
    waiting: AtomicUsize,
    /// Reads that wait for a place among them.
    waiting_reads: AtomicUsize,
}

/// A connection of the pool's, and the place among the reads of a client that reads.
pub struct Lease {
    pub connection: Connection,
    pub read: Option<OwnedSemaphorePermit>,
}

impl ConnectionPool {
    pub fn new(connections: usize) -> Arc<ConnectionPool> {
        let reserve = if connections > 1 { (connections / RUN_SHARE).max(1) } else { 0 };
        let limit = connections.max(1);
        Arc::new(ConnectionPool {
            limit,
            open: Arc::new(Semaphore::new(limit)),
            reads: Arc::new(Semaphore::new(limit - reserve)),
            idle: Mutex::default(),
            waiting: AtomicUsize::new(0),
            waiting_reads: AtomicUsize::new(0),
        })
    }

    pub fn usage(&self) -> ConnectionUsage {
        let (idle, limit) = (self.idle.lock().len(), self.limit);
        let in_use = limit.saturating_sub(self.open.available_permits()).saturating_sub(idle);
        let waiting = self.waiting.load(Ordering::SeqCst) + self.waiting_reads.load(Ordering::SeqCst);
        ConnectionUsage { in_use, idle, limit, waiting }
    }

    /// An idle connection to that address, or a new one when the budget has room, closing another address' idle connection for it.
    pub async fn take(
        &self,
        key: &Address,
        usage: ConnectionUse,
        connect: impl Future<Output = Result<Connection, Unreachable>>,
        timeout: Duration,
    ) -> Result<Lease, Unreachable> {
        let ConnectionUse { priority, lifetime } = usage;
        let limit = if priority == Priority::Run { timeout.max(RUN_WAIT) } else { timeout };
        let deadline = Instant::now() + limit;
        let read = match priority {
            Priority::Read => {
                let _waiting = WaitingClient::new(&self.waiting_reads);
                Some(permit(&self.reads, deadline).await?)
            }
            Priority::Run => None,
        };
        if lifetime == Lifetime::Shared
            && let Some(connection) = self.idle_for(key)
        {
            return Ok(Lease { connection, read });
        }
        let permit = self.room(deadline).await?;
        let connection = Connection { _permit: Some(permit), ..connect.await? };
        Ok(Lease { connection, read })
    }

    /// Room for one more connection, for which an idle one is closed.
    async fn room(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Unreachable> {
        if let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = WaitingClient::new(&self.waiting);
        self.close_oldest();
        permit(&self.open, deadline).await
    }

    fn idle_for(&self, key: &Address) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|(_, connection, since)| !connection.is_closed() && since.elapsed() < IDLE_TIMEOUT);
        let at = idle.iter().rposition(|(address, ..)| address == key)?;
        Some(idle.swap_remove(at).1)
    }

    fn close_oldest(&self) {
        let mut idle = self.idle.lock();
        if let Some(oldest) = (0..idle.len()).min_by_key(|at| idle[*at].2) {
            idle.swap_remove(oldest);
        }
    }
}

/// A client that waits, also counted out when its own caller gives up.
struct WaitingClient<'a>(&'a AtomicUsize);

impl WaitingClient<'_> {
    fn new(count: &AtomicUsize) -> WaitingClient<'_> {
        count.fetch_add(1, Ordering::SeqCst);
        WaitingClient(count)
    }
}

impl Drop for WaitingClient<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn permit(semaphore: &Arc<Semaphore>, deadline: Instant) -> Result<OwnedSemaphorePermit, Unreachable> {
    let permit = tokio::time::timeout_at(deadline.into(), Arc::clone(semaphore).acquire_owned()).await;
    let busy = || Unreachable::Other("all of the bot's own connections are busy".to_owned());
    permit.ok().and_then(Result::ok).ok_or_else(busy)
}

/// The origin of a client's connection, which gets it back.
pub(super) enum ClientKind {
    /// The server and login's connection to the maintenance database, locked for this client.
    Warm(OwnedMutexGuard<Option<Connection>>),
    Pooled {
        connection: Option<Box<Connection>>,
        key: Address,
        pool: Arc<ConnectionPool>,
        /// Given back after the connection, so that the next read finds it idle.
        _read: Option<OwnedSemaphorePermit>,
    },
}

/// A connection that returns to its pool when it is dropped, unless a transaction was begun on it.
pub struct PooledClient {
    kind: ClientKind,
    pub(super) statement_timeout: Duration,
    /// The `lock_timeout` of a transaction.
    pub(super) lock_timeout: Duration,
    /// The `application_name`, for a DBA. Sent with the first query, if another client had the connection before.
    name: String,
    pub(super) broken: AtomicBool,
    /// The connection ran code that isn't ours, and is closed in place of being reused.
    pub(super) single_use: AtomicBool,
    /// Advisory locks of the connection's session.
    pub(super) advisory_locks: AtomicUsize,
}

/// The failure of a query.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    #[error("gave no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("closed the connection")]
    Lost,
    /// PostgreSQL's error, in words for people.
    #[error("{message} (SQLSTATE {code})")]
    Refused { code: String, message: String },
    /// The statement was executed, but a value of its result isn't what its reader expects.
    #[error(transparent)]
    Unreadable(ColumnError),
}

impl From<ColumnError> for QueryError {
    fn from(error: ColumnError) -> QueryError {
        QueryError::Unreadable(error)
    }
}

impl QueryError {
    /// True if the statement surely changed nothing. A session that is ended while it commits (class 57P) may have committed.
    pub fn is_final(&self) -> bool {
        matches!(self, QueryError::Refused { code, .. } if !code.starts_with("57P"))
    }

    /// A text that can't be converted to the encoding of the database or the client: SQLSTATE 22021 or 22P05.
    pub fn is_encoding(&self) -> bool {
        matches!(self, QueryError::Refused { code, .. } if code == "22021" || code == "22P05")
    }

    /// Cancelled by somebody or by a time limit (SQLSTATE 57014): only what it left outside of a transaction remains.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, QueryError::Refused { code, .. } if code == "57014")
    }
}

/// The parameters of a statement.
pub type SqlValues<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The result of a statement, most often rows.
pub type QueryResult<T = Vec<PgRow>> = Result<T, QueryError>;

impl PooledClient {
    pub(super) fn new(kind: ClientKind, environment: &Environment, application_name: &str) -> PooledClient {
        let name = application_name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || " #._-".contains(*c))
            .take(63)
            .collect();
        let Environment { statement_timeout, lock_timeout, .. } = *environment;
        let (broken, single_use) = (AtomicBool::new(false), AtomicBool::new(false));
        let advisory_locks = AtomicUsize::new(0);
        PooledClient { kind, statement_timeout, lock_timeout, name, broken, single_use, advisory_locks }
    }

    pub(super) fn connection(&self) -> Result<&Connection, QueryError> {
        let connection = match &self.kind {
            ClientKind::Warm(guard) => guard.as_ref(),
            ClientKind::Pooled { connection, .. } => connection.as_deref(),
        };
        connection.ok_or(QueryError::Lost)
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.connection().map_or(0, |connection| connection.major)
    }

    /// Runs one statement, for no longer than the environment's statement_timeout.
    /// After a time-out the connection is not used again.
    pub async fn query(&self, sql: &str, values: SqlValues<'_>) -> QueryResult {
        self.query_within(Duration::MAX, sql, values).await
    }

    /// As [`PooledClient::query`], with a shorter limit: a server that hangs must not delay the others' answers.
    pub async fn query_within(&self, limit: Duration, sql: &str, values: SqlValues<'_>) -> QueryResult {
        let work = async {
            let connection = self.connection()?;
            let set_name = async {
                let is_named = *connection.application_name.lock() == self.name;
                if is_named { Ok(()) } else { self.set_application_name(connection).await.map(drop) }
            };
            // Sent in one go with the query: tokio-postgres pipelines in the order of the first polls.
            let (name_set, rows) = tokio::join!(set_name, connection.query(sql, values));
            name_set?;
            rows
        };
        self.with_time_limit(limit.min(self.statement_timeout + GRACE), work).await
    }

    /// Runs plain statements in one transaction of their own: all or nothing.
    /// After an error nothing was changed, unless the connection was lost while it committed.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), QueryError> {
        let work = async {
            let connection = self.connection()?;
            self.set_application_name(connection).await?;
            connection.batch_execute(sql).await
        };
        self.with_time_limit(self.statement_timeout + GRACE, work).await
    }

    pub(super) async fn with_time_limit<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        // Broken until proved otherwise: a query that is dropped half-way must not leave its answer to the next client.
        self.broken.store(true, Ordering::SeqCst);
        let result = tokio::time::timeout(limit, work).await;
        let completed = matches!(result, Ok(Ok(_) | Err(QueryError::Refused { .. })));
        self.broken.store(!completed, Ordering::SeqCst);
        result.unwrap_or(Err(QueryError::TimedOut(limit)))
    }

    /// True if this login has the privileges of `pg_read_all_stats`, which `pg_monitor` includes. Without them the states of other
    /// roles' sessions are NULL, and "nothing found" would be a false all-clear. Sets `application_name` as well.
    pub async fn has_pg_read_all_stats(&self, limit: Duration) -> Result<bool, QueryError> {
        let work = async { self.set_application_name(self.connection()?).await };
        self.with_time_limit(limit.min(self.statement_timeout + GRACE), work).await
    }

    /// Sets `application_name`, and returns true if the login has `pg_read_all_stats`: one statement for both, since the round
    /// trip is most of a short query's time.
    pub(super) async fn set_application_name(&self, connection: &Connection) -> Result<bool, QueryError> {
        let sql = "SELECT pg_catalog.set_config('application_name'::pg_catalog.text, $1::pg_catalog.text, false),
                          pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text)";
        connection.application_name.lock().clone_from(&self.name);
        let rows = connection.query(sql, &[&self.name]).await;
        let rows = rows.inspect_err(|_| connection.application_name.lock().clear())?;
        Ok(rows.first().is_some_and(|row| row.value(1) == Some(true)))
    }
}

impl Connection {
    pub(super) async fn query(&self, sql: &str, values: SqlValues<'_>) -> QueryResult {
        let statement = self.prepare(sql).await?;
        let rows = self.client.query(&statement, values).await.map_err(|error| self.query_error(&error))?;
        Ok(rows.into_iter().map(PgRow::from).collect())
    }

    /// How many rows a statement changed.
    pub(super) async fn execute(&self, sql: &str, values: SqlValues<'_>) -> Result<u64, QueryError> {
        let statement = self.prepare(sql).await?;
        self.client.execute(&statement, values).await.map_err(|error| self.query_error(&error))
    }

    /// Without parameters, and outside of a transaction if it is one statement.
    pub(super) async fn batch_execute(&self, sql: &str) -> Result<(), QueryError> {
        self.client.batch_execute(sql).await.map_err(|error| self.query_error(&error))
    }

    fn query_error(&self, error: &tokio_postgres::Error) -> QueryError {
        match error.as_db_error() {
            Some(error) => QueryError::Refused {
                code: error.code().code().to_owned(),
                message: error_text(error, self.speaks_english),
            },
            None => QueryError::Lost,
        }
    }

    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, QueryError> {
        let prepared = self.prepared.lock().get(sql).cloned();
        if let Some(statement) = prepared {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await.map_err(|error| self.query_error(&error))?;
        self.prepared.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        let broken = self.broken.load(Ordering::SeqCst)
            || self.single_use.load(Ordering::SeqCst)
            || self.advisory_locks.load(Ordering::SeqCst) > 0;
        match &mut self.kind {
            ClientKind::Warm(guard) if broken => **guard = None,
            ClientKind::Warm(_) => {}
            ClientKind::Pooled { connection, key, pool, .. } => {
                // Dropped, it frees its permit for one who waits.
                let is_unusable = |connection: &Connection| broken || connection.is_closed();
                if let Some(connection) = connection.take().filter(|connection| !is_unusable(connection))
                    && pool.waiting.load(Ordering::SeqCst) == 0
                {
                    pool.idle.lock().push((key.clone(), *connection, Instant::now()));
                }
            }
        }
    }
}
