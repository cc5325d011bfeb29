//! The scheduler: a door into the workflow, as `ingress` is for chat. It finds the windows that are due, and starts each once: the
//! delivery id of a start is its window and its due time, so that the audit log opens one run for it, whatever number of replicas,
//! restarts and clocks there are.

use super::authenticate::Authenticator;
use super::intent::Intent;
use super::queries::Queries;
use super::replies::Opened;
use super::requests::Requests;
use super::watch::Watch;
use crate::actions::support::blocks::note;
use crate::actions::{self, Implementation, Outcome};
use crate::app::App;
use crate::clock::format_duration;
use crate::command_line::as_word;
use crate::error::{Error, Result, User, contain_panic};
use crate::model::{
    ChatAccount, ChatEvent, ChatEventKind, Conversation, EventKind, PlatformKind, Risk, RunId,
};
use crate::redact;
use crate::schedule::{EnvironmentWindow, PUNCTUAL_WITHIN, PauseState, ScheduledStart, Wait, newest_start};
use crate::sql::duration;
use crate::store::{OpenOutcome, StoreResult};
use jiff::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A run that a window waits for is looked at this often, and whenever another replica announces a change.
const WAIT_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A start recorded further in the future was recorded by a wrong clock, and doesn't hold up those before it.
const MAX_CLOCK_ERROR: Duration = Duration::from_secs(7 * 86_400);

/// A window that is due.
#[derive(Debug, Clone)]
pub(super) struct DueWindow {
    /// Its place in the schedule.
    index: usize,
    due: Timestamp,
    /// The time at which it was found (UTC).
    now: Timestamp,
}

/// The windows that this process is done with, and those that it is at.
#[derive(Default)]
struct Progress {
    /// By place in the schedule: the newest due time that needs nothing more.
    settled: HashMap<usize, Timestamp>,
    /// Places in the schedule.
    in_progress: BTreeSet<usize>,
}

/// Missed starts are counted up to this.
const MAX_MISSED: usize = 1_000;

pub(super) struct Scheduler {
    pub app: Arc<App>,
    pub authenticator: Authenticator,
    pub queries: Arc<Queries>,
    pub requests: Arc<Requests>,
    pub watch: Watch,
    progress: Mutex<Progress>,
}

impl Scheduler {
    pub fn new(
        app: Arc<App>,
        authenticator: Authenticator,
        queries: Arc<Queries>,
        requests: Arc<Requests>,
        watch: Watch,
    ) -> Scheduler {
        Scheduler { app, authenticator, queries, requests, watch, progress: Mutex::default() }
    }

    /// Takes the windows that are due at a time (UTC), and that this process has neither begun nor settled. Each has to be given to
    /// [`Scheduler::start`].
    pub fn take_due(&self, now: Timestamp) -> Vec<DueWindow> {
        let mut progress = self.progress.lock();
        let mut windows = Vec::new();
        for (index, window) in self.app.schedule.iter().enumerate() {
            let Some(due) = window.last(now).filter(|due| progress.settled.get(&index) != Some(due)) else {
                continue;
            };
            if progress.in_progress.insert(index) {
                windows.push(DueWindow { index, due, now });
            }
        }
        windows
    }

    /// Starts a window that is due, unless its start is recorded already, and waits for the end of its run. What the audit log can't
    /// take now is tried again with the next [`Scheduler::take_due`].
    pub async fn start(&self, taken: DueWindow) {
        let window = &self.app.schedule[taken.index];
        let started = self.start_once(window, &taken).await;
        self.app.waits.set(window, None);
        let mut progress = self.progress.lock();
        progress.in_progress.remove(&taken.index);
        match started {
            Ok(()) => drop(progress.settled.insert(taken.index, taken.due)),
            Err(error) => {
                let (window, environment) = (&window.name, &window.environment);
                tracing::warn!(window, environment, %error, "recording start of window failed; will retry");
            }
        }
    }

