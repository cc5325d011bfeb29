//! The supervisor: the periodic background tasks, by name. They close what time and crashes left open, and bring cards up to the
//! record.

use super::outbox::Outbox;
use super::reconciler::Reconciler;
use super::reminders::Reminders;
use super::scheduler::Scheduler;
use crate::actions::{self, SAMPLE_INTERVAL};
use crate::app::App;
use crate::audit::EventDetails;
use crate::model::{EventKind, Risk, RunState};
use crate::store::StoreResult;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The due tasks are looked for this often.
const TICK: Duration = Duration::from_secs(1);

/// A button works for this long, and a closed run's card is kept up to date.
const CARD_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

type TaskFn = fn(Arc<Supervisor>) -> BoxFuture<'static, anyhow::Result<()>>;

struct Task {
    name: &'static str,
    interval: Duration,
    run: TaskFn,
    /// Runs beside the others, since it may wait for a network. The others run one after another, in the order of the list.
    is_concurrent: bool,
    last: Mutex<Option<TaskRun>>,
}

struct TaskRun {
    ended_at: jiff::Timestamp,
    error: Option<String>,
}

impl Task {
    fn new(name: &'static str, interval: Duration, is_concurrent: bool, run: TaskFn) -> Arc<Task> {
        Arc::new(Task { name, interval, run, is_concurrent, last: Mutex::default() })
    }

    async fn run(&self, supervisor: Arc<Supervisor>) {
        let started = Instant::now();
        let metrics = Arc::clone(&supervisor.app.metrics);
        let error = (self.run)(supervisor).await.err().map(|error| format!("{error:#}"));
        match &error {
            Some(error) => tracing::warn!(task = self.name, error, "background task failed; will retry"),
            None => tracing::debug!(task = self.name, took = ?started.elapsed(), "background task ended"),
        }
        let is_ok = error.is_none();
        metrics.task_ran(self.name, !is_ok);
        let last = self.last.lock().replace(TaskRun { ended_at: jiff::Timestamp::now(), error });
        if let Some(TaskRun { ended_at, error: Some(error) }) = last
            && is_ok
        {
            tracing::info!(task = self.name, failed_at = %ended_at, error, "background task recovered");
        }
    }
}

/// The tasks in their order. An upload counts as abandoned after a day, so an hour more doesn't matter; a reminder may be some
/// seconds late.
fn tasks() -> Vec<Arc<Task>> {
    let minute = Duration::from_secs(60);
    vec![
        Task::new("warm-pools", minute / 2, true, |supervisor| {
            Box::pin(async move {
                supervisor.app.environments.keep_warm().await;
                // Afterwards, so that it opens no connection of its own.
                Ok(supervisor.sample_figures().await?)
            })
        }),
        Task::new("remove-abandoned-uploads", 60 * minute, true, |supervisor| {
            Box::pin(async move {
                supervisor.app.storage.clear_abandoned().await?;
                Ok(())
            })
        }),
        Task::new("close-runs", TICK, false, |supervisor| {
            Box::pin(async move { Ok(supervisor.close_runs().await?) })
        }),
        Task::new("send-cards", TICK, false, |supervisor| {
            Box::pin(async move { Ok(supervisor.outbox.send_outdated_cards().await?) })
        }),
        Task::new("remove-old-cards", minute, false, |supervisor| {
            Box::pin(async move {
                supervisor.app.audit.store.remove_old_cards(CARD_RETENTION).await?;
                Ok(())
            })
        }),
        Task::new("remind-approvers", 5 * TICK, false, |supervisor| {
            Box::pin(async move { Ok(supervisor.reminders.remind().await?) })
        }),
        Task::new("start-windows", TICK, false, |supervisor| {
            Box::pin(async move {
                supervisor.start_windows();
                Ok(())
            })
        }),
        Task::new("reconcile-runs", 10 * TICK, true, |supervisor| {
            Box::pin(async move { Ok(supervisor.reconciler.reconcile().await?) })
        }),
    ]
}

/// The beginning of the current interval between samples, in seconds since 1970.
pub(super) fn sample_time() -> i64 {
    let interval = i64::try_from(SAMPLE_INTERVAL.as_secs()).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::now().as_second();
    now - now % interval
}

pub(super) struct Supervisor {
    pub app: Arc<App>,
    pub outbox: Arc<Outbox>,
    pub reminders: Arc<Reminders>,
    pub reconciler: Arc<Reconciler>,
    pub scheduler: Arc<Scheduler>,
    /// As [`sample_time`].
    pub last_sample: AtomicI64,
}

impl Supervisor {
    /// Samples the figures of the servers, once in each interval that begins while this process runs.
    async fn sample_figures(&self) -> StoreResult<()> {
        let at = sample_time();
        if self.last_sample.load(Ordering::Relaxed) < at {
            actions::sample_figures(&self.app, jiff::Timestamp::from_second(at).unwrap_or_default()).await?;
            self.last_sample.store(at, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Runs the tasks, and follows the other replicas, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(Arc::clone(&self).run_tasks(), self.follow_replicas());
    }

    /// Closes runs and sends cards as soon as another replica announces a change: without announcements, the tasks do it later.
    pub async fn follow_replicas(&self) {
        let mut changes = self.app.shared.changes();
        loop {
            changes.next().await;
            if let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "following another replica failed; the next task will do it");
            }
        }
    }

    /// Closes runs and sends outdated cards, once.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn catch_up(&self) -> StoreResult<()> {
        self.close_runs().await?;
        self.outbox.send_outdated_cards().await
    }

    /// No task runs beside itself.
    async fn run_tasks(self: Arc<Self>) {
        let tasks = tasks();
        for task in &tasks {
            self.app.metrics.task_scheduled(task.name, task.interval);
        }
        let mut due = vec![Instant::now(); tasks.len()];
        let mut running: Vec<Option<AbortOnDropHandle<()>>> = tasks.iter().map(|_| None).collect();
        loop {
            for (index, task) in tasks.iter().enumerate() {
                let is_running = running[index].as_ref().is_some_and(|handle| !handle.is_finished());
                if is_running || Instant::now() < due[index] {
                    continue;
                }
                due[index] = Instant::now() + task.interval;
                if task.is_concurrent {
                    let (task, supervisor) = (Arc::clone(task), Arc::clone(&self));
                    let handle = tokio::spawn(async move { task.run(supervisor).await });
                    running[index] = Some(AbortOnDropHandle::new(handle));
                } else {
                    task.run(Arc::clone(&self)).await;
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Starts the windows that are due, each in a task of its own: its run may last for hours.
    fn start_windows(&self) {
        for window in self.scheduler.take_due(jiff::Timestamp::now()) {
            let scheduler = Arc::clone(&self.scheduler);
            self.outbox.background.spawn(async move { scheduler.start(window).await });
        }
    }

    /// Closes the runs whose process died, and the requests that expired.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn close_runs(&self) -> StoreResult<()> {
        let audit = &self.app.audit;
        for run in audit.store.orphans().await? {
            let (kind, reason) = match run.state {
                RunState::Running if run.request.risk == Risk::Read => {
                    (EventKind::Stopped, "Countersign was interrupted")
                }
                RunState::Running => (EventKind::Interrupted, "Countersign was interrupted during the run"),
                _ => (EventKind::Revoked, "Countersign was interrupted before it started"),
            };
            audit.append_or_log(&run, kind, EventDetails::with_reason(reason)).await;
        }
        for run in audit.store.overdue().await? {
            audit.append_or_log(&run, EventKind::Expired, EventDetails::default()).await;
        }
        Ok(())
    }
}
