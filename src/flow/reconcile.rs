//! What becomes of runs whose process is gone. What is resumable goes on from its noted steps; of everything else PostgreSQL is
//! looked at, and nothing is ever repeated.

use super::Flow;
use super::act::told_of;
use crate::actions::{self, Act, Code, Doing, Outcome, lingering};
use crate::plan::Plan;
use crate::runs::{Happening, Told};
use crate::store::{Appended, Filter, Run, State, StoreResult};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// After that nothing new is to be seen, and a person has looked.
const LOOK_FOR: Duration = Duration::from_secs(86_400);

/// What can't go on after so many attempts needs a person.
const MOST_RESUMES: usize = 5;

impl Flow {
    /// Looks once at every run that is `unknown`.
    pub(super) async fn reconcile(self: &Arc<Self>) -> StoreResult<()> {
        let since = jiff::Timestamp::now() - LOOK_FOR;
        let filter = Filter { states: vec![State::Unknown], since: Some(since), ..Filter::default() };
        for run in self.app.runs.store.list(filter).await?.runs {
            let Some(command) = self.app.catalog.find(&run.request.command) else { continue };
            let Some(Code::Act(act)) = actions::find(command) else { continue };
            match act.resumable() {
                true => self.resume(run).await?,
                false => self.observe(&run, act).await,
            }
        }
        Ok(())
    }

    /// The claim is the event: of two replicas one goes on.
    async fn resume(self: &Arc<Self>, run: Run) -> StoreResult<()> {
        if !may_go_on(&run) {
            return Ok(());
        }
        if let Appended::Done(run) =
            self.app.runs.append_unless_frozen(&run, Happening::Resumed, Told::default()).await?
        {
            self.refresh_soon(run.id);
            let flow = Arc::clone(self);
            self.after.spawn(async move { flow.perform(*run).await });
        }
        Ok(())
    }

    async fn observe(self: &Arc<Self>, run: &Run, act: &dyn Act) {
        let Some(outcome) = self.seen(run, act).await else { return };
        self.append_or_log(run, outcome.happening, told_of(&outcome)).await;
        self.refresh_soon(run.id);
    }

    async fn seen(&self, run: &Run, act: &dyn Act) -> Option<Outcome> {
        let command = self.app.catalog.find(&run.request.command)?;
        let environment = run.request.environment.as_deref()?;
        let sessions = lingering::sessions(&self.app, environment).await.ok()?;
        if sessions.iter().any(|session| session.is_of(run)) {
            return None; // it goes on
        }
        let plan = Plan::read(run.text("plan")?)?;
        let (stop, asker) = (CancellationToken::new(), "countersign".to_owned());
        act.observe(&Doing { app: &self.app, command, run, plan: &plan, asker, stop: &stop }).await
    }
}

/// Whether a resumable run has attempts left.
pub(super) fn may_go_on(run: &Run) -> bool {
    let resumed = run.events.iter().filter(|event| event.kind == Happening::Resumed.word());
    resumed.count() < MOST_RESUMES
}
