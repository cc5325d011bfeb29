//! A worker: one thread, one connection, one queue. It drops work whose caller has gone before it commits, and compensates
//! a commit whose caller timed out. It does not know the work itself.

use super::connection::{DbError, DbResult, FileConnector, OpenedFile};
use super::process_lock::Instance;
use super::runs;
use crate::store::compensation::{Committed, Compensation};
use crate::store::{StoreError, StoreResult};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Calls that may wait for a worker. At a millisecond a write the last one takes the whole answer's time limit.
const QUEUE_LENGTH: usize = 10_000;

/// Wait between two attempts to write a compensation.
const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(250);

type Caller<T> = oneshot::Sender<StoreResult<Committed<T>>>;

type Job = Box<dyn FnOnce(&mut WorkerThread) + Send>;

type Compensations = Arc<Mutex<Vec<Compensation>>>;

/// Handle of the thread. When it is dropped the thread finishes its queue and ends.
pub(super) struct Worker {
    pub(super) jobs: SyncSender<Job>,
    compensations: Compensations,
    answer_timeout: Duration,
}

pub(super) struct WorkerThread {
    connector: FileConnector,
    opened: Option<OpenedFile>,
    compensations: Compensations,
    /// Keeps this instance's lock until the last write is done.
    _instance: Arc<Instance>,
}

impl Worker {
    /// Starts the thread; `opened` is its first connection, if there is one already.
    pub fn start(
        connector: FileConnector,
        opened: Option<OpenedFile>,
        instance: Arc<Instance>,
        answer_timeout: Duration,
    ) -> std::io::Result<Worker> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE_LENGTH);
        let compensations = Compensations::default();
        let name = if connector.read_only { "store-read" } else { "store-write" }.to_owned();
        let pending = Arc::clone(&compensations);
        let mut thread = WorkerThread { connector, opened, compensations: pending, _instance: instance };
        std::thread::Builder::new().name(name).spawn(move || thread.serve(&queue))?;
        Ok(Worker { jobs, compensations, answer_timeout })
    }

    /// Runs read work in one transaction, so that it sees one state of the audit log.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.call(|connection, _| Ok(Some(work(&connection.transaction()?)?.into()))).await
    }

    /// Runs work in one write transaction.
    pub async fn write<T: Send + 'static, A: Into<Committed<T>>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<A> + Send + 'static,
    ) -> StoreResult<T> {
        let work = |connection: &mut Connection, caller: &Caller<T>| {
            Ok(commit(connection, work, || caller.is_closed())?.map(A::into))
        };
        self.call(work).await
    }

    /// Runs work outside of a transaction.
    pub async fn execute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.call(|connection, _| Ok(Some(work(connection)?.into()))).await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &Caller<T>) -> DbResult<Option<Committed<T>>> + Send + 'static,
    ) -> StoreResult<T> {
        let (caller, receiver) = oneshot::channel();
        let mut call = PendingCall { receiver, worker: self };
        let job = move |thread: &mut WorkerThread| {
            if !caller.is_closed() {
                let result = thread.attempt(|connection| work(connection, &caller));
                thread.reply(caller, result);
            }
        };
        match self.jobs.try_send(Box::new(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(StoreError::Broken("too many calls wait for it".into()));
            }
            Err(TrySendError::Disconnected(_)) => return Err(thread_ended()),
        }
        let answer = match tokio::time::timeout(self.answer_timeout, &mut call.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(thread_ended()),
            Err(_) => {
                // An answer that was sent in between counts.
                call.receiver.close();
                call.receiver.try_recv().unwrap_or(Err(StoreError::TooLate))
            }
        };
        Ok(answer?.value)
    }
}

fn thread_ended() -> StoreError {
    StoreError::Broken("its thread has ended".into())
}

/// A call in progress. If it is dropped after the answer was sent, the commit needs its compensation.
struct PendingCall<'a, T> {
    receiver: oneshot::Receiver<StoreResult<Committed<T>>>,
    worker: &'a Worker,
}

impl<T> Drop for PendingCall<'_, T> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Ok(Committed { compensation: Some(compensation), .. })) = self.receiver.try_recv() {
            self.worker.compensations.lock().push(compensation);
            // Only to wake the thread: with a full queue it is awake.
            let _ = self.worker.jobs.try_send(Box::new(|_| {}));
        }
    }
}

impl WorkerThread {
    fn serve(&mut self, queue: &Receiver<Job>) {
        loop {
            let job = if self.compensations.lock().is_empty() {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(STORE_RETRY_INTERVAL)
            };
            self.write_compensations();
            match job {
                Ok(job) => job(self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Sends the answer, if there is one, and compensates it if the caller has gone meanwhile.
    pub(super) fn reply<T>(&mut self, caller: Caller<T>, result: DbResult<Option<Committed<T>>>) {
        let Some(answer) = result.map_err(StoreError::from).transpose() else { return };
        if let Err(Ok(Committed { compensation: Some(compensation), .. })) = caller.send(answer) {
            self.compensations.lock().push(compensation);
            self.write_compensations();
        }
    }

    /// Writes the pending compensations. One that can't be written now is tried again, before the next job.
    fn write_compensations(&mut self) {
        let mut pending = std::mem::take(&mut *self.compensations.lock()).into_iter();
        while let Some(compensation) = pending.next() {
            let compensate = |transaction: &Transaction<'_>| runs::compensate(transaction, &compensation);
            if self.attempt(|connection| commit(connection, compensate, || false)).is_err() {
                // The same obstacle would delay the others: each would wait for the lock again.
                self.compensations.lock().extend(std::iter::once(compensation).chain(pending));
                return;
            }
        }
    }

    /// Runs work on a connection to the current file, and drops a connection that may be damaged.
    pub(super) fn attempt<T>(&mut self, work: impl FnOnce(&mut Connection) -> DbResult<T>) -> DbResult<T> {
        if self.opened.as_ref().is_some_and(|opened| !self.connector.still_names(opened)) {
            self.opened = None;
        }
        let opened = match &mut self.opened {
            Some(opened) => opened,
            none => none.insert(self.connector.open()?),
        };
        let result = work(&mut opened.connection);
        if result.as_ref().is_err_and(DbError::spoils_connection) {
            self.opened = None;
        }
        result
    }
}

/// Runs work in a write transaction, which is rolled back if the caller has gone.
pub(super) fn commit<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> DbResult<T>,
    is_gone: impl Fn() -> bool,
) -> DbResult<Option<T>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = work(&transaction)?;
    if is_gone() {
        return Ok(None);
    }
    transaction.commit()?;
    Ok(Some(value))
}
