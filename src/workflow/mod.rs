//! The workflow, made of components that call each other in one direction: ingress, scheduler → authenticate, intent → queries | requests, decisions →
//! executor → outbox; the supervisor drives the scheduler, the reconciler, the reminders and the outbox. What a command does is in `actions` and `sql`; what a
//! platform looks like is in `chat`. Nothing else sends.

use crate::app::App;
use crate::audit::EventDetails;
use crate::ephemeral::DuplicateFilter;
use crate::model::{ChatEvent, ChatEventKind, EventKind, FormOption};
use crate::platform::Platform;
use crate::store::StoreResult;
use authenticate::Authenticator;
use executor::RunExecutor;
use forms::Forms;
use home::Homes;
use in_flight::RunSet;
use outbox::Outbox;
use platforms::Platforms;
use queries::Queries;
use reconciler::Reconciler;
use reminders::Reminders;
use requests::Requests;
use scheduler::Scheduler;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;
use watch::Watch;
use work_queue::WorkQueue;

mod answers;
mod authenticate;
mod card;
mod decisions;
mod delivery;
mod eligibility;
mod executor;
mod form_fields;
mod forms;
mod home;
mod in_flight;
mod incident_card;
mod ingress;
mod intent;
mod links;
mod next_steps;
mod outbox;
mod platforms;
mod queries;
mod reconciler;
mod refusals;
mod reminders;
mod replies;
mod requests;
mod scheduled_start;
mod scheduler;
mod supervisor;
mod watch;
mod webhook_notices;
mod work_queue;

pub use forms::FormAnswer;
pub use ingress::Completion;
pub use replies::{FIRST_COMMANDS, OVERLOADED};
pub use work_queue::{MAX_PRESENT_OF_PERSON, Turn};

/// Platforms redeliver within minutes (Slack's last retry comes after five); later duplicates are found in the store.
const DUPLICATE_PERIOD: Duration = Duration::from_secs(900);

/// The end of the shutdown timeout, reserved for stopping runs: a command is ended, its sessions are closed, and the migration
/// history is read.
const STOP_PERIOD: Duration = Duration::from_secs(5);

/// The components of the workflow.
pub struct Workflow {
    pub app: Arc<App>,
    duplicates: DuplicateFilter,
    homes: Homes,
    /// Each kind has places of its own: nobody's click waits behind commands.
    commands: Arc<WorkQueue>,
    clicks: Arc<WorkQueue>,
    views: Arc<WorkQueue>,
    authenticator: Authenticator,
    forms: Forms,
    queries: Arc<Queries>,
    requests: Arc<Requests>,
    scheduler: Arc<Scheduler>,
    executor: Arc<RunExecutor>,
    supervisor: Arc<Supervisor>,
    /// Tasks that the process waits for before it ends.
    background: TaskTracker,
}

impl Workflow {
    /// Puts the components together.
    pub fn new(app: App, platforms: Vec<Arc<dyn Platform>>) -> Arc<Workflow> {
        let app = Arc::new(app);
        let platforms = Arc::new(Platforms::new(platforms));
        let background = TaskTracker::new();
        let homes = Homes::new(platforms.clone());
        let authenticator = Authenticator { app: app.clone(), platforms: platforms.clone() };
        let forms =
            Forms { app: app.clone(), authenticator: authenticator.clone(), platforms: platforms.clone() };
        let outbox = Outbox::new(app.clone(), platforms, background.clone());
        let reminders = Arc::new(Reminders { app: app.clone(), outbox: outbox.clone() });
        let executor = Arc::new(RunExecutor {
            app: app.clone(),
            authenticator: authenticator.clone(),
            outbox: outbox.clone(),
            running_runs: RunSet::default(),
        });
        let reconciler = Arc::new(Reconciler {
            app: app.clone(),
            outbox: outbox.clone(),
            executor: executor.clone(),
            watched_runs: RunSet::default(),
        });
        let queries = Arc::new(Queries { app: app.clone(), outbox: outbox.clone() });
        let requests = Arc::new(Requests {
            app: app.clone(),
            authenticator: authenticator.clone(),
            outbox: outbox.clone(),
            executor: executor.clone(),
        });
        let watch = Watch { app: app.clone(), queries: queries.clone(), outbox: outbox.clone() };
        let scheduler =
            Scheduler::new(app.clone(), authenticator.clone(), queries.clone(), requests.clone(), watch);
        let scheduler = Arc::new(scheduler);
        let supervisor = Arc::new(Supervisor {
            app: app.clone(),
            outbox,
            reminders,
            reconciler,
            scheduler: scheduler.clone(),
            last_sample: AtomicI64::new(supervisor::sample_time()),
        });
        Arc::new(Workflow {
            app,
            duplicates: DuplicateFilter::new(DUPLICATE_PERIOD, 10_000),
            homes,
            commands: Arc::default(),
            clicks: Arc::default(),
            views: Arc::default(),
            authenticator,
            forms,
            queries,
            requests,
            scheduler,
            executor,
            supervisor,
            background,
        })
    }

    /// Returns true once per event, at its first delivery.
    pub fn is_first_delivery(&self, incoming: &ChatEvent) -> bool {
        let is_first = self.duplicates.is_first(&incoming.delivery);
        if !is_first {
            tracing::debug!(delivery = incoming.delivery, "dropped duplicate delivery");
        }
        is_first
    }

