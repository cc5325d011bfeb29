//! Sessions for statements that PostgreSQL takes in no transaction and that may last for hours: VACUUM, ANALYZE, REINDEX
//! CONCURRENTLY. PostgreSQL's warnings are part of the result: it calls a VACUUM done that skipped the table.

use super::pool::{PooledClient, QueryError, QueryResult};
use super::server_message;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_postgres::error::{DbError, Severity};
use tokio_util::sync::CancellationToken;

/// Time limit of a statement.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

const CANCEL_INTERVAL: Duration = Duration::from_secs(2);

/// A run that is over has closed its connection, and PostgreSQL notices a moment later.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The class of Countersign's advisory locks: "CSGN" in ASCII.
const LOCK_CLASS: i32 = 0x4353_474E;

/// More than this is not kept: a statement that warns of every row would fill the memory.
const MAX_WARNINGS: usize = 200;

/// PostgreSQL's warnings on one connection, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Keeps a notice if it warns.
    pub(super) fn record(&self, notice: &DbError) {
        let mut warnings = self.0.lock();
        // The other severity is in the server's own language (lc_messages).
        if notice.parsed_severity() == Some(Severity::Warning) && warnings.len() < MAX_WARNINGS {
            warnings.push(server_message::warning_text(notice));
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// A client with a connection of its own, which is closed afterwards: its settings are nobody else's.
pub struct DedicatedSession {
    client: PooledClient,
    /// The backend's process id.
    pub pid: i32,
}

impl Deref for DedicatedSession {
    type Target = PooledClient;

    fn deref(&self) -> &PooledClient {
        &self.client
    }
}

impl PooledClient {
    /// Takes the connection out of the pool.
    pub async fn dedicated(self) -> Result<DedicatedSession, QueryError> {
        let mut session = DedicatedSession { client: self, pid: 0 };
        let sql = "SELECT pg_backend_pid(), set_config('statement_timeout', '0', false), set_config('lock_timeout', $1, false)";
        let lock_timeout = session.lock_timeout.as_millis().to_string();
        let rows = session.query(sql, &[&lock_timeout]).await?;
        session.pid = rows.first().ok_or(QueryError::Lost)?.get(0)?;
        Ok(session)
    }

    /// Does work over this connection, whose statements are cancelled when `stop` is: they end with
    /// [`QueryError::is_cancelled`] then, unless they were done before. A cancellation may still be on its way afterwards.
    pub async fn run_until_stopped<T>(&self, stop: &CancellationToken, work: impl Future<Output = T>) -> T {
        // Repeated as long as the work lasts: PostgreSQL forgets a cancellation that comes between two of its statements.
        let cancel = async {
            stop.cancelled().await;
            loop {
                if let Ok(connection) = self.connection()
                    && let Err(why) = connection.canceller.cancel().await
                {
                    tracing::warn!(%why, "a statement could not be cancelled");
                }
                tokio::time::sleep(CANCEL_INTERVAL).await;
            }
        };
        tokio::select! {
            done = work => done,
            never = cancel => never,
        }
    }
}

fn lock_key(resource: &str) -> i32 {
    let digest = Sha256::digest(resource.as_bytes());
    i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

impl DedicatedSession {
    /// Runs one statement to its end, and returns PostgreSQL's warnings, redacted.
    /// After any error but [`QueryError::Refused`] its outcome is unknown.
    pub async fn execute(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        let connection = self.connection()?;
        drop(connection.warnings.take());
        self.with_time_limit(LONGEST, connection.batch_execute(sql)).await?;
        Ok(connection.warnings.take())
    }

    /// As [`DedicatedSession::execute`], cancelled when `stop` is; it ends with [`QueryError::is_cancelled`] then, unless it was
    /// done before.
    pub async fn execute_until(&self, sql: &str, stop: &CancellationToken) -> QueryResult<Vec<String>> {
        self.run_until_stopped(stop, self.execute(sql)).await
    }

    /// Releases a lock of [`Self::try_advisory_lock`].
    pub async fn advisory_unlock(&self, resource: &str) -> Result<(), QueryError> {
        self.query("SELECT pg_advisory_unlock($1, $2)", &[&LOCK_CLASS, &lock_key(resource)]).await.map(drop)
    }

    /// Locks a resource of the database until the connection ends, against every other Countersign instance. `false`: another
    /// has the lock.
    pub async fn try_advisory_lock(&self, resource: &str) -> Result<bool, QueryError> {
        let key = lock_key(resource);
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let rows = self.query("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_CLASS, &key]).await?;
            let is_locked = rows.first().is_some_and(|row| row.value(0) == Some(true));
            if is_locked || Instant::now() >= deadline {
                return Ok(is_locked);
            }
            tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
        }
    }
}

impl Drop for DedicatedSession {
    fn drop(&mut self) {
        self.client.broken.store(true, Ordering::SeqCst);
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
        let startup_reply = [welcome, ready, notices.concat()].concat();
        let serving = tokio::spawn(async move {
            let mut startup = [0; 512];
            assert!(server.read(&mut startup).await.unwrap() > 0);
            server.write_all(&startup_reply).await.unwrap();
        });
        let (_client, mut connection) = Config::new().user("x").connect_raw(ours, NoTls).await.unwrap();
        let warnings = Warnings::default();
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                warnings.record(&notice);
            }
        }
        serving.await.unwrap();
        assert_eq!(warnings.take(), ["keine Berechtigung, um »?« zu vacuumen"]);
    }
}