    async fn start_once(&self, window: &EnvironmentWindow, taken: &DueWindow) -> StoreResult<()> {
        let store = &*self.app.audit.store;
        let PauseState { pause, resumed_at } = PauseState::of(store, window).await?;
        if pause.is_some() || resumed_at.is_some_and(|resumed| taken.due <= resumed) {
            return Ok(());
        }
        let delay = taken.now.duration_since(taken.due).unsigned_abs();
        if window.is_watching() {
            // After a pause, the next look tells what has changed meanwhile.
            return if delay <= PUNCTUAL_WITHIN { self.look(window, taken).await } else { Ok(()) };
        }
        let newest_start = newest_start(store, window).await?;
        let newest = newest_start.as_ref().map(|start| start.due);
        if newest.is_some_and(|newest| taken.due <= newest && newest <= taken.now + MAX_CLOCK_ERROR) {
            return Ok(());
        }
        let longest_delay = PUNCTUAL_WITHIN.max(window.catch_up);
        // A window that is new in the configuration, or has other start times than before, has missed nothing.
        let has_other_times = newest_start.is_some_and(|start| !start.has_times_of(window));
        if (newest.is_none() || has_other_times) && delay > longest_delay {
            return Ok(());
        }
        let last = newest.filter(|newest| *newest < taken.due).max(resumed_at).filter(|_| !has_other_times);
        let missed: Vec<Timestamp> =
            last.map_or(Vec::new(), |last| window.between(last, taken.due).take(MAX_MISSED).collect());
        let start = ScheduledStart {
            window: window.name.clone(),
            due: taken.due,
            times: window.times(),
            missed: missed.len(),
            missed_since: missed.first().copied(),
            is_late: delay > PUNCTUAL_WITHIN,
            waited_for: None,
        };
        let incoming = self.event(window, taken.due);
        let Some(intent) = self.intent(window, &incoming, start) else { return Ok(()) };
        if delay > longest_delay {
            let longest_delay = format_duration(longest_delay);
            let problem = format!("Countersign could not start it within {longest_delay} of its time.");
            return self.record_refusal(window, intent, &Error::user(problem)).await;
        }
        self.start_or_wait(window, intent, window.grace.saturating_sub(delay)).await
    }

    /// Looks once for a window that reports changes.
    async fn look(&self, window: &EnvironmentWindow, taken: &DueWindow) -> StoreResult<()> {
        let start = ScheduledStart {
            window: window.name.clone(),
            due: taken.due,
            times: window.times(),
            missed: 0,
            missed_since: None,
            is_late: false,
            waited_for: None,
        };
        let incoming = self.event(window, taken.due);
        let Some(intent) = self.intent(window, &incoming, start) else { return Ok(()) };
        let recipients = self.authenticator.recipients_of_start(&intent);
        self.watch.look(window, &intent, recipients, taken.due).await
    }

    /// Starts a window as soon as no other run works on the same, within that time.
    async fn start_or_wait(
        &self,
        window: &EnvironmentWindow,
        mut intent: Intent<'_>,
        within: Duration,
    ) -> StoreResult<()> {
        let deadline = Instant::now() + within;
        loop {
            let (resource, by) = match self.attempt(&intent).await {
                Ok(Opened::New(_) | Opened::Duplicate) => return Ok(()),
                Ok(Opened::Busy { resource, by }) => (resource, by),
                Ok(Opened::Unrecorded(error)) => return Err(error),
                Err(error) => return self.record_refusal(window, intent, &error).await,
            };
            if let Some(start) = &mut intent.start {
                start.waited_for = Some(by);
            }
            if Instant::now() >= deadline {
                let waited = duration(window.grace.as_secs_f64());
                let problem =
                    format!("Run #{by} still held the lock on {resource} {waited} after the window was due.");
                return self.record_refusal(window, intent, &Error::user(problem)).await;
            }
            tracing::info!(
                window = window.name,
                environment = window.environment,
                by,
                "window waits for run"
            );
            self.app.waits.set(window, Some(Wait { resource, by }));
            self.wait_for_end(by, deadline).await;
            if PauseState::of(&*self.app.audit.store, window).await?.pause.is_some() {
                return Ok(());
            }
        }
    }

