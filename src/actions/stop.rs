//! `stop <run>`: a long run ends early and tells what it has done; what an interrupted one left on PostgreSQL is ended too. The wish
//! is the run's own event, so it reaches whichever replica works on it.

use super::support::blocks::run_argument;
use super::{Action, Call, Execution, Implementation, Outcome, support::backends};
use crate::app::App;
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run, RunId, RunState};
use crate::store::AppendOutcome;
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::Instant;

pub struct Stop;

/// A statement is cancelled within moments; whoever waits longer is told where to look.
const WAIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How the plan for a run begins that hasn't started.
const TAKES_BACK: &str = "Takes back the approval of";

#[async_trait]
impl Action for Stop {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let run = run_argument(call, "`jobs` shows what runs.").await?;
        may_stop(call, &run)?;
        let id = run.id;
        let command = &run.request.command;
        let effect = match run.state {
            RunState::Pending => {
                return Err(Error::instead(
                    format!("Run #{id} has not started: it waits for a second person."),
                    format!(
                        "Its requester takes it back with `withdraw {id}`; an approver denies it on its card."
                    ),
                ));
            }
            RunState::Approved => format!("{TAKES_BACK} #{id} ({command}) before it starts."),
            RunState::Running if all_or_nothing(call.app, &run) => {
                format!("Stops run #{id} ({command}) and takes back all that it has done.")
            }
            RunState::Running if !is_long(call, &run) => {
                return Err(Error::instead(
                    format!("Run #{id} ({command}) is over in a moment and can't be stopped."),
                    format!("`show {id}` tells what became of it."),
                ));
            }
            RunState::Running => format!("Stops run #{id} ({command}). What it has done by then stays."),
            RunState::Interrupted => {
                format!("Ends what the interrupted run #{id} ({command}) left on PostgreSQL, for good.")
            }
            over => {
                return Err(Error::instead(
                    format!("Run #{id} is over: {}.", format!("{over:?}").to_lowercase()),
                    format!("`show {id}` tells it all."),
                ));
            }
        };
        let mut plan = Plan::of(effect);
        plan.identity.insert("run".to_owned(), id.to_string());
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let failed = |why: String| Outcome::new(EventKind::Failed, why);
        let id: RunId = doing.plan.identity.get("run").and_then(|id| id.parse().ok()).unwrap_or_default();
        let run = match doing.app.audit.store.get(id).await {
            Ok(Some(run)) => run,
            Ok(None) => return failed(format!("There is no run #{id}.")),
            Err(why) => return failed(format!("Nothing changed: {why}.")),
        };
        match run.state {
            RunState::Interrupted => left_behind(doing, &run).await,
            _ => ask_to_stop(doing, &run).await,
        }
    }
}

/// Whoever asked for it, and whoever may act or approve there: at night the one who asked may be gone.
fn may_stop(call: &Call<'_>, run: &Run) -> Result<()> {
    let environment = run.request.environment.as_deref();
    if call.app.access.may_act(call.person, environment) || run.request.requester.id == call.person.id {
        return Ok(());
    }
    let place = environment.map_or(String::new(), |name| format!(" in {name}"));
    Err(Error::instead(
        format!("You may do nothing{place}, so you can't stop what runs there."),
        format!("It is {}'s.", run.request.requester.id),
    ))
}

fn is_long(call: &Call<'_>, run: &Run) -> bool {
    call.app.catalog.find(&run.request.command).is_some_and(|command| command.header.posts_progress)
}

fn code(app: &App, run: &Run) -> Option<&'static dyn Action> {
    match app.catalog.find(&run.request.command).and_then(super::find) {
        Some(Implementation::Action(act)) => Some(act),
        _ => None,
    }
}

/// One transaction, which may wait for a lock as long as any.
fn all_or_nothing(app: &App, run: &Run) -> bool {
    code(app, run).is_some_and(Action::all_or_nothing)
}

