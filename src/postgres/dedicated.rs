//! Statements that PostgreSQL takes in no transaction and that may last for hours: VACUUM, ANALYZE, REINDEX CONCURRENTLY. They have
//! a connection of their own, without a time limit, and what PostgreSQL warns of is part of the answer: it calls a VACUUM done
//! that skipped the table.

use super::pool::{PooledClient, QueryError, QueryResult};
use super::transaction::{AccessMode, Transaction};
use crate::redact;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

/// Nothing here is meant to last longer.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

const CANCEL_EVERY: Duration = Duration::from_secs(2);

/// A run that is over has closed its connection, and PostgreSQL notices a moment later.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
const TRY_EVERY: Duration = Duration::from_millis(50);

/// The class of Countersign's advisory locks: "CSGN" in ASCII.
const LOCKS: i32 = 0x4353_474E;

/// More than this is not kept: a statement that warns of every row would fill the memory.
const MOST: usize = 200;

/// What PostgreSQL said besides its answers, on one connection, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Keeps a notice if it warns.
    pub(super) fn hear(&self, notice: &DbError) {
        let mut heard = self.0.lock();
        // The other severity is in the server's own language (lc_messages).
        if notice.parsed_severity() == Some(Severity::Warning) && heard.len() < MOST {
            heard.push(redact::text(notice.message()));
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// A connection that nobody else gets afterwards: its settings are its own.
pub struct DedicatedSession {
    lease: PooledClient,
    /// The backend's process id.
    pub pid: i32,
}

impl PooledClient {
    /// Takes the connection out of the pool.
    ///
    /// # Errors
    /// As [`PooledClient::ask`].
    pub async fn alone(self) -> Result<DedicatedSession, QueryError> {
        let mut alone = DedicatedSession { lease: self, pid: 0 };
        let sql = "SELECT pg_backend_pid(), set_config('statement_timeout', '0', false), set_config('lock_timeout', $1, false),
                          set_config('search_path', 'pg_catalog, pg_temp', false)";
        let lock = alone.lease.limits.lock.as_millis().to_string();
        let rows = alone.lease.ask(sql, &[&lock]).await?;
        alone.pid = rows.first().map_or(0, |row| row.get(0));
        Ok(alone)
    }

    /// Does work over this connection, whose statements are cancelled when `stop` says so: they end with
    /// [`QueryError::is_cancelled`] then, unless they were done before. A cancellation may still be on its way afterwards.
    pub async fn until<T>(&self, stop: &CancellationToken, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.cancel_at(stop) => match never {},
        }
    }

    /// Asked again as long as the work goes on: PostgreSQL forgets a cancellation that comes between two of its statements.
    async fn cancel_at(&self, stop: &CancellationToken) -> Infallible {
        stop.cancelled().await;
        loop {
            if let Some(connection) = self.connection()
                && let Err(why) = connection.canceller.cancel().await
            {
                tracing::warn!(%why, "a statement could not be cancelled");
            }
            tokio::time::sleep(CANCEL_EVERY).await;
        }
    }
}

impl DedicatedSession {
    /// For what asks a [`PooledClient`].
    pub fn lease(&self) -> &PooledClient {
        &self.lease
    }

    pub async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        self.lease.ask(sql, values).await
    }

    /// As [`PooledClient::begin`], on the connection that holds the resource.
    ///
    /// # Errors
    /// As [`PooledClient::begin`].
    pub async fn begin(&self, access: AccessMode, limit: Duration) -> Result<Transaction<'_>, QueryError> {
        self.lease.begin(access, limit).await
    }

    /// The environment's, for work in transactions.
    pub fn statement_timeout(&self) -> Duration {
        self.lease.statement_timeout()
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

    /// As [`DedicatedSession::run`], cancelled when `stop` says so; it ends with [`QueryError::is_cancelled`] then, unless it was done before.
    ///
    /// # Errors
    /// As [`DedicatedSession::run`].
    pub async fn run_until(&self, sql: &str, stop: &CancellationToken) -> Result<Vec<String>, QueryError> {
        self.lease.until(stop, self.run(sql)).await
    }

    /// Holds a resource of the database until the connection ends, against every other Countersign that works there. `false`:
    /// another holds it.
    ///
    /// # Errors
    /// As [`PooledClient::ask`].
    pub async fn hold(&self, resource: &str) -> Result<bool, QueryError> {
        let digest = Sha256::digest(resource.as_bytes());
        let key = i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let until = Instant::now() + CLOSED_WITHIN;
        loop {
            let rows = self.ask("SELECT pg_try_advisory_lock($1, $2)", &[&LOCKS, &key]).await?;
            let held = rows.first().is_some_and(|row| row.get(0));
            if held || Instant::now() >= until {
                return Ok(held);
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }
}

impl Drop for DedicatedSession {
    fn drop(&mut self) {
        self.lease.broken.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_postgres::{AsyncMessage, Config, NoTls};

    /// A message of PostgreSQL's protocol.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    /// A notice as a server says it in its own language, and as programs read it.
    fn notice(said: &str, severity: &str, text: &str) -> Vec<u8> {
        message(b'N', format!("S{said}\0V{severity}\0C01000\0M{text}\0\0").as_bytes())
    }

    #[tokio::test]
    async fn a_warning_is_heard_in_every_language() {
        let (ours, mut server) = tokio::io::duplex(4096);
        let (welcome, ready) = (message(b'R', &0_u32.to_be_bytes()), message(b'Z', b"I"));
        let notices = [
            notice("WARNUNG", "WARNING", "keine Berechtigung, um »assets« zu vacuumen"),
            notice("HINWEIS", "NOTICE", "Tabelle existiert nicht, wird übersprungen"),
        ];
        let said = [welcome, ready, notices.concat()].concat();
        let serving = tokio::spawn(async move {
            let mut startup = [0; 512];
            assert!(server.read(&mut startup).await.unwrap() > 0);
            server.write_all(&said).await.unwrap();
        });
        let (_client, mut connection) = Config::new().user("x").connect_raw(ours, NoTls).await.unwrap();
        let heard = Warnings::default();
        while let Some(Ok(said)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = said {
                heard.hear(&notice);
            }
        }
        serving.await.unwrap();
        assert_eq!(heard.take(), ["keine Berechtigung, um »assets« zu vacuumen"]);
    }
}
