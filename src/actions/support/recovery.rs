//! Interrupted runs, whose process is gone: their outcome, their progress, and whether they may resume. Nothing here changes anything.

use crate::actions::{Action, Execution, Outcome, action_of, support::backends};
use crate::app::App;
use crate::catalog::Command;
use crate::model::{EventKind, Plan, Run};
use crate::shared_state::RunProgress;
use tokio_util::sync::CancellationToken;

/// The reason of a run that a regular shutdown interrupted: it does not count as a crash.
pub const SHUTDOWN_REASON: &str = "Countersign was told to end while it ran";

/// The note on what an interrupted run may have done itself.
pub const INTERRUPTED: &str = "Countersign was interrupted and can't tell whether that is its work.";

/// A run that has crashed so often needs a person.
const MAX_CRASHES: usize = 5;

/// Tells whether an interrupted run is resumed: its action can be, and it isn't what crashes Countersign.
pub fn resumes(action: &dyn Action, run: &Run) -> bool {
    action.is_resumable() && crashes(run) < MAX_CRASHES
}

/// Counts how often the run was resumed after a crash.
fn crashes(run: &Run) -> usize {
    let (mut crashes, mut shut_down) = (0, false);
    for event in &run.events {
        if event.kind == EventKind::Interrupted {
            shut_down = event.facts.get("why").and_then(|why| why.as_str()) == Some(SHUTDOWN_REASON);
        } else if event.kind == EventKind::Resumed && !shut_down {
            crashes += 1;
        }
    }
    crashes
}

/// Looks for the outcome once none of the run's sessions is left; `None` where nothing can tell.
pub async fn observe_outcome(app: &App, run: &Run) -> Option<Outcome> {
    let environment = run.request.environment.as_deref()?;
    let backends = backends::sessions(app, environment).await.ok()?;
    if backends.of(run).next().is_some() {
        return None;
    }
    let interrupted = InterruptedRun::load(app, run)?;
    interrupted.action.observe_outcome(&interrupted.execution(app, run)).await
}

/// Looks for the progress of a run that continues without its process; `None` where nothing shows it.
pub async fn observe_progress(app: &App, run: &Run) -> Option<RunProgress> {
    let interrupted = InterruptedRun::load(app, run)?;
    interrupted.action.observe_progress(&interrupted.execution(app, run)).await
}

struct InterruptedRun<'a> {
    command: &'a Command,
    action: &'static dyn Action,
    plan: Plan,
    stop: CancellationToken,
}

impl<'a> InterruptedRun<'a> {
    fn load(app: &'a App, run: &Run) -> Option<InterruptedRun<'a>> {
        let command = app.catalog.find(&run.request.command)?;
        let action = action_of(app, run)?;
        let plan = Plan::from_json(run.text("plan")?)?;
        Some(InterruptedRun { command, action, plan, stop: CancellationToken::new() })
    }

    fn execution(&'a self, app: &'a App, run: &'a Run) -> Execution<'a> {
        let asker = "countersign".to_owned();
        Execution { app, command: self.command, run, plan: &self.plan, asker, stop: &self.stop, part: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunState;
    use serde_json::json;

    fn run(kinds: &[(EventKind, &str)]) -> Run {
        let run = Run::example(("purge", None), jiff::Timestamp::now(), RunState::Interrupted);
        kinds.iter().fold(run, |run, (kind, why)| run.with_event(*kind, json!({ "why": why })))
    }

    #[test]
    fn a_crash_counts_and_a_deploy_does_not() {
        let crash = (EventKind::Interrupted, "Countersign was interrupted while it ran");
        let deploy = (EventKind::Interrupted, SHUTDOWN_REASON);
        let resumed = (EventKind::Resumed, "");
        let purge = &crate::actions::purge::Purge;
        let deployed = [deploy, resumed].repeat(20);
        assert!(resumes(purge, &run(&[deployed.clone(), vec![crash]].concat())));
        let crashed = [crash, resumed].repeat(4);
        assert!(resumes(purge, &run(&[crashed.clone(), deployed.clone(), vec![crash]].concat())));
        assert!(!resumes(purge, &run(&[&crashed[..], &deployed, &[crash, resumed, deploy]].concat())));
        assert!(!resumes(&crate::actions::freeze::Freeze, &run(&[])));
    }
}
