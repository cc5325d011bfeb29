//! `stop <run>`: ends a long run early, and the sessions that an interrupted run left on PostgreSQL. The request to stop is an event
//! of that run, so it reaches the replica that executes it.

use super::support::blocks::{count, run_argument};
use super::support::decision::{RunTarget, decision_details};
use super::support::{backends, recovery};
use super::{Action, Call, EffectGuard, Execution, Outcome, action_of};
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{EventKind, LoginKind, Plan, Run, RunState};
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
        let run = run_argument(call, "run", "`jobs` shows what is running.").await?;
        self.check_run(call, &run)?;
        let (id, command) = (run.id, &run.request.command);
        let effect = match run.state {
            RunState::Approved => format!("{REVOKES} #{id} ({command}) before it starts."),
            RunState::Interrupted => {
                format!("Closes the interrupted run #{id} ({command}) and ends its sessions on PostgreSQL.")
            }
            _ if is_transactional(call, &run) => {
                format!("Stops run #{id} ({command}) and rolls back all that it has done.")
            }
            _ => format!("Stops run #{id} ({command}). What it has done by then stays."),
        };
        Ok(RunTarget::plan(&run, effect))
    }

    fn check_run(&self, call: &Call<'_>, run: &Run) -> Result<()> {
        let (id, command) = (run.id, &run.request.command);
        let is_long = call.app.catalog.find(command).is_some_and(|command| command.header.posts_progress);
        match run.state {
            RunState::Approved | RunState::Interrupted => ensure_may_stop(call, run),
            // One transaction may wait for a lock as long as any.
            RunState::Running if is_long || is_transactional(call, run) => ensure_may_stop(call, run),
            RunState::Running => {
                let problem = format!("Run #{id} ({command}) ends in a moment and can't be stopped.");
                Err(Error::instead(problem, format!("`show {id}` shows its result.")))
            }
            RunState::Pending => {
                let problem = format!("Request #{id} has not started: it is waiting for approval.");
                let next = format!(
                    "Its requester takes it back with `withdraw {id}`; an approver denies it on its card."
                );
                Err(Error::instead(problem, next))
            }
            ended => {
                let problem = format!("Run #{id} has already ended: {}.", ended.word());
                Err(Error::instead(problem, format!("`show {id}` shows its details.")))
            }
        }
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let id = RunTarget::of(execution.plan).unwrap_or_default();
        let stopped = match execution.app.audit.store.get(id).await {
            Ok(Some(run)) if run.state == RunState::Interrupted => close_interrupted(execution, &run).await,
            Ok(Some(run)) => request_stop(execution, run).await,
            Ok(None) => Ok(Outcome::failed(format!("There is no run #{id}."))),
            Err(err) => Err(err),
        };
        stopped.unwrap_or_else(|err| Outcome::failed(format!("The audit log can't be used: {err}")))
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::RunVersion]
    }
}

/// True if the run's command is one transaction.
fn is_transactional(call: &Call<'_>, run: &Run) -> bool {
    action_of(call.app, run).is_some_and(Action::is_transactional)
}

/// Allows the requester, and everyone who may act or approve there: at night the requester may be absent.
fn ensure_may_stop(call: &Call<'_>, run: &Run) -> Result<()> {
    let environment = run.request.environment.as_deref();
    if call.app.access.may_act(call.person, environment) || run.request.requester.id == call.person.id {
        return Ok(());
    }
    let place = environment.map_or(String::new(), |name| format!(" in {name}"));
    let problem = format!("You may not change anything{place}, so you can't stop runs there.");
    Err(Error::instead(problem, format!("Its requester can: {}.", run.request.requester.id)))
}

/// Revokes the approval of an approved run; asks one that runs to stop, also if it started after the plan was made.
async fn request_stop(execution: &Execution<'_>, mut run: Run) -> Result<Outcome, StoreError> {
    let id = run.id;
    let details = decision_details(execution);
    while run.state.is_open() && run.state != RunState::Pending {
        let kind =
            if run.state == RunState::Approved { EventKind::Revoked } else { EventKind::StopRequested };
        match execution.app.audit.append(&run, kind, details.clone()).await? {
            AppendOutcome::Done(run) => return Ok(wait_for_end(execution, *run).await),
            AppendOutcome::VersionConflict(current) => run = *current,
            // Neither event depends on a freeze, on a resource or on the deadline.
            AppendOutcome::Frozen(_)
            | AppendOutcome::ResourceBusy { .. }
            | AppendOutcome::Overdue(_)
            | AppendOutcome::NotOverdue(_) => {}
        }
    }
    Ok(Outcome::new(EventKind::Invalidated, format!("Run #{id} had already ended: see `show {id}`.")))
}

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

async fn close_interrupted(execution: &Execution<'_>, run: &Run) -> Result<Outcome, StoreError> {
    let (app, id) = (execution.app, run.id);
    let action = action_of(app, run);
    // First of all it must not resume.
    let abandoned =
        action.filter(|action| action.is_resumable()).and_then(|action| action.outcome_if_abandoned(run));
    if let Some(outcome) = &abandoned {
        let by = Some(execution.run.request.requester.clone());
        let details = EventDetails { by, ..outcome.details() };
        // Only in the version that was looked at: a run that has resumed since is not closed.
        if !matches!(app.audit.append(run, outcome.kind, details).await?, AppendOutcome::Done(_)) {
            let verdict = format!("Run #{id} has already ended or resumed: see `show {id}`.");
            return Ok(Outcome::new(EventKind::Invalidated, verdict));
        }
    }
    let result = abandoned.map(|outcome| outcome.verdict.words());
    let login =
        app.catalog.find(&run.request.command).map_or(LoginKind::Operator, |command| command.header.login);
    Ok(match (backends::end(app, run, login).await, result) {
        (Err(err), Some(result)) => Outcome::partial(format!(
            "Run #{id} is closed. Its sessions on PostgreSQL can't be ended: {err} {result}"
        )),
        (Err(err), None) => Outcome::failed(err.to_string()),
        (Ok(0), Some(result)) => {
            Outcome::done(format!("Run #{id} is closed and has no sessions left on PostgreSQL. {result}"))
        }
        (Ok(0), None) => match recovery::observe_progress(app, run).await {
            Some(share) => Outcome::new(
                EventKind::Failed,
                format!("No session carries the name of run #{id}, so none was ended. {}", share.label),
            ),
            None => Outcome::new(
                EventKind::Invalidated,
                format!("Run #{id} has no sessions left on PostgreSQL. What it did before is not known."),
            ),
        },
        (Ok(ended), result) => {
            let unknown = if action.is_some_and(Action::reports_progress) {
                "Its card shows its result in a moment."
            } else {
                "What it did before is not known: check before you run it again."
            };
            let result = result.unwrap_or_else(|| unknown.to_owned());
            let sessions = count(ended, "session", "sessions");
            Outcome::done(format!("{sessions} of the interrupted run #{id} got the signal to end. {result}"))
        }
    })
}
