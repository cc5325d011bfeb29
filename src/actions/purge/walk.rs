//! The batches of a purge, one after another: what is done is noted, and between two of them everybody else comes first.

use super::batch::{Batch, BatchAttempt, BatchError};
use super::lag::{self, ReplicaLag};
use super::work::PurgeSpec;
use crate::actions::Execution;
use crate::postgres::{DedicatedSession, QueryError};
use crate::sql::grouped;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Rows of a batch: 10,000 took 14 to 70 ms where it was measured, and hold their locks for no longer.
const MOST_ROWS: u32 = 10_000;
/// Where a trigger or a cascade makes each row dear, a batch is made smaller, down to this.
const FEWEST_ROWS: u32 = 100;
/// A batch that takes longer is halved: its locks are in the way for as long.
const LONG: Duration = Duration::from_secs(2);
/// Between two batches, for others' commits and for the replicas.
const PAUSE: Duration = Duration::from_millis(50);
/// Often enough that little is looked at twice after a crash, and seldom enough that the record stays small.
const NOTE_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A replica tries every five seconds (its wal_retrieve_retry_interval).
const CONNECTS_WITHIN: Duration = Duration::from_secs(8);
/// In a row, each after a longer pause: a lock that is held for longer is somebody's work.
const MOST_TRIES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// What is done: enough to go on from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct PurgeProgress {
    /// Every row up to this key has been looked at.
    pub after: Option<String>,
    /// Rows.
    pub deleted: i64,
    pub batches: i64,
    /// The numbers are the least that it can be: a batch may be done and not noted.
    #[serde(default)]
    pub at_least: bool,
    /// The replicas that were there when it began, and those that came since: one that is cut off is in no list, and falls behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
}

/// Why it ends.
#[derive(Debug)]
pub(super) enum StopReason {
    Finished,
    QueryResult,
    ReplicaLag(ReplicaLag),
    /// A replica is cut off.
    Gone(String),
    /// Nobody can tell how far the replicas are.
    Unseen(String),
    Grown,
    Changed(&'static str),
    ReadOnly,
    /// Old rows that DELETE leaves where they are.
    Kept,
    TooSlow,
    Busy(QueryError),
    Refused(QueryError),
    Lost(QueryError),
}

/// A purge at work.
pub(super) struct BatchLoop<'a> {
    pub doing: &'a Execution<'a>,
    pub worker: &'a DedicatedSession,
    pub work: &'a PurgeSpec,
    pub most_lag: Duration,
}

impl BatchLoop<'_> {
    /// Until nothing is left or something ends it.
    pub async fn go(&self, done: &mut PurgeProgress) -> StopReason {
        let (mut size, mut tries) = (MOST_ROWS, 0);
        let (mut looked, mut noted): (Option<Instant>, Option<Instant>) = (None, None);
        self.tell(done);
        loop {
            if self.doing.stop.is_cancelled() {
                return StopReason::QueryResult;
            }
            if looked.is_none_or(|since| since.elapsed() >= LOOK_EVERY) {
                if let Some(end) = self.look(done).await {
                    return end;
                }
                looked = Some(Instant::now());
            }
            let began = Instant::now();
            let left = self.work.at_most() - done.deleted;
            let after = done.after.clone();
            let (worker, work) = (self.worker, self.work);
            match (BatchAttempt { worker, work, after: after.as_deref(), size, left }).run().await {
                Ok(batch) => {
                    // Without a key a batch that only others' rows or a trigger kept would come again and again.
                    tries = if batch.gone == 0 && self.work.key.is_none() { tries + 1 } else { 0 };
                    if let Some(end) = advance(done, (&batch, size), self.work) {
                        return end;
                    }
                    if tries >= MOST_TRIES {
                        return StopReason::Kept;
                    }
                    if batch.gone > 0 && noted.is_none_or(|since| since.elapsed() >= NOTE_EVERY) {
                        self.note(done).await;
                        noted = Some(Instant::now());
                    }
                    self.tell(done);
                    if began.elapsed() > LONG {
                        size = (size / 2).max(FEWEST_ROWS);
                    }
                    if batch.gone > 0 {
                        self.rest(PAUSE).await;
                    }
                }
                Err(BatchError::Busy(_)) if tries + 1 < MOST_TRIES => {
                    tries += 1;
                    self.rest(RETRY_AFTER * tries).await;
                }
                Err(BatchError::TooSlow) if size > FEWEST_ROWS => size = (size / 4).max(FEWEST_ROWS),
                Err(hindrance) => return ended(hindrance, done),
            }
        }
    }

    /// Ends when a replica is too far behind, or cut off for longer than it takes to connect again; nothing is deleted meanwhile.
    async fn look(&self, done: &mut PurgeProgress) -> Option<StopReason> {
        let until = Instant::now() + CONNECTS_WITHIN;
        loop {
            let now = match lag::now(self.doing).await {
                Ok(now) => now,
                Err(why) => return Some(StopReason::Unseen(why)),
            };
            if let Some(behind) = now.first().filter(|behind| behind.is_more_than(self.most_lag)) {
                return Some(StopReason::ReplicaLag(behind.clone()));
            }
            let Some(gone) = lag::gone(&done.replicas, &now) else {
                done.replicas = now.into_iter().map(|replica| replica.name).collect();
                return None;
            };
            if self.doing.stop.is_cancelled() {
                return Some(StopReason::QueryResult);
            }
            if Instant::now() >= until {
                return Some(StopReason::Gone(gone.clone()));
            }
            self.rest(RETRY_AFTER).await;
        }
    }

    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.doing.stop.cancelled() => {}
        }
    }

    fn tell(&self, done: &PurgeProgress) {
        let rows = self.work.rows.max(1);
        let percent = (done.deleted.saturating_mul(100) / rows).clamp(0, 99);
        let label = format!("{} of {} rows gone", grouped(done.deleted), grouped(self.work.rows));
        self.doing.progress(u8::try_from(percent).ok(), label);
    }

    /// What can't be noted is looked at once more after a crash, and nothing else.
    async fn note(&self, done: &PurgeProgress) {
        let facts = serde_json::to_value(done).unwrap_or_default();
        if let Err(why) = self.doing.step(facts).await {
            tracing::warn!(run = self.doing.run.id, %why, "a purge goes on without a note of how far it is");
        }
    }
}

/// Counts a batch; the end if it was the last.
fn advance(done: &mut PurgeProgress, (batch, size): (&Batch, u32), work: &PurgeSpec) -> Option<StopReason> {
    done.deleted += batch.gone;
    if batch.gone > 0 {
        done.batches += 1;
    }
    if batch.last.is_some() {
        done.after.clone_from(&batch.last);
    }
    let all = work.key.is_some() || batch.gone == batch.looked;
    (batch.looked < i64::from(size) && all).then_some(StopReason::Finished)
}

fn ended(hindrance: BatchError, done: &mut PurgeProgress) -> StopReason {
    match hindrance {
        BatchError::Changed(what) => StopReason::Changed(what),
        BatchError::ReadOnly => StopReason::ReadOnly,
        BatchError::Grown => StopReason::Grown,
        BatchError::TooSlow => StopReason::TooSlow,
        BatchError::Busy(why) => StopReason::Busy(why),
        BatchError::Refused(why) => StopReason::Refused(why),
        BatchError::Lost(why, committing) => {
            done.at_least |= committing;
            StopReason::Lost(why)
        }
    }
}
