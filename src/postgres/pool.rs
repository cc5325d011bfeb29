//! Borrowed connections: a bounded number per environment, idle ones kept for the next question, and every question under a
//! time limit of our own, since a server that hangs keeps no time.

use super::Address;
use super::connect::{Canceller, OpenedConnection, Unreachable};
use super::dedicated::Warnings;
use crate::config::Environment;
use crate::redact;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// Idle connections to service databases are closed after this time, so that an idle bot holds only its warm ones.
const IDLE: Duration = Duration::from_secs(300);

/// The server's own `statement_timeout` fires first; this much later we stop waiting for it.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// One open connection, its prepared statements, and its place in the budget.
pub struct Connection {
    client: Client,
    major: u32,
    prepared: Mutex<HashMap<String, Statement>>,
    /// The `application_name` that it has.
    introduced: Mutex<String>,
    permit: Option<OwnedSemaphorePermit>,
    pub(super) warnings: Warnings,
    pub(super) canceller: Canceller,
}

impl Connection {
    pub fn new(opened: OpenedConnection) -> Connection {
        let (prepared, introduced) = (Mutex::default(), Mutex::default());
        let OpenedConnection { client, major, warnings, canceller } = opened;
        Connection { client, major, prepared, introduced, permit: None, warnings, canceller }
    }
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connect: Duration,
    pub statement: Duration,
    /// For a lock, in a transaction of its own.
    pub lock: Duration,
}

impl Limits {
    pub fn of(environment: &Environment) -> Limits {
        Limits {
            connect: environment.connect_timeout,
            statement: environment.statement_timeout + GRACE,
            lock: environment.lock_timeout,
        }
    }
}

/// An environment's connections: so many may be open, idle ones included.
pub struct PoolLimit {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(Address, Connection, Instant)>>,
    waiting: AtomicUsize,
}

impl PoolLimit {
    pub fn new(connections: usize) -> Arc<PoolLimit> {
        Arc::new(PoolLimit {
            permits: Arc::new(Semaphore::new(connections.max(1))),
            idle: Mutex::default(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// An idle connection to that address, or a new one when the budget has room, closing somebody's idle one for it.
    pub async fn take<F>(
        &self,
        key: &Address,
        connect: impl FnOnce() -> F,
        patience: Duration,
    ) -> Result<Connection, Unreachable>
    where
        F: Future<Output = Result<OpenedConnection, Unreachable>>,
    {
        if let Some(found) = self.idle_for(key) {
            return Ok(found);
        }
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.close_oldest();
                let permit = tokio::time::timeout(patience, Arc::clone(&self.permits).acquire_owned()).await;
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                match permit {
                    Ok(Ok(permit)) => permit,
                    _ => {
                        return Err(Unreachable::Other(
                            "all of the bot's own connections are busy".to_owned(),
                        ));
                    }
                }
            }
        };
        let mut connection = Connection::new(connect().await?);
        connection.permit = Some(permit);
        Ok(connection)
    }

    fn idle_for(&self, key: &Address) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|(_, connection, since)| !connection.is_closed() && since.elapsed() < IDLE);
        let at = idle.iter().rposition(|(address, ..)| address == key)?;
        Some(idle.swap_remove(at).1)
    }

    fn close_oldest(&self) {
        let mut idle = self.idle.lock();
        if let Some(oldest) = (0..idle.len()).min_by_key(|at| idle[*at].2) {
            idle.swap_remove(oldest);
        }
    }

    fn give_back(&self, key: Address, connection: Connection) {
        if connection.is_closed() || self.waiting.load(Ordering::SeqCst) > 0 {
            return; // dropping it frees its permit for the one who waits
        }
        let mut idle = self.idle.lock();
        idle.push((key, connection, Instant::now()));
    }
}

enum ClientKind {
    Warm(OwnedMutexGuard<Option<Connection>>),
    Pooled { connection: Option<Box<Connection>>, key: Address, budget: Arc<PoolLimit> },
}

/// A connection for as long as a question takes.
pub struct PooledClient {
    held: ClientKind,
    pub(super) limits: Limits,
    /// As `application_name` it tells a DBA who asked. Sent with the first question, if somebody else asked before.
    name: String,
    pub(super) broken: AtomicBool,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("gave no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("closed the connection")]
    Lost,
    /// PostgreSQL's error, its text redacted.
    #[error("{message} (SQLSTATE {code})")]
    Refused { code: String, message: String },
}

impl QueryError {
    /// Whether what was asked is surely not done. A session that is ended while it commits (class 57P) may have committed.
    pub fn is_final(&self) -> bool {
        matches!(self, QueryError::Refused { code, .. } if !code.starts_with("57P"))
    }

    /// Cancelled by somebody or by a time limit (SQLSTATE 57014): what it did is undone, but for what it left outside of a transaction.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, QueryError::Refused { code, .. } if code == "57014")
    }
}

/// The rows, and the time they took.
pub type QueryResult = Result<Vec<Row>, QueryError>;

impl PooledClient {
    pub fn warm(held: OwnedMutexGuard<Option<Connection>>, limits: Limits, asker: &str) -> PooledClient {
        PooledClient::new(ClientKind::Warm(held), limits, asker)
    }

