//! `stop <run>`: ends a long run early, and the sessions that an interrupted run left on PostgreSQL. The request to stop is an event
//! of that run, so it reaches the replica that executes it.

use super::support::backends;
use super::support::blocks::{count, run_argument};
use super::support::decision::RunTarget;
use super::support::recovery;
use super::{Action, Call, Execution, Implementation, Outcome};
use crate::app::App;
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{EventKind, Login, Plan, Run, RunState};
use crate::store::{AppendOutcome, StoreError};
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::Instant;

pub struct Stop;

/// A statement is cancelled within moments; after this the answer says where to look.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The first words of the plan for a run that hasn't started.
const REVOKES: &str = "Revokes the approval of";

#[async_trait]
impl Action for Stop {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "`jobs` shows what is running.").await?;
        ensure_may_stop(call, &run)?;
        let id = run.id;
        let command = &run.request.command;
        let effect = match run.state {
            RunState::Pending => {
                return Err(Error::instead(
                    format!("Request #{id} has not started: it is waiting for approval."),
                    format!(
                        "Its requester takes it back with `withdraw {id}`; an approver denies it on its card."
                    ),
                ));
            }
            RunState::Approved => format!("{REVOKES} #{id} ({command}) before it starts."),
            RunState::Running if is_transactional(call.app, &run) => {
                format!("Stops run #{id} ({command}) and rolls back all that it has done.")
            }
            RunState::Running if !is_long(call, &run) => {
                return Err(Error::instead(
                    format!("Run #{id} ({command}) ends in a moment and can't be stopped."),
                    format!("`show {id}` shows its result."),
                ));
            }
            RunState::Running => format!("Stops run #{id} ({command}). What it has done by then stays."),
            RunState::Interrupted => {
                format!("Closes the interrupted run #{id} ({command}) and ends its sessions on PostgreSQL.")
            }
            ended => {
                return Err(Error::instead(
                    format!("Run #{id} has already ended: {}.", ended.word()),
                    format!("`show {id}` shows its details."),
                ));
            }
        };
        Ok(RunTarget::plan(&run, effect))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let id = RunTarget::of(execution.plan).unwrap_or_default();
        match execution.app.audit.store.get(id).await {
            Ok(Some(run)) if run.state == RunState::Interrupted => close_interrupted(execution, &run).await,
            Ok(Some(run)) => request_stop(execution, &run).await,
            Ok(None) => Outcome::failed(format!("There is no run #{id}.")),
            Err(err) => store_failed(&err),
        }
    }
}

fn store_failed(err: &StoreError) -> Outcome {
    Outcome::failed(format!("The audit log can't be used: {err}"))
}

/// Allows the requester, and everyone who may act or approve there: at night the requester may be absent.
fn ensure_may_stop(call: &Call<'_>, run: &Run) -> Result<()> {
    let environment = run.request.environment.as_deref();
    if call.app.access.may_act(call.person, environment) || run.request.requester.id == call.person.id {
        return Ok(());
    }
    let place = environment.map_or(String::new(), |name| format!(" in {name}"));
    Err(Error::instead(
        format!("You may not change anything{place}, so you can't stop runs there."),
        format!("Its requester can: {}.", run.request.requester.id),
    ))
}

fn is_long(call: &Call<'_>, run: &Run) -> bool {
    call.app.catalog.find(&run.request.command).is_some_and(|command| command.header.posts_progress)
}

fn action(app: &App, run: &Run) -> Option<&'static dyn Action> {
    match app.catalog.find(&run.request.command).and_then(super::find) {
        Some(Implementation::Action(action)) => Some(action),
        _ => None,
    }
}

/// One transaction, which may wait for a lock as long as any.
fn is_transactional(app: &App, run: &Run) -> bool {
    action(app, run).is_some_and(Action::is_transactional)
}

