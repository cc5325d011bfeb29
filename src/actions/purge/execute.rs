//! The execution of a purge: its batches, one after another, with pauses in which other sessions go first. Progress is recorded.

use super::batch::{Batch, BatchError, PurgeSpec};
use super::{max_lag, resource, text};
use crate::actions::support::database::DatabaseTarget;
use crate::actions::{Execution, Outcome, RunLost, TargetLockError};
use crate::app::App;
use crate::catalog::shared_query;
use crate::model::{EventKind, LoginKind, Run, RunEvent};
use crate::postgres::{Address, DedicatedSession};
use crate::sql::{bytes, duration, grouped};
use crate::suggest::shown;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Largest batch: 10,000 rows took 14 to 70 ms when measured, and a batch's locks are held for as long.
const MAX_BATCH_ROWS: u32 = 10_000;
/// Smallest batch, where a trigger or a cascade makes each row slow.
const MIN_BATCH_ROWS: u32 = 100;
/// A batch that takes longer is halved: its locks block others for as long.
const SLOW_BATCH: Duration = Duration::from_secs(2);
/// Between two batches, for others' commits and for the replicas.
const BATCH_PAUSE: Duration = Duration::from_millis(50);
/// Often enough that little is read twice after a crash, and seldom enough that the audit log stays small.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// A replica tries to connect every five seconds (its wal_retrieve_retry_interval).
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// 16 segments of WAL: a replica that is late for a short time only can still have a lot to replay.
const MAX_LAG_BYTES: i64 = 256 << 20;
/// Attempts in a row, each after a longer pause: a lock that is held for longer is somebody's work.
const MAX_ATTEMPTS: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// Added to the time limit of a batch: how long the session of a killed process may keep the lock on the table.
const LOCK_GRACE: Duration = Duration::from_secs(10);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct PurgeProgress {
    /// Every row up to this key has been read.
    #[serde(rename = "after")]
    pub last_key: Option<String>,
    /// Rows.
    pub deleted: i64,
    pub batches: i64,
    /// The numbers are lower bounds: a batch may be done and not recorded.
    #[serde(rename = "at_least", default)]
    pub is_lower_bound: bool,
    /// Replicas seen connected so far: one that loses its connection disappears from the server's list, and so would its lag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
}

impl PurgeProgress {
    /// Reads an event's facts: a checkpoint's, or an outcome's.
    pub fn read(event: &RunEvent) -> Option<PurgeProgress> {
        PurgeProgress::deserialize(&event.facts).ok()
    }

    /// The last checkpoint of a run; without one, the progress of a purge that has not begun.
    pub fn last_checkpoint(run: &Run, spec: &PurgeSpec) -> PurgeProgress {
        let checkpoint = run.event(EventKind::Checkpoint).and_then(PurgeProgress::read);
        checkpoint.unwrap_or(PurgeProgress { last_key: spec.after_key.clone(), ..PurgeProgress::default() })
    }

    /// True if certainly no row was deleted.
    pub fn is_untouched(&self) -> bool {
        self.deleted == 0 && !self.is_lower_bound
    }

    /// Adds a batch; returns `true` if it was the last.
    fn add(&mut self, batch: &Batch, size: u32, spec: &PurgeSpec) -> bool {
        self.deleted += batch.rows_deleted;
        self.batches += i64::from(batch.rows_deleted > 0);
        if batch.last_key.is_some() {
            self.last_key.clone_from(&batch.last_key);
        }
        let all_old_rows_deleted = spec.key.is_some() || batch.rows_deleted == batch.rows_read;
        batch.rows_read < i64::from(size) && all_old_rows_deleted
    }
}

#[derive(Debug)]
pub(super) enum EndReason {
    Finished,
    StopRequested,
    /// A replica is too far behind or cut off, or the lag is unknown: as a clause.
    ReplicaLag(String),
    /// Old rows remain although they were deleted.
    RowsKept,
    RunLost,
    Failed(BatchError),
}

pub(super) async fn execute(execution: &Execution<'_>) -> Outcome {
    let Some(spec) = execution.plan.target::<PurgeSpec>() else {
        return Outcome::invalidated("The plan can't be read.");
    };
    let is_resumed = execution.run.event(EventKind::Resumed).is_some();
    let checkpoint = PurgeProgress::last_checkpoint(execution.run, &spec);
    let mut progress = PurgeProgress { is_lower_bound: is_resumed, ..checkpoint };
    let began = Instant::now();
    let target = DatabaseTarget::from_plan(execution);
    let session = match open_locked_session(execution, &target, &spec.relation, is_resumed).await {
        Ok(session) => session,
        Err(SessionError::RunLost(lost)) => return Outcome::unknown(format!("{lost}.")),
        Err(SessionError::Message(error)) => {
            return text::outcome_without_lock(&error, execution.run, &spec, &progress);
        }
    };
    let max_lag = max_lag(&execution.run.request.arguments);
    let batches = BatchLoop { execution, target: &target, session: &session, spec: &spec, max_lag };
    let reason = batches.run(&mut progress).await;
    text::outcome(execution.run, &spec, reason, &progress, began.elapsed())
}

