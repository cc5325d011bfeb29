//! Runs whose process is gone: what became of them, whether one goes on without it, and whether one will go on by itself. It only looks.

use crate::actions::{Action, Execution, Implementation, Outcome, find, support::backends};
use crate::app::App;
use crate::app::Share;
use crate::model::{EventKind, Plan, Run};
use tokio_util::sync::CancellationToken;

/// Why a run is `unknown` whose process ended as it was told to: no mark against the run.
pub const TOLD_TO_END: &str = "Countersign was told to end while it ran";

/// The note on what an interrupted run may have done itself.
pub const INTERRUPTED: &str = "Countersign was interrupted and can't tell whether that is its work.";

/// What can't go on after so many crashes needs a person.
const MOST_CRASHES: usize = 5;

/// Whether an interrupted run is taken up again: it can be, and it isn't what Countersign breaks on.
pub fn goes_on(act: &dyn Action, run: &Run) -> bool {
    act.resumable() && crashes(run) < MOST_CRASHES
}

/// How often it was taken up again after a crash.
fn crashes(run: &Run) -> usize {
    let (mut crashes, mut told_to_end) = (0, false);
    for event in &run.events {
        if event.kind == EventKind::Interrupted {
            told_to_end = event.facts.get("why").and_then(|why| why.as_str()) == Some(TOLD_TO_END);
        } else if event.kind == EventKind::Resumed && !told_to_end {
            crashes += 1;
        }
    }
    crashes
}

/// What became of it, once nothing of it is at work; `None` where nothing can tell.
pub async fn observed(app: &App, run: &Run) -> Option<Outcome> {
    let environment = run.request.environment.as_deref()?;
    let sessions = backends::sessions(app, environment).await.ok()?;
    if sessions.iter().any(|session| session.is_of(run)) {
        return None; // it goes on
    }
    let (act, plan, stop) = parts(app, run)?;
    act.observe(&doing(app, run, (&plan, &stop))?).await
}

/// How far it is without us; `None` where nothing of it is seen to go on.
pub async fn watched(app: &App, run: &Run) -> Option<Share> {
    let (act, plan, stop) = parts(app, run)?;
    act.watch(&doing(app, run, (&plan, &stop))?).await
}

fn parts(app: &App, run: &Run) -> Option<(&'static dyn Action, Plan, CancellationToken)> {
    match app.catalog.find(&run.request.command).and_then(find)? {
        Implementation::Action(act) => Some((act, Plan::read(run.text("plan")?)?, CancellationToken::new())),
        Implementation::Query(_) => None,
    }
}

fn doing<'a>(
    app: &'a App,
    run: &'a Run,
    (plan, stop): (&'a Plan, &'a CancellationToken),
) -> Option<Execution<'a>> {
    let command = app.catalog.find(&run.request.command)?;
    Some(Execution { app, command, run, plan, asker: "countersign".to_owned(), stop })
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
        let (crash, deploy) = (
            (EventKind::Interrupted, "Countersign was interrupted while it ran"),
            (EventKind::Interrupted, TOLD_TO_END),
        );
        let resumed = (EventKind::Resumed, "");
        let purge = &crate::actions::purge::Purge;
        let deployed = [deploy, resumed].repeat(20);
        assert!(goes_on(purge, &run(&[deployed.clone(), vec![crash]].concat())));
        let crashed = [crash, resumed].repeat(4);
        assert!(goes_on(purge, &run(&[crashed.clone(), deployed.clone(), vec![crash]].concat())));
        let once_more = [crash, resumed];
        assert!(!goes_on(purge, &run(&[&crashed[..], &deployed, &once_more, &[deploy]].concat())));
        assert!(!goes_on(&crate::actions::freeze::Freeze, &run(&[])));
    }
}
