//! A worker: one thread, one connection, one queue. It drops work whose caller has gone before it commits, and compensates
//! a commit whose caller timed out. It does not know the work itself.

use super::connection::{Connector, DbError, DbResult, OpenedFile};
use super::process_lock::Instance;
use super::runs;
use crate::model::RunId;
use crate::store::{NewEvent, StoreError, StoreResult};
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

/// What to write after a commit whose caller timed out.
#[derive(Debug, Clone)]
pub(super) enum Compensation {
    /// The run as it was committed, and its next event.
    Run { run: RunId, version: i64, change: NewEvent },
    /// A claim on a card, to be released.
    Claim { card: i64, claimed_by: String },
}

/// Compensations that are still to be written.
#[derive(Debug, Default)]
struct PendingCompensations(Mutex<Vec<Compensation>>);

impl PendingCompensations {
    fn add(&self, compensation: Compensation) {
        self.0.lock().push(compensation);
    }
    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
    fn take(&self) -> Vec<Compensation> {
        std::mem::take(&mut self.0.lock())
    }
}

/// The compensation of a result whose caller timed out.
pub(super) trait CompensationFn<T>: Fn(&T) -> Option<Compensation> + Clone + Send + 'static {}

impl<T, F: Fn(&T) -> Option<Compensation> + Clone + Send + 'static> CompensationFn<T> for F {}

/// The caller, who waits for an answer.
pub(super) trait ReplyTo<T> {
    fn is_gone(&self) -> bool;
    /// Sends the answer; returns it if the caller has gone.
    fn reply(self, answer: T) -> Result<(), T>;
}

impl<T> ReplyTo<T> for oneshot::Sender<T> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
    fn reply(self, answer: T) -> Result<(), T> {
        self.send(answer)
    }
}

type Job = Box<dyn FnOnce(&mut WorkerThread) + Send>;

/// Handle of the thread. When it is dropped the thread finishes its queue and ends.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    compensations: Arc<PendingCompensations>,
    /// Time limit of a call.
    answer_timeout: Duration,
}

/// The thread's own state.
pub(super) struct WorkerThread {
    connector: Connector,
    opened: Option<OpenedFile>,
    compensations: Arc<PendingCompensations>,
    /// Keeps this instance's lock until the last write is done.
    _instance: Arc<Instance>,
}

impl Worker {
    /// Starts the thread; `opened` is its first connection, if there is one already.
    pub fn start(
        connector: Connector,
        opened: Option<OpenedFile>,
        instance: Arc<Instance>,
        answer_timeout: Duration,
    ) -> std::io::Result<Worker> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE_LENGTH);
        let compensations = Arc::new(PendingCompensations::default());
        let name = format!("store-{:?}", connector.access).to_lowercase();
        let mut thread = WorkerThread {
            connector,
            opened,
            compensations: Arc::clone(&compensations),
            _instance: instance,
        };
        std::thread::Builder::new().name(name).spawn(move || thread.serve(&queue))?;
        Ok(Worker { jobs, compensations, answer_timeout })
    }

    /// Runs read work in one transaction, so that it sees one state of the audit log.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let job = move |thread: &mut WorkerThread, caller: oneshot::Sender<StoreResult<T>>| {
            thread.read(work, caller)
        };
        self.call(job, |_| None).await
    }

    /// Runs work in one write transaction.
    pub async fn write<T: Send + 'static>(
        &self,
        compensate: impl CompensationFn<T>,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let on_thread = compensate.clone();
        let job = move |thread: &mut WorkerThread, caller: oneshot::Sender<StoreResult<T>>| {
            thread.write(on_thread, work, caller)
        };
        self.call(job, compensate).await
    }

    /// Runs work outside of a transaction.
    pub async fn execute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let job = move |thread: &mut WorkerThread, caller: oneshot::Sender<StoreResult<T>>| {
            if !caller.is_gone() {
                let result = thread.attempt(|connection| work(connection));
                let _ = caller.reply(result.map_err(StoreError::from));
            }
        };
        self.call(job, |_| None).await
    }

    /// Runs anything at all on the thread.
    #[cfg(test)]
    pub async fn on_thread(&self, work: impl FnOnce(&mut WorkerThread) + Send + 'static) -> StoreResult<()> {
        let job = |thread: &mut WorkerThread, caller: oneshot::Sender<StoreResult<()>>| {
            work(thread);
            let _ = caller.reply(Ok(()));
        };
        self.call(job, |()| None).await
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut WorkerThread, oneshot::Sender<StoreResult<T>>) + Send + 'static,
        compensate: impl CompensationFn<T>,
    ) -> StoreResult<T> {
        let (sender, receiver) = oneshot::channel();
        let mut call = PendingCall { receiver, compensate, worker: self };
        match self.jobs.try_send(Box::new(move |thread| job(thread, sender))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(StoreError::Broken("too many calls wait for it".into()));
            }
            Err(TrySendError::Disconnected(_)) => return Err(thread_ended()),
        }
        match tokio::time::timeout(self.answer_timeout, &mut call.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(thread_ended()),
            Err(_) => {
                // An answer that was sent in between counts.
                call.receiver.close();
                call.receiver.try_recv().unwrap_or(Err(StoreError::TooLate))
            }
        }
    }
}

