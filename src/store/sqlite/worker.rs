//! A desk: one thread, one connection, one queue. It makes sure that work whose caller has gone is dropped before it commits,
//! and that a commit that came too late is followed by what was given for this case. What the work is, it doesn't know.

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

/// Calls that may wait at a desk. At a millisecond a write this is the answer's time limit, and more would not be in time.
const QUEUE: usize = 10_000;

/// How long what is to follow waits for its next try, when it could not be written.
const AGAIN: Duration = Duration::from_millis(250);

/// What was committed, and what is to follow if the caller never hears of it.
#[derive(Debug, Clone)]
pub(super) enum Compensation {
    /// A run as it was committed; what it is to have as its next event.
    Run { run: RunId, version: i64, change: NewEvent },
    /// A claim on a copy, which is to be given back.
    Claim { card: i64, claimed_by: String },
}

/// Commits that nobody heard of and that nothing has followed yet.
#[derive(Debug, Default)]
struct PendingCompensations(Mutex<Vec<Compensation>>);

impl PendingCompensations {
    fn add(&self, on_timeout: Compensation) {
        self.0.lock().push(on_timeout);
    }
    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
    fn take(&self) -> Vec<Compensation> {
        std::mem::take(&mut self.0.lock())
    }
}

/// What is to follow a result that nobody hears of.
pub(super) trait CompensationFn<T>: Fn(&T) -> Option<Compensation> + Clone + Send + 'static {}

impl<T, F: Fn(&T) -> Option<Compensation> + Clone + Send + 'static> CompensationFn<T> for F {}

/// Whoever waits for an answer.
pub(super) trait ReplyTo<T> {
    fn is_gone(&self) -> bool;
    /// Gives the answer back if nobody takes it.
    fn tell(self, answer: T) -> Result<(), T>;
}

impl<T> ReplyTo<T> for oneshot::Sender<T> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
    fn tell(self, answer: T) -> Result<(), T> {
        self.send(answer)
    }
}

type Job = Box<dyn FnOnce(&mut WorkerThread) + Send>;

/// The way to the thread. When it is dropped the thread does what is queued and ends.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    owed: Arc<PendingCompensations>,
    /// How long a call waits for its answer.
    answer: Duration,
}

/// What the thread holds.
pub(super) struct WorkerThread {
    opener: Connector,
    opened: Option<OpenedFile>,
    owed: Arc<PendingCompensations>,
    /// Keeps this instance's lock until the last write is done.
    _instance: Arc<Instance>,
}

impl Worker {
    /// Starts the thread; `opened` is its first connection, if there is one already.
    pub fn start(
        opener: Connector,
        opened: Option<OpenedFile>,
        instance: Arc<Instance>,
        answer: Duration,
    ) -> std::io::Result<Worker> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let owed = Arc::new(PendingCompensations::default());
        let name = format!("store-{:?}", opener.access).to_lowercase();
        let mut seat = WorkerThread { opener, opened, owed: Arc::clone(&owed), _instance: instance };
        std::thread::Builder::new().name(name).spawn(move || seat.serve(&queue))?;
        Ok(Worker { jobs, owed, answer })
    }

    /// Does read work in one transaction, so that it sees one state of the record.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let job =
            move |seat: &mut WorkerThread, caller: oneshot::Sender<StoreResult<T>>| seat.read(work, caller);
        self.call(job, |_| None).await
    }

    /// Does work in one write transaction.
    pub async fn write<T: Send + 'static>(
        &self,
        following: impl CompensationFn<T>,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let follows = following.clone();
        let job = move |seat: &mut WorkerThread, caller: oneshot::Sender<StoreResult<T>>| {
            seat.write(follows, work, caller)
        };
        self.call(job, following).await
    }

    /// Does work outside of a transaction.
    pub async fn plainly<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> DbResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let job = move |seat: &mut WorkerThread, caller: oneshot::Sender<StoreResult<T>>| {
            if !caller.is_gone() {
                let worked = seat.attempt(|connection| work(connection));
                let _ = caller.tell(worked.map_err(StoreError::from));
            }
        };
        self.call(job, |_| None).await
    }

    /// Does anything at all, with the thread's own hands.
    #[cfg(test)]
    pub async fn at_seat(&self, work: impl FnOnce(&mut WorkerThread) + Send + 'static) -> StoreResult<()> {
        let job = |seat: &mut WorkerThread, caller: oneshot::Sender<StoreResult<()>>| {
            work(seat);
            let _ = caller.tell(Ok(()));
        };
        self.call(job, |()| None).await
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut WorkerThread, oneshot::Sender<StoreResult<T>>) + Send + 'static,
        following: impl CompensationFn<T>,
    ) -> StoreResult<T> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = PendingCall { receiver, following, desk: self };
        match self.jobs.try_send(Box::new(move |seat| job(seat, sender))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(StoreError::Broken("too many calls wait for it".into()));
            }
            Err(TrySendError::Disconnected(_)) => return Err(thread_ended()),
        }
        match tokio::time::timeout(self.answer, &mut waiting.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(thread_ended()),
            Err(_) => {
                // An answer that came between the last look and now was told, so it counts.
                waiting.receiver.close();
                waiting.receiver.try_recv().unwrap_or(Err(StoreError::TooLate))
            }
        }
    }
}