/// Revokes the approval of an approved run; asks one that runs to stop, also if it started after the plan was made.
async fn request_stop(execution: &Execution<'_>, run: &Run) -> Outcome {
    let (id, mut run) = (run.id, run.clone());
    let mut details = EventDetails::by(&execution.run.request.requester);
    if let Some(reason) = execution.run.text("reason") {
        details = details.text("why", reason);
    }
    while run.state.is_open() && run.state != RunState::Pending {
        let kind =
            if run.state == RunState::Approved { EventKind::Revoked } else { EventKind::StopRequested };
        match execution.app.audit.append(&run, kind, details.clone()).await {
            Ok(AppendOutcome::Done(run)) => return wait_for_end(execution, *run).await,
            Ok(AppendOutcome::VersionConflict(current)) => run = *current,
            Ok(AppendOutcome::Frozen(_) | AppendOutcome::ResourceBusy { .. }) => {}
            Err(err) => return store_failed(&err),
        }
    }
    Outcome::new(EventKind::Invalidated, format!("Run #{id} had already ended: see `show {id}`."))
}

/// Waits a while for the end of a run that was asked to stop.
async fn wait_for_end(execution: &Execution<'_>, run: Run) -> Outcome {
    let id = run.id;
    // The plan was made before the run started.
    let started = if run.state == RunState::Running && execution.plan.effect.starts_with(REVOKES) {
        format!("Run #{id} had started before its approval could be revoked. ")
    } else {
        String::new()
    };
    let deadline = Instant::now() + END_TIMEOUT;
    while Instant::now() < deadline {
        if let Ok(Some(run)) = execution.app.audit.store.get(id).await
            && !run.state.is_open()
        {
            let verdict = run.text("verdict").map_or(String::new(), |verdict| format!(" {verdict}"));
            return Outcome::done(format!("{started}Run #{id} has ended: {}.{verdict}", run.state.word()));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Outcome::done(format!(
        "{started}Run #{id} was asked to stop and has not ended yet: `show {id}` shows when it has."
    ))
}

/// Closes an interrupted run that could resume, and ends the sessions that it left.
async fn close_interrupted(execution: &Execution<'_>, run: &Run) -> Outcome {
    let (app, id) = (execution.app, run.id);
    let action = action(app, run);
    // First of all it must not resume.
    let abandoned =
        action.filter(|action| action.is_resumable()).and_then(|action| action.outcome_if_abandoned(run));
    if let Some(outcome) = &abandoned {
        let by = Some(execution.run.request.requester.clone());
        let details = EventDetails { by, ..outcome.details() };
        // Only in the version that was looked at: a run that has resumed since is not closed.
        match app.audit.append(run, outcome.kind, details).await {
            Ok(AppendOutcome::Done(_)) => {}
            Ok(_) => {
                let verdict = format!("Run #{id} has already ended or resumed: see `show {id}`.");
                return Outcome::new(EventKind::Invalidated, verdict);
            }
            Err(err) => return store_failed(&err),
        }
    }
    let result = abandoned.map(|outcome| outcome.verdict.words());
    let login =
        app.catalog.find(&run.request.command).map_or(Login::Operator, |command| command.header.login);
    let ended = match (backends::end(app, run, login).await, &result) {
        (Ok(ended), _) => ended,
        (Err(err), Some(result)) => {
            return Outcome::partial(format!(
                "Run #{id} is closed. Its sessions on PostgreSQL can't be ended: {err} {result}"
            ));
        }
        (Err(err), None) => return Outcome::failed(err.to_string()),
    };
    if ended > 0 {
        let sessions = count(ended, "session", "sessions");
        let result = result.unwrap_or_else(|| {
            if action.is_some_and(Action::reports_progress) {
                "Its card shows its result in a moment.".to_owned()
            } else {
                "What it did before is not known: check before you run it again.".to_owned()
            }
        });
        return Outcome::done(format!(
            "{sessions} of the interrupted run #{id} got the signal to end. {result}"
        ));
    }
    if let Some(result) = result {
        return Outcome::done(format!(
            "Run #{id} is closed and has no sessions left on PostgreSQL. {result}"
        ));
    }
    if let Some(share) = recovery::observe_progress(app, run).await {
        let verdict = format!("No session carries the name of run #{id}, so none was ended. {}", share.label);
        return Outcome::new(EventKind::Failed, verdict);
    }
    Outcome::new(
        EventKind::Invalidated,
        format!("Run #{id} has no sessions left on PostgreSQL. What it did before is not known."),
    )
}