    pub fn pooled(
        connection: Connection,
        key: Address,
        budget: Arc<PoolLimit>,
        (limits, asker): (Limits, &str),
    ) -> PooledClient {
        PooledClient::new(
            ClientKind::Pooled { connection: Some(Box::new(connection)), key, budget },
            limits,
            asker,
        )
    }

    fn new(held: ClientKind, limits: Limits, asker: &str) -> PooledClient {
        let name: String =
            asker.chars().filter(|c| c.is_ascii_alphanumeric() || " #._-".contains(*c)).collect();
        PooledClient { held, limits, name: name.chars().take(63).collect(), broken: AtomicBool::new(false) }
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        match &self.held {
            ClientKind::Warm(guard) => guard.as_ref(),
            ClientKind::Pooled { connection, .. } => connection.as_deref(),
        }
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.connection().map_or(0, |connection| connection.major)
    }

    /// Asks one statement and waits no longer than the environment's statement_timeout.
    ///
    /// # Errors
    /// [`QueryError`]; after a time-out the connection is not used again.
    pub async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        self.within(self.limits.statement, self.run(sql, values)).await
    }

    /// As [`PooledClient::ask`], with a shorter limit: a server that hangs may not hold up the others' answers.
    pub async fn ask_within(
        &self,
        limit: Duration,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> QueryResult {
        self.within(limit.min(self.limits.statement), self.run(sql, values)).await
    }

    /// Runs plain statements in one transaction of their own: all or nothing.
    ///
    /// # Errors
    /// As [`PooledClient::ask`]; nothing was changed then, unless the connection was lost while it committed.
    pub async fn batch(&self, sql: &str) -> Result<(), QueryError> {
        let run = async {
            let connection = self.connection().ok_or(QueryError::Lost)?;
            self.introduce(connection).await?;
            connection.plainly(sql).await
        };
        self.within(self.limits.statement, run).await
    }

    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        // Broken until proved otherwise: a question that is dropped half-way must not leave its answer to the next asker.
        self.broken.store(true, Ordering::SeqCst);
        let result = tokio::time::timeout(limit, work).await;
        let whole = matches!(result, Ok(Ok(_) | Err(QueryError::Refused { .. })));
        self.broken.store(!whole, Ordering::SeqCst);
        result.unwrap_or(Err(QueryError::TimedOut(limit)))
    }

    /// Whether this login may see other roles' sessions. Without this right their states are NULL, and "nothing found" would
    /// be a false all-clear.
    ///
    /// # Errors
    /// As [`PooledClient::ask_within`].
    pub async fn sees_sessions(&self, limit: Duration) -> Result<bool, QueryError> {
        let ask = async { self.introduce(self.connection().ok_or(QueryError::Lost)?).await };
        self.within(limit.min(self.limits.statement), ask).await
    }

    async fn run(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        let connection = self.connection().ok_or(QueryError::Lost)?;
        let introduce = async {
            let known = *connection.introduced() == self.name;
            match known {
                true => Ok(()),
                false => self.introduce(connection).await.map(drop),
            }
        };
        // Sent in one go with the question: tokio-postgres pipelines in the order of the first polls.
        let (introduced, rows) = tokio::join!(introduce, connection.query(sql, values));
        introduced?;
        rows
    }

    /// Tells the server who asks, and hears whether the login may see other roles' sessions: one statement for both, since a
    /// warm answer consists of little else.
    pub(super) async fn introduce(&self, connection: &Connection) -> Result<bool, QueryError> {
        let sql =
            "SELECT set_config('application_name', $1, false), pg_has_role('pg_read_all_stats', 'USAGE')";
        connection.introduced().clone_from(&self.name);
        let rows =
            connection.query(sql, &[&self.name]).await.inspect_err(|_| connection.introduced().clear())?;
        Ok(rows.first().is_some_and(|row| row.get(1)))
    }
}

impl Connection {
    fn introduced(&self) -> MutexGuard<'_, String> {
        self.introduced.lock()
    }

    pub(super) async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        let statement = self.prepare(sql).await?;
        self.client.query(&statement, values).await.map_err(|error| refused(&error))
    }

    /// How many rows a statement changed.
    pub(super) async fn execute(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, QueryError> {
        let statement = self.prepare(sql).await?;
        self.client.execute(&statement, values).await.map_err(|error| refused(&error))
    }

    /// Without parameters, and outside of a transaction if it is one statement.
    pub(super) async fn plainly(&self, sql: &str) -> Result<(), QueryError> {
        self.client.batch_execute(sql).await.map_err(|error| refused(&error))
    }

    async fn prepare(&self, sql: &str) -> Result<Statement, QueryError> {
        let known = self.prepared.lock().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await.map_err(|error| refused(&error))?;
        let mut prepared = self.prepared.lock();
        prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

fn refused(error: &tokio_postgres::Error) -> QueryError {
    match error.as_db_error() {
        Some(db) => {
            QueryError::Refused { code: db.code().code().to_owned(), message: redact::text(db.message()) }
        }
        None => QueryError::Lost,
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        let broken = self.broken.load(Ordering::SeqCst);
        match &mut self.held {
            ClientKind::Warm(guard) if broken => **guard = None,
            ClientKind::Warm(_) => {}
            ClientKind::Pooled { connection, key, budget } => {
                if let Some(connection) = connection.take().filter(|_| !broken) {
                    budget.give_back(key.clone(), *connection);
                }
            }
        }
    }
}