fn thread_ended() -> StoreError {
    StoreError::Broken("its thread has ended".into())
}

/// A call under way. If it is given up with the answer already told, nobody has heard of what was committed.
struct PendingCall<'a, T, F: CompensationFn<T>> {
    receiver: oneshot::Receiver<StoreResult<T>>,
    following: F,
    desk: &'a Worker,
}

impl<T, F: CompensationFn<T>> Drop for PendingCall<'_, T, F> {
    fn drop(&mut self) {
        self.receiver.close();
        let Ok(Ok(answer)) = self.receiver.try_recv() else { return };
        if let Some(on_timeout) = (self.following)(&answer) {
            self.desk.owed.add(on_timeout);
            // Only to wake the thread: with a full queue it is awake.
            let _ = self.desk.jobs.try_send(Box::new(|_| {}));
        }
    }
}

impl WorkerThread {
    fn serve(&mut self, queue: &Receiver<Job>) {
        loop {
            let job = match self.owed.is_empty() {
                true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => queue.recv_timeout(AGAIN),
            };
            self.follow();
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
        let worked = self.attempt(|connection| work(&connection.transaction()?));
        let _ = caller.tell(worked.map_err(StoreError::from));
    }

    pub(super) fn write<T>(
        &mut self,
        following: impl CompensationFn<T>,
        work: impl FnOnce(&Transaction<'_>) -> DbResult<T>,
        caller: impl ReplyTo<StoreResult<T>>,
    ) {
        if caller.is_gone() {
            return;
        }
        let worked = self.attempt(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            if caller.is_gone() {
                return Ok(None);
            }
            transaction.commit()?;
            Ok(Some(value))
        });
        let untold = match worked {
            Ok(None) => return,
            Ok(Some(value)) => caller.tell(Ok(value)),
            Err(fault) => caller.tell(Err(fault.into())),
        };
        if let Err(Ok(value)) = untold
            && let Some(on_timeout) = following(&value)
        {
            self.owed.add(on_timeout);
            self.follow();
        }
    }

    /// Writes what is owed. What can't be written now is tried again, before the next work.
    fn follow(&mut self) {
        let mut owed = self.owed.take().into_iter();
        while let Some(on_timeout) = owed.next() {
            let followed = self.attempt(|connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                runs::follow(&transaction, &on_timeout)?;
                Ok(transaction.commit()?)
            });
            if followed.is_err() {
                // What hindered this one hinders the others: each would wait for the lock again.
                std::iter::once(on_timeout).chain(owed).for_each(|on_timeout| self.owed.add(on_timeout));
                return;
            }
        }
    }

    /// Works on a connection that is known to be good, and gives up one that may not be.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Connection) -> DbResult<T>) -> DbResult<T> {
        if self.opened.as_ref().is_some_and(|opened| !self.opener.still_names(opened)) {
            self.opened = None;
        }
        let opened = match &mut self.opened {
            Some(opened) => opened,
            none => none.insert(self.opener.open()?),
        };
        let worked = work(&mut opened.connection);
        if worked.as_ref().is_err_and(DbError::spoils_connection) {
            self.opened = None;
        }
        worked
    }
}
