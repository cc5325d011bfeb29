//! Writes to runs, whose outcome is always found out: a connection that is lost while a write commits tells nothing. The backend at its
//! other end is ended, so that nothing more can come of it; then the write is repeated, which finds itself if it was committed, or,
//! when nobody waits for it any more, only looked for.

use super::PostgresStore;
use super::runs::{RunWrite, StoredRun, WriteAnswer, WriteOutcome, WritePlace};
use super::session::{Backend, CallError, CallResult, SessionSlot, StoreSession};
use crate::retry::Backoff;
use crate::store::compensation::{Committed, Compensation};
use crate::store::{Append, DeadlineCondition, NewEvent, StoreError, StoreResult};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Waits between attempts: a lock is free again in a moment, a lost server is not.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
}

/// A write whose obstacle may pass is tried again for this long, if nothing of it is in doubt.
const PATIENCE: Duration = Duration::from_secs(4);

/// Finds the run of a write, if that was committed.
const FIND: &str = "SELECT countersign.run_json(e.run)::text FROM countersign.events e
    WHERE e.run = coalesce($1, (SELECT r.id FROM countersign.runs r WHERE r.delivery_id = $2)) AND e.write_id = $3";

/// Result of one attempt.
enum Attempt {
    Answer(WriteAnswer),
    /// It wasn't written, and nobody waits for it.
    Nothing,
    /// It is tried again.
    Failed(CallError),
}

/// One write, until its outcome is known.
struct Delivery<'a> {
    slot: &'a SessionSlot,
    write: &'a RunWrite,
    /// The backend that may still commit it.
    in_doubt: Option<Backend>,
}

impl Delivery<'_> {
    async fn attempt(&mut self, is_wanted: bool) -> Attempt {
        let session = match self.slot.session().await {
            Ok(session) => session,
            Err(error) => return Attempt::Failed(error),
        };
        match self.attempt_on(&session, is_wanted).await {
            Ok(Some(answer)) => Attempt::Answer(answer),
            Ok(None) => Attempt::Nothing,
            Err(error) => {
                if matches!(error, CallError::Lost) {
                    self.slot.discard(&session).await;
                }
                Attempt::Failed(error)
            }
        }
    }

    async fn attempt_on(
        &mut self,
        session: &Arc<StoreSession>,
        is_wanted: bool,
    ) -> CallResult<Option<WriteAnswer>> {
        let was_sent = self.in_doubt.is_some();
        if let Some(backend) = &self.in_doubt {
            session.end_backend(backend).await?;
        }
        if !is_wanted {
            let found = if was_sent { find(session, self.write).await? } else { None };
            self.in_doubt = None;
            return Ok(found.map(WriteAnswer::found));
        }
        let result = session.query(self.write.sql, &[&self.write.input]).await;
        // While it is lost again, the new backend is the one in doubt.
        self.in_doubt = matches!(result, Err(CallError::Lost)).then(|| session.backend.clone());
        let rows = result?;
        let row = rows.first().ok_or(CallError::Lost)?;
        Ok(Some(serde_json::from_str(&row.get::<String>(0)?)?))
    }
}

async fn find(session: &StoreSession, write: &RunWrite) -> CallResult<Option<StoredRun>> {
    let (run, delivery) = match &write.place {
        WritePlace::Run(run) => (Some(*run), None),
        WritePlace::Delivery(delivery) => (None, Some(delivery)),
    };
    let rows = session.query(FIND, &[&run, &delivery, &write.write_id]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(serde_json::from_str(&row.get::<String>(0)?)?))
}

/// Delivers a write until its outcome is known. `None`: it wasn't written, and nobody waits for it.
async fn deliver(
    slot: &SessionSlot,
    write: &RunWrite,
    is_wanted: impl Fn() -> bool,
) -> CallResult<Option<WriteAnswer>> {
    let start = Instant::now();
    let mut delivery = Delivery { slot, write, in_doubt: None };
    let mut backoff = backoff();
    loop {
        match delivery.attempt(is_wanted()).await {
            Attempt::Answer(answer) => return Ok(Some(answer)),
            Attempt::Nothing => return Ok(None),
            Attempt::Failed(error) => {
                let may_pass = error.is_passing() && start.elapsed() < PATIENCE;
                if delivery.in_doubt.is_none() && !may_pass {
                    return Err(error);
                }
                tracing::debug!(?error, "a write to the audit log is tried again");
            }
        }
        tokio::time::sleep(backoff.wait()).await;
    }
}