/// What is approved loses its approval; what runs, also if it started while it was asked about, is told to stop.
async fn ask_to_stop(doing: &Execution<'_>, run: &Run) -> Outcome {
    let (id, mut run) = (run.id, run.clone());
    let mut told = EventDetails::by(&doing.run.request.requester);
    if let Some(reason) = doing.run.text("reason") {
        told = told.text("why", reason);
    }
    while run.state.is_open() && run.state != RunState::Pending {
        let happening =
            if run.state == RunState::Approved { EventKind::Revoked } else { EventKind::StopRequested };
        match doing.app.audit.append(&run, happening, told.clone()).await {
            Ok(AppendOutcome::Done(noted)) => return ended(doing, *noted).await,
            Ok(AppendOutcome::VersionConflict(now)) => run = *now,
            Ok(AppendOutcome::Frozen(_) | AppendOutcome::ResourceBusy { .. }) => {}
            Err(why) => return Outcome::new(EventKind::Failed, format!("Nothing changed: {why}.")),
        }
    }
    Outcome::new(EventKind::Invalidated, format!("Run #{id} was over already: see `show {id}`."))
}

/// Waits a while for the end of a run that was told to stop.
async fn ended(doing: &Execution<'_>, run: Run) -> Outcome {
    let id = run.id;
    // The plan was made of what stood there before.
    let started = match (run.state, doing.plan.effect.starts_with(TAKES_BACK)) {
        (RunState::Running, true) => {
            format!("Run #{id} had started before its approval could be taken back. ")
        }
        _ => String::new(),
    };
    let until = Instant::now() + WAIT;
    while Instant::now() < until {
        if let Ok(Some(now)) = doing.app.audit.store.get(id).await
            && !now.state.is_open()
        {
            return over(&now, &started);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let text =
        format!("{started}Run #{id} was told to stop and has not ended yet: `show {id}` tells when it has.");
    Outcome::new(EventKind::Succeeded, text)
}

fn over(run: &Run, started: &str) -> Outcome {
    let (id, state) = (run.id, format!("{:?}", run.state).to_lowercase());
    let said = run.text("verdict").map_or(String::new(), |verdict| format!(" {verdict}"));
    Outcome::new(EventKind::Succeeded, format!("{started}Run #{id} has ended: {state}.{said}"))
}

async fn left_behind(doing: &Execution<'_>, run: &Run) -> Outcome {
    let (app, id) = (doing.app, run.id);
    // What would go on by itself is closed first.
    let given_up = code(app, run).filter(|act| act.resumable()).and_then(|act| act.given_up(run));
    if let Some(outcome) = &given_up {
        let told = EventDetails { by: Some(doing.run.request.requester.clone()), ..outcome.details() };
        // As it was looked at: one that goes on by now is not closed behind the back of who works on it.
        match app.audit.append(run, outcome.kind, told).await {
            Ok(AppendOutcome::Done(_)) => {}
            Ok(_) => {
                let text = format!("Run #{id} was over, or went on, already: see `show {id}`.");
                return Outcome::new(EventKind::Invalidated, text);
            }
            Err(why) => return Outcome::new(EventKind::Failed, format!("Nothing changed: {why}.")),
        }
    }
    let done = given_up.map(|outcome| outcome.verdict.words());
    let login = app.catalog.find(&run.request.command).map(|command| command.header.login.clone());
    match (backends::end(app, run, &login.unwrap_or_default()).await, done) {
        (Ok(0), Some(done)) => {
            let text = format!("Run #{id} doesn't go on, and has left nothing on PostgreSQL. {done}");
            Outcome::new(EventKind::Succeeded, text)
        }
        (Ok(0), None) if let Some(share) = super::support::recovery::watched(app, run).await => {
            let text =
                format!("None of the sessions has run #{id}'s name, so none was ended. {}", share.label);
            Outcome::new(EventKind::Failed, text)
        }
        (Ok(0), None) => {
            let text = format!(
                "Run #{id} has left nothing on PostgreSQL that goes on. What it did before is not known."
            );
            Outcome::new(EventKind::Invalidated, text)
        }
        (Ok(some), done) => {
            let sessions = super::support::blocks::count(some, "session", "sessions");
            let unknown = || match code(app, run).is_some_and(Action::is_watched) {
                true => "Its card tells in a moment what it has done.".to_owned(),
                false => "What it did before is not known: look before asking again.".to_owned(),
            };
            let done = done.unwrap_or_else(unknown);
            let text = format!("{sessions} of the interrupted run #{id} got the signal to end. {done}");
            Outcome::new(EventKind::Succeeded, text)
        }
        (Err(why), Some(done)) => {
            let text =
                format!("Run #{id} doesn't go on. What it left on PostgreSQL can't be ended: {why} {done}");
            Outcome::new(EventKind::Partial, text)
        }
        (Err(why), None) => Outcome::new(EventKind::Failed, format!("Nothing was done: {why}")),
    }
}