    /// Handles one event to its end: the sender is answered, and the record is kept.
    pub async fn handle(self: &Arc<Self>, incoming: ChatEvent) {
        // Boxed: a command's future is large, and accepting an event must cost little.
        Box::pin(self.dispatch(incoming)).await;
    }

    /// As [`Workflow::handle`], for a process that ends afterwards: waits until its runs are closed, too, or the timeout is over.
    pub async fn handle_and_wait(self: &Arc<Self>, incoming: ChatEvent, timeout: Duration) -> Completion {
        let completion = Box::pin(self.dispatch(incoming)).await;
        self.background.close();
        if tokio::time::timeout(timeout, self.background.wait()).await.is_err() {
            tracing::error!("closing runs timed out");
        }
        completion
    }

    /// Queues an event for [`Workflow::spawn_event`]; `None` if its sender has too many there.
    pub fn enter(&self, incoming: &ChatEvent) -> Option<Turn> {
        let queue = match incoming.event {
            ChatEventKind::Command { .. } => &self.commands,
            ChatEventKind::Button { .. } | ChatEventKind::FormSubmission(_) => &self.clicks,
            ChatEventKind::View { .. } | ChatEventKind::FormQuery { .. } | ChatEventKind::Home => &self.views,
        };
        queue.enter(incoming)
    }

    /// Handles an event in the background, in its turn; the process doesn't end before it is done, or [`Workflow::shut_down`] has
    /// timed out.
    pub fn spawn_event(self: &Arc<Self>, incoming: ChatEvent, turn: Turn, permit: OwnedSemaphorePermit) {
        let workflow = Arc::clone(self);
        self.background.spawn(async move {
            turn.work(workflow.handle(incoming)).await;
            drop(permit);
        });
    }

    /// The answer to a submitted form whose client waits for it. After [`FormAnswer::Accepted`] the event is to be handed over.
    pub async fn answer_form(&self, incoming: &ChatEvent, turn: Turn) -> FormAnswer {
        match &incoming.event {
            ChatEventKind::FormSubmission(input) => turn.work(self.forms.answer(incoming, input)).await,
            _ => FormAnswer::Accepted,
        }
    }

    /// The choices that a form's field offers for what its person has typed so far.
    pub async fn form_choices(&self, incoming: &ChatEvent, turn: Turn) -> Vec<FormOption> {
        turn.work(self.forms.choices(incoming)).await
    }

    /// Runs the background tasks until it is dropped.
    pub async fn supervise(self: Arc<Self>) {
        Arc::clone(&self.supervisor).run().await;
    }

    /// Acts on what other replicas announce until it is dropped; [`Workflow::supervise`] includes it.
    pub async fn follow_replicas(&self) {
        self.supervisor.follow_replicas().await;
    }

    /// Closes the runs whose process died and the requests that expired, and sends the outdated cards, once.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn supervise_once(&self) -> StoreResult<()> {
        self.supervisor.catch_up().await
    }

    /// Samples the figures of the servers, as of that time (UTC).
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn sample_figures(&self, at: jiff::Timestamp) -> StoreResult<()> {
        crate::actions::sample_figures(&self.app, at).await
    }

    /// Starts the windows that are due at a time (UTC), once, and waits for the ends of their runs.
    pub async fn start_due_windows(&self, now: jiff::Timestamp) {
        let due = self.scheduler.take_due(now);
        futures::future::join_all(due.into_iter().map(|window| self.scheduler.start(window))).await;
    }

    /// Closes the runs whose process died, and those interrupted runs whose outcome PostgreSQL shows, for a process that handles one
    /// event: it resumes none, and what takes longer than the timeout is left to the next process.
    pub async fn recover(&self, timeout: Duration) {
        let recovery = async {
            self.supervisor.close_runs().await?;
            self.supervisor.reconciler.record_outcomes().await
        };
        match tokio::time::timeout(timeout, recovery).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "closing runs of dead processes failed"),
            Err(_) => tracing::warn!("closing runs of dead processes timed out"),
        }
    }

    /// Waits for everything in progress, to be called once events have stopped coming in. `STOP_PERIOD` before the timeout, runs that
    /// can't outlive the process are told to stop, and record it; a run that takes longer is recorded as interrupted: its outcome is unknown until
    /// PostgreSQL is inspected.
    pub async fn shut_down(&self, timeout: Duration) {
        self.background.close();
        let stop_period = STOP_PERIOD.min(timeout / 2);
        if tokio::time::timeout(timeout - stop_period, self.background.wait()).await.is_ok() {
            return;
        }
        self.app.shutdown.cancel();
        if tokio::time::timeout(stop_period, self.background.wait()).await.is_ok() {
            return;
        }
        for run in self.executor.running_runs.all() {
            tracing::warn!(run, "run did not end before shutdown");
            let details = EventDetails::with_reason(crate::actions::support::recovery::SHUTDOWN_REASON);
            if let Err(error) = self.app.audit.append_to_current(run, EventKind::Interrupted, details).await {
                tracing::error!(run, %error, "recording event failed");
            }
        }
    }
}
