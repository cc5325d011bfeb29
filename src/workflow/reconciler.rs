//! What becomes of runs whose process is gone. What is resumable goes on from its noted steps; of everything else PostgreSQL is
//! looked at: what still goes on there is watched, and nothing is ever repeated.

use super::Workflow;
use crate::actions::{self, Action, Implementation, support::recovery};
use crate::app::Share;
use crate::audit::EventDetails;
use crate::model::{EventKind, Run, RunId, RunState};
use crate::store::{AppendOutcome, Filter, StoreResult};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// After that nothing new is to be seen, and a person has looked. What goes on, or is to go on, is never forgotten.
const LOOK_FOR: Duration = Duration::from_secs(86_400);

impl Workflow {
    /// Looks once at every run that is `unknown`. A process that ends takes nothing up.
    pub(super) async fn reconcile(self: &Arc<Self>) -> StoreResult<()> {
        let filter = Filter { states: vec![RunState::Interrupted], limit: usize::MAX, ..Filter::default() };
        let runs = self.app.audit.store.list(filter).await?.runs;
        let unknown: HashSet<RunId> = runs.iter().map(|run| run.id).collect();
        for closed in self.watching.all().into_iter().filter(|run| !unknown.contains(run)) {
            self.unwatch(closed);
        }
        for run in runs {
            if self.after.is_closed() {
                break;
            }
            let code = self.app.catalog.find(&run.request.command).and_then(actions::find);
            let Some(Implementation::Action(act)) = code else { continue };
            match act.resumable() {
                true if recovery::goes_on(act, &run) => self.resume(run).await?,
                true => {}
                false => self.observe(&run, act).await,
            }
        }
        Ok(())
    }

    /// The claim is the event: of two replicas one goes on.
    async fn resume(self: &Arc<Self>, run: Run) -> StoreResult<()> {
        let why = match self
            .app
            .audit
            .append_unless_frozen(&run, EventKind::Resumed, EventDetails::default())
            .await?
        {
            AppendOutcome::Done(run) => {
                self.unwatch(run.id);
                self.refresh_soon(run.id);
                let flow = Arc::clone(self);
                self.after.spawn(async move { flow.perform(*run).await });
                return Ok(());
            }
            AppendOutcome::VersionConflict(_) => return Ok(()),
            AppendOutcome::ResourceBusy { by, .. } => {
                format!("It resumes when #{by}, which holds the lock, has ended.")
            }
            AppendOutcome::Frozen(frozen) => {
                format!("It resumes when the freeze by {} is lifted.", frozen.by.id)
            }
        };
        self.watch(&run, Some(Share { percent: None, label: why }));
        Ok(())
    }

    async fn observe(self: &Arc<Self>, run: &Run, act: &dyn Action) {
        let age = jiff::Timestamp::now().duration_since(run.changed_at).unsigned_abs();
        let seen = match age < LOOK_FOR || act.is_watched() {
            true => recovery::observed(&self.app, run).await,
            false => None,
        };
        let Some(outcome) = seen else {
            tracing::debug!(run = run.id, "run outcome not known yet");
            let share = recovery::watched(&self.app, run).await;
            return self.watch(run, share);
        };
        self.unwatch(run.id);
        self.append_or_log(run, outcome.kind, outcome.details()).await;
        self.refresh_soon(run.id);
    }

    /// Shows on a run's cards what of it goes on, if that is another than they show.
    fn watch(self: &Arc<Self>, run: &Run, share: Option<Share>) {
        if share == self.app.progress.get(run.id) {
            return;
        }
        match share {
            Some(Share { percent, label }) => {
                self.watching.begin(run.id);
                self.app.progress.set(run.id, percent, label);
            }
            None => self.unwatch(run.id),
        }
        let (flow, run) = (Arc::clone(self), run.id);
        self.after.spawn(async move { flow.redraw(run).await });
    }

    fn unwatch(&self, run: RunId) {
        if self.watching.leave(run) {
            self.app.progress.clear(run);
        }
    }
}
