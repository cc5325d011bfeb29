//! Sessions for statements that PostgreSQL takes in no transaction and that may last for hours: VACUUM, ANALYZE, REINDEX
//! CONCURRENTLY. PostgreSQL's warnings are part of the result: it calls a VACUUM done that skipped the table.

use super::pool::{PooledClient, QueryError, QueryResult};
use crate::model::RunId;
use sha2::{Digest, Sha256};
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Time limit of a statement.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

const CANCEL_INTERVAL: Duration = Duration::from_secs(2);

/// A run that is over has closed its connection, and PostgreSQL notices a moment later.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The class of Countersign's advisory locks: "CSGN" in ASCII.
pub(super) const LOCK_CLASS: i32 = 0x4353_474E;

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

    /// Releases a lock of [`Self::try_advisory_lock`].
    pub async fn advisory_unlock(&self, resource: &str) -> Result<(), QueryError> {
        let rows =
            self.query("SELECT pg_advisory_unlock($1, $2)", &[&LOCK_CLASS, &lock_key(resource)]).await?;
        let was_locked = rows.first().is_some_and(|row| row.value(0) == Some(true));
        self.advisory_locks.fetch_sub(usize::from(was_locked), Ordering::SeqCst);
        Ok(())
    }

    /// Locks a resource of the database against every other Countersign instance, until [`Self::advisory_unlock`] or the
    /// connection's end: a connection with a lock isn't reused. `false`: another has the lock.
    pub async fn try_advisory_lock(&self, resource: &str) -> Result<bool, QueryError> {
        let key = lock_key(resource);
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let rows = self.query("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_CLASS, &key]).await?;
            let is_locked = rows.first().is_some_and(|row| row.value(0) == Some(true));
            if is_locked || Instant::now() >= deadline {
                self.advisory_locks.fetch_add(usize::from(is_locked), Ordering::SeqCst);
                return Ok(is_locked);
            }
            tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
        }
    }

    /// Ends this role's sessions that work for a run and hold a resource's lock: those of a process that no longer has the run. Another
    /// audit log's run of the same number has its own resource.
    pub async fn end_lock_holders(&self, resource: &str, run: RunId) -> Result<(), QueryError> {
        let sql = "SELECT pg_terminate_backend(a.pid)
                     FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid JOIN pg_database d ON d.oid = l.database
                    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND d.datname = current_database()
                      AND l.classid::int8 = $1::int4 AND l.objid::int8 = $2::int8
                      AND a.usename = session_user AND a.pid <> pg_backend_pid()
                      AND a.application_name LIKE 'countersign #' || $3::int8 || ' %'";
        // An oid has no sign.
        let key = i64::from(lock_key(resource).cast_unsigned());
        self.query(sql, &[&LOCK_CLASS, &key, &run]).await.map(|_| ())
    }
}

/// The key of a resource's advisory lock.
pub(super) fn lock_key(resource: &str) -> i32 {
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
}

impl Drop for DedicatedSession {
    fn drop(&mut self) {
        self.client.broken.store(true, Ordering::SeqCst);
    }
}