/// The reason why there is no session that may work on the table.
enum SessionError {
    RunLost(RunLost),
    Message(String),
}

impl From<String> for SessionError {
    fn from(message: String) -> SessionError {
        SessionError::Message(message)
    }
}

/// Opens the session that does the work, and locks the table against every other purge. A session that is left of the process that
/// was interrupted is ended.
async fn open_locked_session(
    execution: &Execution<'_>,
    target: &DatabaseTarget,
    relation: &str,
    is_resumed: bool,
) -> Result<DedicatedSession, SessionError> {
    let database = &target.database;
    let environments = &execution.app.environments;
    let environment = environments.environment(&target.address.environment);
    let login = environment.and_then(|environment| environments.login(environment, target.address.login));
    if login.ok().map(|(_, login)| login.user).as_ref() != Some(&target.role) {
        return Err("Its login has another role now than the card showed.".to_owned().into());
    }
    let session =
        target.dedicated_session(execution).await.map_err(|error| format!("{database} {error}."))?;
    let resource = resource(database, relation);
    let lock_wait = if is_resumed { session.statement_timeout() + LOCK_GRACE } else { Duration::ZERO };
    let deadline = Instant::now() + lock_wait;
    loop {
        match execution.lock_target(&session, &resource).await {
            Ok(()) => return Ok(session),
            Err(TargetLockError::RunLost(lost)) => return Err(SessionError::RunLost(lost)),
            Err(TargetLockError::Query(error)) => return Err(format!("{database} {error}.").into()),
            Err(TargetLockError::Busy) if Instant::now() >= deadline => {
                let holder = format!("it holds Countersign's advisory lock on {database}");
                return Err(format!("Another purge of {relation} is running ({holder}).").into());
            }
            Err(TargetLockError::Busy) => {
                if is_resumed && let Err(error) = session.end_lock_holders(&resource, execution.run.id).await
                {
                    tracing::warn!(run = execution.run.id, %error, "ending the session of an interrupted purge failed");
                }
                tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
            }
        }
    }
}

struct BatchLoop<'a> {
    execution: &'a Execution<'a>,
    target: &'a DatabaseTarget,
    session: &'a DedicatedSession,
    spec: &'a PurgeSpec,
    max_lag: Duration,
}

impl BatchLoop<'_> {
    async fn run(&self, progress: &mut PurgeProgress) -> EndReason {
        let mut size = MAX_BATCH_ROWS;
        let mut failures = 0;
        let mut lag_checked_at: Option<Instant> = None;
        let mut checkpoint_due_at = Instant::now() + CHECKPOINT_INTERVAL;
        self.report_progress(progress);
        loop {
            if self.execution.stop.is_cancelled() {
                return EndReason::StopRequested;
            }
            if lag_checked_at.is_none_or(|since| since.elapsed() >= LAG_INTERVAL) {
                if let Some(reason) = self.check_replicas(progress).await {
                    return reason;
                }
                lag_checked_at = Some(Instant::now());
            }
            if let Err(RunLost) = self.checkpoint(progress, &mut checkpoint_due_at).await {
                return EndReason::RunLost;
            }
            let began = Instant::now();
            match self.spec.delete_batch(self.session, progress, size).await {
                Ok(batch) => {
                    // Without a key, a batch whose rows a lock or a trigger keeps would be selected again for ever.
                    let nothing_deleted = batch.rows_deleted == 0 && self.spec.key.is_none();
                    failures = if nothing_deleted { failures + 1 } else { 0 };
                    if progress.batches == 0 && batch.rows_deleted > 0 {
                        checkpoint_due_at = Instant::now();
                    }
                    if progress.add(&batch, size, self.spec) {
                        return EndReason::Finished;
                    }
                    if failures >= MAX_ATTEMPTS {
                        return EndReason::RowsKept;
                    }
                    self.report_progress(progress);
                    if began.elapsed() > SLOW_BATCH {
                        size = (size / 2).max(MIN_BATCH_ROWS);
                    }
                    if batch.rows_deleted > 0 {
                        self.sleep_or_stop(BATCH_PAUSE).await;
                    }
                }
                Err(BatchError::Busy(_)) if failures + 1 < MAX_ATTEMPTS => {
                    failures += 1;
                    self.sleep_or_stop(RETRY_PAUSE * failures).await;
                }
                Err(BatchError::TooSlow) if size > MIN_BATCH_ROWS => size = (size / 4).max(MIN_BATCH_ROWS),
                Err(error) => {
                    progress.is_lower_bound |= matches!(error, BatchError::Lost { during_commit: true, .. });
                    return EndReason::Failed(error);
                }
            }
        }
    }

    /// Ends the purge when a replica is too far behind, or cut off for longer than it takes to connect again; no row is deleted
    /// meanwhile.
    async fn check_replicas(&self, progress: &mut PurgeProgress) -> Option<EndReason> {
        let Execution { app, asker, stop, .. } = self.execution;
        let deadline = Instant::now() + RECONNECT_TIMEOUT;
        loop {
            let replicas = match read_lags(app, &self.target.address, asker).await {
                Ok(replicas) => replicas,
                Err(error) => {
                    let clause = format!("the replicas' lag can't be read: the server {error}");
                    return Some(EndReason::ReplicaLag(clause));
                }
            };
            if let Some(replica) = replicas.first().filter(|replica| replica.exceeds(self.max_lag)) {
                return Some(EndReason::ReplicaLag(format!("the replica {}", replica.text())));
            }
            let Some(missing) = missing_replica(&progress.replicas, &replicas) else {
                progress.replicas = replicas.into_iter().map(|replica| replica.name).collect();
                return None;
            };
            if stop.is_cancelled() {
                return Some(EndReason::StopRequested);
            }
            if Instant::now() >= deadline {
                let name = shown(missing);
                let clause =
                    format!("the replica {name} is gone: it was connected before, and its lag is unknown");
                return Some(EndReason::ReplicaLag(clause));
            }
            self.sleep_or_stop(RETRY_PAUSE).await;
        }
    }

    async fn sleep_or_stop(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.execution.stop.cancelled() => {}
        }
    }

    /// Records the progress if that is due, before the batches that it allows: a process that was paused deletes nothing more once its
    /// run is another's. Rows that no checkpoint covers are read once more after a crash, which does no harm.
    async fn checkpoint(&self, progress: &PurgeProgress, due_at: &mut Instant) -> Result<(), RunLost> {
        if Instant::now() >= *due_at {
            self.execution.checkpoint(serde_json::to_value(progress).unwrap_or_default()).await?;
            *due_at = Instant::now() + CHECKPOINT_INTERVAL;
        }
        Ok(())
    }

    fn report_progress(&self, progress: &PurgeProgress) {
        let rows = self.spec.shown_rows.max(1);
        let percent = (progress.deleted.saturating_mul(100) / rows).clamp(0, 99);
        let label =
            format!("{} of {} rows deleted", grouped(progress.deleted), grouped(self.spec.shown_rows));
        self.execution.progress(u8::try_from(percent).ok(), label);
    }
}

