//! Reconciliation of runs whose process died. A resumable run continues from its checkpoints; for any other, PostgreSQL is inspected:
//! work that is still running there is observed, and nothing is ever repeated.

use super::executor::RunExecutor;
use super::in_flight::RunSet;
use super::outbox::Outbox;
use crate::actions::{self, Action, Implementation, support::recovery};
use crate::app::App;
use crate::audit::{AppendConditions, EventDetails};
use crate::model::{EventKind, Run, RunId, RunState};
use crate::shared_state::RunProgress;
use crate::store::{AppendOutcome, Filter, StoreResult};
use crate::telemetry::run_span;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

/// After this time an inspection shows nothing new, and a person has looked. Work that is running, or will resume, is never forgotten.
const OBSERVATION_PERIOD: Duration = Duration::from_secs(86_400);

pub(super) struct Reconciler {
    pub app: Arc<App>,
    pub outbox: Arc<Outbox>,
    pub executor: Arc<RunExecutor>,
    /// Interrupted runs whose cards show what is observed of them.
    pub watched_runs: RunSet,
}

impl Reconciler {
    /// Inspects every interrupted run once. A process that is shutting down resumes none.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn reconcile(self: &Arc<Self>) -> StoreResult<()> {
        let filter = Filter { states: vec![RunState::Interrupted], limit: usize::MAX, ..Filter::default() };
        let runs = self.app.audit.store.list(filter).await?.runs;
        let interrupted: HashSet<RunId> = runs.iter().map(|run| run.id).collect();
        for closed in self.watched_runs.all().into_iter().filter(|run| !interrupted.contains(run)) {
            self.stop_watching(closed);
        }
        for run in runs {
            if self.outbox.background.is_closed() {
                break;
            }
            let code = self.app.catalog.find(&run.request.command).and_then(actions::find);
            let Some(Implementation::Action(action)) = code else { continue };
            if !action.is_resumable() {
                self.observe(&run, action).await?;
            } else if recovery::resumes(action, &run) {
                self.resume(run).await?;
            }
        }
        Ok(())
    }

    /// Resumes a run. The event is the claim: of two replicas one resumes it.
    async fn resume(self: &Arc<Self>, run: Run) -> StoreResult<()> {
        let audit = &self.app.audit;
        let conditions = AppendConditions { unless_frozen: true, ..AppendConditions::default() };
        let waits_until =
            match audit.append_if(&run, EventKind::Resumed, EventDetails::default(), conditions).await? {
                AppendOutcome::Done(run) => {
                    self.stop_watching(run.id);
                    self.outbox.spawn_update(run.id);
                    let executor = Arc::clone(&self.executor);
                    self.outbox.background.spawn(async move { executor.perform(*run).await });
                    return Ok(());
                }
                AppendOutcome::VersionConflict(_)
                | AppendOutcome::Overdue(_)
                | AppendOutcome::NotOverdue(_) => return Ok(()),
                AppendOutcome::ResourceBusy { by, .. } => {
                    format!("It resumes when #{by}, which holds the lock, has ended.")
                }
                AppendOutcome::Frozen(frozen) => {
                    format!("It resumes when the freeze by {} is lifted.", frozen.by.id)
                }
            };
        self.start_watching(&run, Some(RunProgress { percent: None, label: waits_until }));
        Ok(())
    }

    /// Records the outcome of every interrupted run that PostgreSQL shows, and resumes none.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn record_outcomes(self: &Arc<Self>) -> StoreResult<()> {
        let filter = Filter { states: vec![RunState::Interrupted], limit: usize::MAX, ..Filter::default() };
        for run in self.app.audit.store.list(filter).await?.runs {
            if let Some(action) = actions::action_of(&self.app, &run).filter(|action| !action.is_resumable())
            {
                self.record_outcome(&run, action).await?;
            }
        }
        Ok(())
    }

    /// Records the outcome of a run; `false` while nothing shows it.
    ///
    /// # Errors
    /// When the store can't be used.
    async fn record_outcome(self: &Arc<Self>, run: &Run, action: &dyn Action) -> StoreResult<bool> {
        let age = self.app.audit.store.now().await?.duration_since(run.changed_at).unsigned_abs();
        let outcome = if age < OBSERVATION_PERIOD || action.reports_progress() {
            let span = run_span(run.id, &run.request.command);
            recovery::observe_outcome(&self.app, run).instrument(span).await
        } else {
            None
        };
        let Some(outcome) = outcome else { return Ok(false) };
        self.stop_watching(run.id);
        self.app.audit.append_or_log(run, outcome.kind, outcome.details()).await;
        self.outbox.spawn_update(run.id);
        Ok(true)
    }

    async fn observe(self: &Arc<Self>, run: &Run, action: &dyn Action) -> StoreResult<()> {
        if !self.record_outcome(run, action).await? {
            tracing::debug!(run = run.id, "run outcome not known yet");
            let progress = recovery::observe_progress(&self.app, run).await;
            self.start_watching(run, progress);
        }
        Ok(())
    }

    /// Shows on a run's cards what is observed of it, if they don't show that yet.
    fn start_watching(&self, run: &Run, progress: Option<RunProgress>) {
        if progress == self.app.progress.get(run.id) {
            return;
        }
        match progress {
            Some(progress) => {
                self.watched_runs.insert(run.id);
                self.app.progress.set_observed(run.id, progress);
            }
            None => self.stop_watching(run.id),
        }
        let (outbox, run) = (Arc::clone(&self.outbox), run.id);
        self.outbox.background.spawn(async move { outbox.force_update(run).await });
    }

    fn stop_watching(&self, run: RunId) {
        if self.watched_runs.remove(run) {
            self.app.progress.clear(run);
        }
    }
}