fn thread_ended() -> StoreError {
    StoreError::Broken("its thread has ended".into())
}

/// A call in progress. If it is dropped after the answer was sent, the commit needs its compensation.
struct PendingCall<'a, T, F: CompensationFn<T>> {
    receiver: oneshot::Receiver<StoreResult<T>>,
    compensate: F,
    worker: &'a Worker,
}

impl<T, F: CompensationFn<T>> Drop for PendingCall<'_, T, F> {
    fn drop(&mut self) {
        self.receiver.close();
        let Ok(Ok(answer)) = self.receiver.try_recv() else { return };
        if let Some(compensation) = (self.compensate)(&answer) {
            self.worker.compensations.add(compensation);
            // Only to wake the thread: with a full queue it is awake.
            let _ = self.worker.jobs.try_send(Box::new(|_| {}));
        }
    }
}

impl WorkerThread {
    fn serve(&mut self, queue: &Receiver<Job>) {
        loop {
            let job = if self.compensations.is_empty() {
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

    fn read<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T>,
        caller: impl ReplyTo<StoreResult<T>>,
    ) {
        if caller.is_gone() {
            return;
        }
        let result = self.attempt(|connection| work(&connection.transaction()?));
        let _ = caller.reply(result.map_err(StoreError::from));
    }

    pub(super) fn write<T>(
        &mut self,
        compensate: impl CompensationFn<T>,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T>,
        caller: impl ReplyTo<StoreResult<T>>,
    ) {
        if caller.is_gone() {
            return;
        }
        let result = self.attempt(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            if caller.is_gone() {
                return Ok(None);
            }
            transaction.commit()?;
            Ok(Some(value))
        });
        let reply = match result {
            Ok(None) => return,
            Ok(Some(value)) => caller.reply(Ok(value)),
            Err(error) => caller.reply(Err(error.into())),
        };
        if let Err(Ok(value)) = reply
            && let Some(compensation) = compensate(&value)
        {
            self.compensations.add(compensation);
            self.write_compensations();
        }
    }

    /// Writes the pending compensations. One that can't be written now is tried again, before the next job.
    fn write_compensations(&mut self) {
        let mut pending = self.compensations.take().into_iter();
        while let Some(compensation) = pending.next() {
            let result = self.attempt(|connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                runs::compensate(&transaction, &compensation)?;
                Ok(transaction.commit()?)
            });
            if result.is_err() {
                // The same obstacle would delay the others: each would wait for the lock again.
                for compensation in std::iter::once(compensation).chain(pending) {
                    self.compensations.add(compensation);
                }
                return;
            }
        }
    }

    /// Runs work on a connection to the current file, and drops a connection that may be damaged.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Connection) -> DbResult<T>) -> DbResult<T> {
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
