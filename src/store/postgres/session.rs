//! The connections of the store: each is opened when it is first needed and again after it was lost. It knows no run.

use crate::config::PostgresStoreSettings;
use crate::pg_connect::{
    self, Canceller, ClientTls, Endpoint, PgRow, SessionLimits, SessionSettings, Unreachable, condition,
};
use crate::store::StoreError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// Time limit of a connection's opening.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// An event that was confirmed is on the server's disk and on that of its synchronous standby, whatever a role, a database or the server
/// has set. `remote_apply` would add only that a standby shows it, where nothing is read.
const SYNCHRONOUS_COMMIT: &str = "on";

/// Time limits of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    /// Of a wait for a lock.
    lock: Duration,
    /// Of a transaction's wait for its next statement.
    idle: Duration,
    /// Of a statement, on the server.
    statement: Duration,
    /// A server that gives no answer for this long has lost the connection.
    answer: Duration,
}

/// Time limit of one step of a migration.
pub(super) const LONGEST_MIGRATION: Duration = Duration::from_secs(3_600);

/// Of a bot's sessions: nobody who is paused holds the head of the chain for longer than 2 s.
const BOT_LIMITS: CallLimits = CallLimits {
    lock: Duration::from_secs(2),
    idle: Duration::from_secs(2),
    statement: Duration::from_secs(8),
    answer: Duration::from_secs(9),
};

/// Of a migration of the schema, which may rewrite a large table. Running replicas queue behind a lock that it waits for: it waits as
/// briefly as they do, several times.
pub(super) const MIGRATION_LIMITS: CallLimits =
    CallLimits { statement: LONGEST_MIGRATION, answer: LONGEST_MIGRATION, ..BOT_LIMITS };

/// Of a copy: no bot waits for what it locks.
pub(super) const COPY_LIMITS: CallLimits = CallLimits {
    lock: Duration::from_secs(10),
    idle: Duration::from_secs(3_600),
    statement: Duration::from_secs(3_600),
    answer: Duration::from_secs(3_600),
};

/// The failure of a call.
#[derive(Debug, Clone)]
pub(super) enum CallError {
    /// There is no connection: nothing was sent.
    Unreachable(Unreachable),
    /// The server refused the statement with this SQLSTATE and rolled it back.
    Refused(String),
    /// The connection was lost: the statement's outcome is unknown.
    Lost,
    /// In words that hold no value and no secret.
    Message(String),
}

pub(super) type CallResult<T> = Result<T, CallError>;

impl CallError {
    /// True if the same statement may succeed in a moment: a lock wasn't free, or the transaction lost against another.
    pub fn is_passing(&self) -> bool {
        match self {
            CallError::Refused(code) => ["55P03", "57014", "40001", "40P01"].contains(&code.as_str()),
            CallError::Unreachable(_) | CallError::Lost => true,
            CallError::Message(_) => false,
        }
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> StoreError {
        StoreError::Broken(match error {
            CallError::Unreachable(reason) => format!("its server {reason}"),
            CallError::Refused(code) => format!("{} (SQLSTATE {code})", condition(&code)),
            CallError::Lost => "the connection to its server was lost".to_owned(),
            CallError::Message(words) => words,
        })
    }
}

impl From<pg_connect::ColumnError> for CallError {
    fn from(error: pg_connect::ColumnError) -> CallError {
        CallError::Message(error.to_string())
    }
}

impl From<serde_json::Error> for CallError {
    fn from(_: serde_json::Error) -> CallError {
        CallError::Message("a value in it has an unexpected form".to_owned())
    }
}

impl From<jiff::Error> for CallError {
    fn from(_: jiff::Error) -> CallError {
        CallError::Message("a time in it is out of range".to_owned())
    }
}

fn call_error(error: &tokio_postgres::Error) -> CallError {
    match error.code().map(tokio_postgres::error::SqlState::code) {
        // A session that is ended while it commits may have committed.
        Some(code) if code.starts_with("57P") || code.starts_with("08") => CallError::Lost,
        Some(code) => CallError::Refused(code.to_owned()),
        None => CallError::Lost,
    }
}

/// A backend of the server: its process id, and the time at which it began, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pub pid: i32,
    pub started_at: String,
}

/// Opens the store's connections.
pub(super) struct Connector {
    settings: PostgresStoreSettings,
    tls: ClientTls,
}

impl Connector {
    /// # Errors
    /// A certificate file can't be read.
    pub fn new(settings: PostgresStoreSettings) -> anyhow::Result<Connector> {
        Ok(Connector { tls: pg_connect::client_tls(&settings.tls)?, settings })
    }

    /// Opens a bot's session.
    pub async fn open(&self) -> CallResult<StoreSession> {
        self.open_with(BOT_LIMITS).await
    }

    pub async fn open_with(&self, limits: CallLimits) -> CallResult<StoreSession> {
        let PostgresStoreSettings { server, database, login, .. } = &self.settings;
        let endpoint = Endpoint {
            tls: &self.tls,
            server,
            database,
            credentials: login,
            timeout: CONNECT_TIMEOUT,
            shows_sessions: false,
        };
        let session_limits = SessionLimits {
            statement_timeout: limits.statement,
            lock_timeout: limits.lock,
            idle_in_transaction: limits.idle,
        };
        let settings = SessionSettings::new(session_limits, false).map_err(CallError::Unreachable)?;
        let settings = settings.with("synchronous_commit", SYNCHRONOUS_COMMIT);
        let opened = pg_connect::open(&endpoint, &settings).await.map_err(CallError::Unreachable)?;
        let mut session = StoreSession {
            client: opened.client,
            major: opened.major,
            answer_limit: limits.answer,
            statements: Mutex::default(),
            backend: Backend { pid: 0, started_at: String::new() },
            _canceller: opened.canceller,
        };
        session.check().await?;
        Ok(session)
    }
}