/// A call in progress. If it is dropped after the answer was sent, the commit needs its compensation.
struct PendingCall {
    receiver: oneshot::Receiver<StoreResult<Committed<WriteAnswer>>>,
    store: PostgresStore,
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Ok(Committed { compensation: Some(compensation), .. })) = self.receiver.try_recv() {
            self.store.compensate_later(compensation);
        }
    }
}

impl PostgresStore {
    /// Writes, and follows a commit whose caller has gone with `late_event`.
    pub(super) async fn write_run(
        &self,
        write: RunWrite,
        late_event: Option<NewEvent>,
    ) -> StoreResult<WriteAnswer> {
        let Ok(place) = Arc::clone(&self.parts.places).try_acquire_owned() else {
            return Err(StoreError::Broken("too many calls wait for it".into()));
        };
        let (caller, receiver) = oneshot::channel();
        let store = self.clone();
        self.parts.runtime.spawn(async move {
            let answer = deliver(&store.parts.writer, &write, || !caller.is_closed()).await;
            // `Nothing`: the caller has gone.
            let Some(answer) = answer.transpose() else { return };
            let committed = answer.map_err(StoreError::from).and_then(|answer| {
                if answer.outcome == WriteOutcome::InstanceLost {
                    return Err(StoreError::InstanceLost);
                }
                let (run, version) = (answer.written(), write.version);
                let compensation =
                    run.zip(late_event).map(|(run, event)| Compensation::Run { run, version, event });
                Ok(Committed { value: answer, compensation })
            });
            if let Err(Ok(Committed { compensation: Some(compensation), .. })) = caller.send(committed) {
                store.compensate(compensation).await;
            }
            drop(place);
        });
        let mut call = PendingCall { receiver, store: self.clone() };
        let answer = match tokio::time::timeout(self.parts.call_timeout, &mut call.receiver).await {
            Ok(answer) => answer.unwrap_or(Err(StoreError::TooLate)),
            Err(_) => {
                // An answer that was sent in between counts.
                call.receiver.close();
                call.receiver.try_recv().unwrap_or(Err(StoreError::TooLate))
            }
        };
        Ok(answer?.value)
    }

    pub(super) fn compensate_later(&self, compensation: Compensation) {
        let store = self.clone();
        self.parts.runtime.spawn(async move { store.compensate(compensation).await });
    }

    /// Writes a compensation, as soon as the store can be reached.
    async fn compensate(&self, compensation: Compensation) {
        let mut backoff = backoff();
        loop {
            match self.try_compensate(&compensation).await {
                Ok(()) => return,
                Err(error) if error.is_passing() => tokio::time::sleep(backoff.wait()).await,
                Err(error) => {
                    tracing::error!(?error, "a commit that came too late could not be followed by its event");
                    return;
                }
            }
        }
    }

    async fn try_compensate(&self, compensation: &Compensation) -> CallResult<()> {
        match compensation {
            Compensation::Run { run, version, event } => {
                let append = Append {
                    run: *run,
                    version: *version,
                    event: event.clone(),
                    late_event: None,
                    unless_frozen: false,
                    deadline_condition: DeadlineCondition::Ignored,
                };
                // A run that has changed since, or whose instance is lost, is another's business.
                let write = RunWrite::append(&append, &self.parts.instance.id())?;
                deliver(&self.parts.writer, &write, || true).await.map(drop)
            }
            Compensation::Claim { card, claimed_by } => {
                let sql = "UPDATE countersign.cards SET claimed_until = '-infinity' WHERE id = $1 AND claimed_by = $2";
                self.parts.general.query(sql, &[card, claimed_by]).await.map(drop)
            }
        }
    }
}
