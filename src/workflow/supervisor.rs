//! The supervisor: the periodic background tasks, by name. They close what time and crashes left open, and bring cards up to the
//! record.

use super::outbox::Outbox;
use super::reconciler::Reconciler;
use super::reminders::Reminders;
use crate::app::App;
use crate::audit::EventDetails;
use crate::model::{EventKind, Risk, RunState};
use crate::store::StoreResult;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The due tasks are looked for this often.
const TICK: Duration = Duration::from_secs(1);

/// A periodic background task.
struct Task {
    name: &'static str,
    interval: Duration,
    /// The log line of a failure.
    failure: &'static str,
    /// Runs beside the others, since it may wait for a network. The others run one after another, in the order of the list.
    is_concurrent: bool,
    run: fn(Arc<Supervisor>) -> BoxFuture<'static, anyhow::Result<()>>,
    last: Mutex<Option<TaskRun>>,
}

/// A task's last run.
struct TaskRun {
    ended_at: jiff::Timestamp,
    error: Option<String>,
}

impl Task {
    async fn run(&self, supervisor: Arc<Supervisor>) {
        let started = Instant::now();
        let error = (self.run)(supervisor).await.err().map(|error| format!("{error:#}"));
        match &error {
            Some(error) => tracing::warn!(task = self.name, error, "{}", self.failure),
            None => tracing::debug!(task = self.name, took = ?started.elapsed(), "background task ended"),
        }
        let is_ok = error.is_none();
        let last = self.last.lock().replace(TaskRun { ended_at: jiff::Timestamp::now(), error });
        if let Some(TaskRun { ended_at, error: Some(error) }) = last
            && is_ok
        {
            tracing::info!(task = self.name, failed_at = %ended_at, error, "background task recovered");
        }
    }
}

fn tasks() -> Vec<Arc<Task>> {
    let minute = Duration::from_secs(60);
    let tasks = [
        Task {
            name: "warm-pools",
            interval: minute / 2,
            failure: "warming pools failed",
            is_concurrent: true,
            run: |supervisor| {
                Box::pin(async move {
                    supervisor.app.environments.keep_warm().await;
                    Ok(())
                })
            },
            last: Mutex::default(),
        },
        Task {
            name: "remove-abandoned-uploads",
            // An upload counts as abandoned after a day: an hour more or less doesn't matter.
            interval: minute * 60,
            failure: "removing abandoned uploads failed",
            is_concurrent: true,
            run: |supervisor| {
                Box::pin(async move {
                    supervisor.app.storage.clear_abandoned().await?;
                    Ok(())
                })
            },
            last: Mutex::default(),
        },
        Task {
            name: "close-runs",
            interval: TICK,
            failure: "background tick skipped: audit store unavailable",
            is_concurrent: false,
            run: |supervisor| Box::pin(async move { Ok(supervisor.close_runs().await?) }),
            last: Mutex::default(),
        },
        Task {
            name: "send-cards",
            interval: TICK,
            failure: "sending cards skipped: audit store unavailable",
            is_concurrent: false,
            run: |supervisor| Box::pin(async move { Ok(supervisor.outbox.send_cards_behind().await?) }),
            last: Mutex::default(),
        },
        Task {
            name: "remind-approvers",
            // A reminder may be some seconds late.
            interval: 5 * TICK,
            failure: "reminders skipped: audit store unavailable",
            is_concurrent: false,
            run: |supervisor| Box::pin(async move { Ok(supervisor.reminders.remind().await?) }),
            last: Mutex::default(),
        },
        Task {
            name: "reconcile-runs",
            interval: 10 * TICK,
            failure: "reconciliation skipped: audit store unavailable",
            is_concurrent: true,
            run: |supervisor| Box::pin(async move { Ok(supervisor.reconciler.reconcile().await?) }),
            last: Mutex::default(),
        },
    ];
    tasks.into_iter().map(Arc::new).collect()
}

/// Runs the background tasks.
pub(super) struct Supervisor {
    pub app: Arc<App>,
    pub outbox: Arc<Outbox>,
    pub reminders: Arc<Reminders>,
    pub reconciler: Arc<Reconciler>,
}

impl Supervisor {
    /// Runs the tasks until it is dropped. No task runs beside itself.
    pub async fn run(self: Arc<Self>) {
        let tasks = tasks();
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
            audit.append_or_log(&run, kind, EventDetails::why(reason)).await;
        }
        for run in audit.store.overdue(jiff::Timestamp::now()).await? {
            audit.append_or_log(&run, EventKind::Expired, EventDetails::default()).await;
        }
        Ok(())
    }
}