/// A replica's lag, as the reader sees it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ReplicaLag {
    name: String,
    kind: String,
    /// Hidden from a login without pg_monitor.
    state: Option<String>,
    lag_s: Option<f64>,
    behind_bytes: Option<i64>,
}

impl ReplicaLag {
    fn seconds(&self) -> f64 {
        self.lag_s.unwrap_or_default()
    }

    fn exceeds(&self, max_lag: Duration) -> bool {
        self.seconds() > max_lag.as_secs_f64() || self.behind_bytes.unwrap_or_default() > MAX_LAG_BYTES
    }

    /// True of a replica or a subscriber, not of pg_receivewal or a base backup.
    fn replays(&self) -> bool {
        let is_connected =
            self.state.as_deref().is_some_and(|state| ["streaming", "catchup"].contains(&state));
        is_connected && ["replica", "logical receiver"].contains(&self.kind.as_str())
    }

    /// "replica-1 is 42 s and 180 MiB behind"
    pub fn text(&self) -> String {
        let (seconds, bytes) =
            (duration(self.seconds()), bytes(self.behind_bytes.unwrap_or_default() as f64));
        format!("{} is {seconds} and {bytes} behind", shown(&self.name))
    }
}

/// The lag that ends a purge, for the card.
pub(super) fn lag_limit_text(max_lag: Duration) -> String {
    format!("{} or {} behind", duration(max_lag.as_secs_f64()), bytes(MAX_LAG_BYTES as f64))
}

/// The first of the names that no connected replica has any more. Several replicas may have the same name.
fn missing_replica<'a>(names: &'a [String], replicas: &[ReplicaLag]) -> Option<&'a String> {
    let mut present: Vec<&str> = replicas.iter().map(|replica| replica.name.as_str()).collect();
    names.iter().find(|name| match present.iter().position(|other| other == name) {
        Some(index) => {
            present.swap_remove(index);
            false
        }
        None => true,
    })
}

/// Lists a server's replicas and subscribers, the one furthest behind first; an error follows "the server".
pub(super) async fn read_lags(app: &App, server: &Address, asker: &str) -> Result<Vec<ReplicaLag>, String> {
    let address = Address::new(&server.environment, &server.server, LoginKind::Reader);
    let client = app.environments.acquire(&address, asker).await.map_err(|error| error.to_string())?;
    let sql = shared_query("walsenders").map(|query| query.sql).unwrap_or_default();
    let rows = client.query(&sql, &[]).await.map_err(|error| error.to_string())?;
    let json = rows.first().and_then(|row| row.value::<String>(0)).unwrap_or_default();
    let mut receivers: Vec<ReplicaLag> = serde_json::from_str(&json).map_err(|error| error.to_string())?;
    if receivers.iter().any(|receiver| receiver.state.is_none()) {
        return Err("may not show its replicas: grant pg_monitor to Countersign's reader".to_owned());
    }
    receivers.retain(ReplicaLag::replays);
    receivers.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()));
    Ok(receivers)
}