/// One connection, and its prepared statements.
pub(super) struct StoreSession {
    client: Client,
    pub major: u32,
    answer_limit: Duration,
    statements: Mutex<HashMap<&'static str, Statement>>,
    pub backend: Backend,
    _canceller: Canceller,
}

/// The parameters of a statement.
pub(super) type SqlParameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl StoreSession {
    /// Reads which backend this is, and refuses a server that can't hold the audit log.
    async fn check(&mut self) -> CallResult<()> {
        let sql = "SELECT pid, backend_start::text, pg_is_in_recovery(), current_setting('server_encoding'),
                          current_setting('transaction_read_only') = 'on'
                     FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let rows = self.query(sql, &[]).await?;
        let row = rows.first().ok_or(CallError::Lost)?;
        if row.get(2)? {
            return Err(CallError::Message("its server is a replica, which can't be written".to_owned()));
        }
        if row.get(4)? {
            let words = "its database can't be written: the transaction is read-only (default_transaction_read_only is on)";
            return Err(CallError::Message(words.to_owned()));
        }
        let encoding: String = row.get(3)?;
        if encoding != "UTF8" {
            return Err(CallError::Message(format!("its database has the encoding {encoding}, not UTF8")));
        }
        self.backend = Backend { pid: row.get(0)?, started_at: row.get(1)? };
        Ok(())
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs one statement in a transaction of its own. Statements of several callers are sent without a wait for each other's answers.
    pub async fn query(&self, sql: &'static str, values: SqlParameters<'_>) -> CallResult<Vec<PgRow>> {
        let call = async {
            let prepared = self.statements.lock().get(sql).cloned();
            let statement = match prepared {
                Some(statement) => statement,
                None => {
                    let statement = self.client.prepare(sql).await?;
                    self.statements.lock().insert(sql, statement.clone());
                    statement
                }
            };
            self.client.query(&statement, values).await
        };
        match tokio::time::timeout(self.answer_limit, call).await {
            Ok(Ok(rows)) => Ok(rows.into_iter().map(PgRow::from).collect()),
            Ok(Err(error)) => Err(call_error(&error)),
            Err(_) => Err(CallError::Lost),
        }
    }

    /// Runs one statement that isn't kept prepared.
    pub async fn query_text(&self, sql: &str, values: SqlParameters<'_>) -> CallResult<Vec<PgRow>> {
        match tokio::time::timeout(self.answer_limit, self.client.query(sql, values)).await {
            Ok(Ok(rows)) => Ok(rows.into_iter().map(PgRow::from).collect()),
            Ok(Err(error)) => Err(call_error(&error)),
            Err(_) => Err(CallError::Lost),
        }
    }

    /// Runs statements without parameters, in one transaction unless they say otherwise.
    pub async fn batch(&self, sql: &str) -> CallResult<()> {
        match tokio::time::timeout(self.answer_limit, self.client.batch_execute(sql)).await {
            Ok(result) => result.map_err(|error| call_error(&error)),
            Err(_) => Err(CallError::Lost),
        }
    }

    /// The system identifier of the server's data.
    ///
    /// # Errors
    /// The session ends, or may not read it.
    pub async fn system_identifier(&self) -> CallResult<String> {
        let hidden =
            "its user may not call pg_control_system(): GRANT EXECUTE ON FUNCTION pg_control_system() to it";
        let identifier = pg_connect::system_identifier(&self.client).await;
        identifier.ok_or_else(|| CallError::Message(hidden.to_owned()))
    }

    /// Ends a backend that may still be at work for a connection that was lost: afterwards it commits nothing more.
    ///
    /// # Errors
    /// It has not ended, or it can't be found out.
    pub async fn end_backend(&self, backend: &Backend) -> CallResult<()> {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE pid = $1 AND backend_start::text = $2";
        let is_there = !self.query(sql, &[&backend.pid, &backend.started_at]).await?.is_empty();
        if is_there { Err(CallError::Message("a backend is about to end".to_owned())) } else { Ok(()) }
    }
}

/// One connection at a time, opened again when it was lost.
pub(super) struct SessionSlot {
    connector: Arc<Connector>,
    session: tokio::sync::Mutex<Option<Arc<StoreSession>>>,
}

impl SessionSlot {
    pub fn new(connector: &Arc<Connector>) -> SessionSlot {
        SessionSlot { connector: Arc::clone(connector), session: tokio::sync::Mutex::default() }
    }

    /// The open connection, or a new one.
    pub async fn session(&self) -> CallResult<Arc<StoreSession>> {
        let mut current = self.session.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.connector.open().await?);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Forgets a connection that was lost.
    pub async fn discard(&self, session: &Arc<StoreSession>) {
        let mut current = self.session.lock().await;
        if current.as_ref().is_some_and(|known| Arc::ptr_eq(known, session)) {
            *current = None;
        }
    }

    /// Runs a statement once.
    pub async fn query_once(&self, sql: &'static str, values: SqlParameters<'_>) -> CallResult<Vec<PgRow>> {
        let session = self.session().await?;
        let result = session.query(sql, values).await;
        if matches!(result, Err(CallError::Lost)) {
            self.discard(&session).await;
        }
        result
    }

    /// Runs a statement that may run twice: a read, or a write that changes nothing the second time.
    pub async fn query(&self, sql: &'static str, values: SqlParameters<'_>) -> CallResult<Vec<PgRow>> {
        match self.query_once(sql, values).await {
            Err(CallError::Lost) => self.query_once(sql, values).await,
            result => result,
        }
    }
}