    /// Waits until a run has ended, or until the deadline.
    async fn wait_for_end(&self, run: RunId, deadline: Instant) {
        let mut changes = self.app.shared.changes();
        while Instant::now() < deadline {
            let pause = WAIT_POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now()));
            let _ = tokio::time::timeout(pause, changes.next()).await;
            if let Ok(Some(run)) = self.app.audit.store.get(run).await
                && !run.state.is_open()
            {
                return;
            }
        }
    }

    /// A read runs and a write acts, each to its end. Danger becomes a request: no window approves anything.
    async fn attempt(&self, intent: &Intent<'_>) -> Result<Opened> {
        let Some(Implementation::Action(action)) = actions::find(intent.command) else {
            let recipients = self.authenticator.recipients_of_start(intent);
            return Ok(self.queries.read_start(intent, recipients).await);
        };
        let plan = contain_panic(actions::plan(action, &intent.call(&self.app))).await?;
        match intent.policy.risk {
            Risk::Danger => self.requests.open_request(intent, plan).await,
            Risk::Read | Risk::Write => self.requests.execute_start(intent, plan).await,
        }
    }

    /// Records that a window was due and why it was not started; the card of the outcome tells it.
    async fn record_refusal(
        &self,
        window: &EnvironmentWindow,
        intent: Intent<'_>,
        error: &Error,
    ) -> StoreResult<()> {
        let recipients = self.authenticator.recipients_of_start(&intent);
        let mut new_run = intent.new_run(&self.app, None, recipients);
        new_run.unless_frozen = false;
        let run = match self.app.audit.open(new_run).await? {
            OpenOutcome::New(run) => run,
            _ => return Ok(()),
        };
        let (problem, instead) = match error {
            Error::User(User { problem, instead }) => {
                (redact::name(problem), instead.as_deref().map(redact::name))
            }
            Error::Internal(cause) => {
                tracing::error!(run = run.id, cause = format!("{cause:#}"), "starting window failed");
                ("An internal error occurred: Countersign's log names it.".to_owned(), None)
            }
        };
        let kind = if intent.needs_approval() { EventKind::Invalidated } else { EventKind::Failed };
        let mut outcome = Outcome::new(kind, format!("Not started. {problem}"));
        outcome.blocks.extend(instead.map(|instead| note(&instead)));
        let (window, environment) = (as_word(&window.name), &window.environment);
        outcome.blocks.push(note(&format!("`schedule run {window} --env {environment}` runs it now.")));
        self.app.audit.close(&run, kind, outcome.details()).await;
        self.requests.outbox.update_cards(run.id).await;
        Ok(())
    }

    /// The event that stands for the timer: from nobody's account, in the window's channel.
    fn event(&self, window: &EnvironmentWindow, due: Timestamp) -> ChatEvent {
        let requester = window.requester().id;
        let nowhere = || Conversation::new(PlatformKind::Terminal, "", requester.clone());
        let platforms = &self.requests.outbox.platforms;
        let channel = window.channel.as_ref().and_then(|channel| platforms.channel(channel));
        let conversation = channel.or_else(|| platforms.terminal_conversation()).unwrap_or_else(nowhere);
        ChatEvent {
            delivery: window.delivery_id(due),
            sender: ChatAccount::new(PlatformKind::Terminal, "", requester.clone(), None),
            conversation,
            handle: None,
            event: ChatEventKind::Command(window.command_line.as_str().into()),
        }
    }

    /// The window's command as an intent. It needs no role: the configuration that grants roles names the window, too.
    fn intent<'a>(
        &'a self,
        window: &EnvironmentWindow,
        incoming: &'a ChatEvent,
        start: ScheduledStart,
    ) -> Option<Intent<'a>> {
        let command = self.app.catalog.find(&window.command)?;
        Some(Intent {
            incoming,
            person: window.requester(),
            command,
            values: window.values.clone(),
            environment: Some(window.environment.clone()),
            policy: self.app.access.policy(command, Some(&window.environment)),
            reason: None,
            private: false,
            dry_run: false,
            break_glass: false,
            start: Some(start),
        })
    }
}
