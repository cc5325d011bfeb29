//! Coded commands: name → code, one line each. Code returns values; it neither sends messages nor writes the audit log. A command that
//! reads is a [`Query`]; an [`Action`] first makes a plan and is called again with that plan.

use crate::app::App;
use crate::audit::EventDetails;
use crate::catalog::{BACKUP_AGES, Body, Catalog, Command, DISK_GROWTH, Scope};
use crate::command_line::Values;
use crate::error::Result;
use crate::model::{Block, Conversation, EventKind, Person, Plan, Risk, Run, RunId, Text, WordKind};
use crate::postgres::{Address, PooledClient, QueryError, Unreachable};
use crate::redact;
use crate::shared_state::RunProgress;
use crate::sql::{self, Answer, QueryRequest, SectionResult, Target, scope_targets};
use crate::store::{Filter, RunPage, StoreResult};
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Wait between two attempts to read or write the audit log.
const AUDIT_LOG_RETRY: Duration = Duration::from_secs(1);

mod analyze;
pub mod backup;
mod backups;
mod break_glass;
mod cancel;
mod connect;
mod deny;
mod enable_stats;
mod environments;
mod freeze;
mod help;
mod history;
mod home;
mod jobs;
mod kill;
mod kill_idle;
pub(crate) mod migrate;
mod migrate_resolve;
mod pending;
mod purge;
mod quiet;
mod reindex;
mod reset_stats;
mod review;
pub(crate) mod run_sql;
mod schedule;
mod schedule_pause;
mod schedule_resume;
mod services;
mod show;
mod sql_command;
mod stop;
pub(crate) mod support;
mod unfreeze;
mod r#use;
mod vacuum;
mod vacuum_full;
mod withdraw;

pub use backups::newest_started_at;
pub use support::effect_guard::{EffectGuard, effect_guard_tables};
use support::figures;
pub use support::figures::{SAMPLE_INTERVAL, sample as sample_figures};

/// One request for a command: the person, the conversation and the arguments.
pub struct Call<'a> {
    pub app: &'a App,
    pub command: &'a Command,
    pub person: &'a Person,
    pub conversation: &'a Conversation,
    /// Present whenever the command's scope needs one.
    pub environment: Option<&'a str>,
    pub values: &'a Values,
    /// For `application_name`: "countersign ana".
    pub asker: String,
    /// The run of this very call, where it is recorded already.
    pub run: Option<RunId>,
}

impl Call<'_> {
    /// The value of an argument; `None` for one that was not given.
    pub fn value(&self, argument: &str) -> Option<&str> {
        self.values.get(argument).map(String::as_str)
    }

    /// The environment's name; empty for a command whose scope needs none.
    pub fn environment_name(&self) -> &str {
        self.environment.unwrap_or_default()
    }

    /// The servers or databases that the arguments name.
    ///
    /// # Errors
    /// [`crate::error::Error::User`] for an unknown environment, server or service.
    pub fn targets(&self, scope: Scope) -> Result<Vec<Target>> {
        let (environment, Call { command, values, asker: application_name, .. }) =
            (self.environment_name(), self);
        let query = QueryRequest { command, environment, values, application_name };
        scope_targets(&self.app.environments, &query, scope)
    }

    /// Lists runs of the audit log.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] when the audit log can't be read.
    pub async fn runs(&self, filter: Filter) -> Result<RunPage> {
        Ok(self.app.audit.store.list(filter).await.map_err(anyhow::Error::from)?)
    }
}

/// Runs a SQL command, with the values that only the program knows.
///
/// # Errors
/// As [`sql::run`].
pub async fn run_sql_query(app: &App, query: &QueryRequest<'_>) -> Result<Vec<SectionResult>> {
    let sections = query.command.sections(0);
    let binds =
        |name: &str| sections.iter().flat_map(|section| &section.parameters).any(|known| known == name);
    let mut values = query.values.clone();
    if binds(BACKUP_AGES) {
        values.insert(BACKUP_AGES.to_owned(), backups::ages(app, query.environment).await);
    }
    if binds(DISK_GROWTH) {
        values.insert(DISK_GROWTH.to_owned(), figures::growth(app, query.environment).await);
    }
    sql::run(&app.environments, &QueryRequest { values: &values, ..query.clone() }).await
}

/// One execution of an approved run, or of one that needs no approval: its plan is exactly the one that was shown.
pub struct Execution<'a> {
    pub app: &'a App,
    pub command: &'a Command,
    pub run: &'a Run,
    pub plan: &'a Plan,
    /// For `application_name`: "countersign #128 ana".
    pub asker: String,
    /// Cancelled when somebody asks a long run to stop.
    pub stop: &'a CancellationToken,
    /// The place in the whole run, of work that is a part of it.
    pub part: Option<WorkPart<'a>>,
}

/// A part of a run's work: one database of several.
#[derive(Debug, Clone, Copy)]
pub struct WorkPart<'a> {
    /// "asset_service_db"
    pub name: &'a str,
    /// From 0.
    pub index: usize,
    pub count: usize,
    /// Time at which the whole began.
    pub began: Instant,
}

impl Execution<'_> {
    /// Acquires a connection for the run's work.
    pub async fn connect(&self, address: &Address) -> Result<PooledClient, Unreachable> {
        self.app.environments.acquire_for_run(address, &self.asker).await
    }

    /// As [`Execution::connect`], for work that changes data or needs a session of its own.
    pub async fn connect_single_use(&self, address: &Address) -> Result<PooledClient, Unreachable> {
        self.app.environments.acquire_single_use_for_run(address, &self.asker).await
    }

    pub fn environment(&self) -> Option<&str> {
        self.run.request.environment.as_deref()
    }

    /// Reports progress, which every card of the run shows as often as the platform allows.
    pub fn progress(&self, percent: Option<u8>, label: impl Into<String>) {
        let mut label = label.into();
        let mut percent = percent;
        if let Some(WorkPart { name, index, count, .. }) = self.part {
            label = format!("{name}, database {} of {count}: {label}", index + 1);
            let of_whole = (index * 100 + usize::from(percent.unwrap_or_default())) / count.max(1);
            percent = u8::try_from(of_whole).ok();
        }
        self.app.progress.set(self.run.id, percent, redact::name(&label));
    }

    /// Records a checkpoint, before the step that follows it: a part of the work is done. `facts` is all that a resumed run needs to
    /// continue from there. Waits while the audit log can't be written: without it no step begins.
    ///
    /// # Errors
    /// The run is another process' now.
    pub async fn checkpoint(&self, facts: serde_json::Value) -> Result<(), RunLost> {
        let details = EventDetails { facts, ..EventDetails::default() };
        let append = || self.app.audit.append_to_claimed(self.run, EventKind::Checkpoint, details.clone());
        self.wait_for_audit_log(append).await.map(drop).ok_or(RunLost)
    }

    /// Asks the audit log whether the run is still this process', before a step: a process that was paused or cut off for long is taken
    /// for dead, and its run is closed or resumed by another. Waits while the audit log can't be read.
    ///
    /// # Errors
    /// The run is another process' now.
    pub async fn ensure_current(&self) -> Result<(), RunLost> {
        let is_current = || self.app.audit.is_current(self.run);
        if self.wait_for_audit_log(is_current).await { Ok(()) } else { Err(RunLost) }
    }

    async fn wait_for_audit_log<T, F: Future<Output = StoreResult<T>>>(&self, call: impl Fn() -> F) -> T {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(error) => {
                    tracing::warn!(run = self.run.id, %error, "run's next step waits for the audit log");
                    tokio::time::sleep(AUDIT_LOG_RETRY).await;
                }
            }
        }
    }

    /// Locks a resource of the target for the session that acts, and asks the audit log afterwards. So two processes never work on one
    /// resource: whoever takes the run over sees this session on the target, or this process hears of it here.
    ///
    /// # Errors
    /// See [`TargetLockError`]. The lock stays with the session if the run is lost.
    pub async fn lock_target(&self, session: &PooledClient, resource: &str) -> Result<(), TargetLockError> {
        if !session.try_advisory_lock(resource).await? {
            return Err(TargetLockError::Busy);
        }
        Ok(self.ensure_current().await?)
    }

    /// The facts of the last checkpoint, which only a resumed run has.
    pub fn last_checkpoint(&self) -> Option<&serde_json::Value> {
        self.run.event(EventKind::Checkpoint).map(|event| &event.facts)
    }
}

/// The run is no longer this process', which was paused or cut off for long: another has closed or resumed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Countersign's process was paused or cut off, and another process took the run over")]
pub struct RunLost;

impl From<RunLost> for Outcome {
    fn from(lost: RunLost) -> Outcome {
        Outcome::failed(lost.to_string())
    }
}

/// The reason why a run may not work on a resource of the target.
#[derive(Debug, thiserror::Error)]
pub enum TargetLockError {
    /// Another run's session holds the lock.
    #[error("another Countersign instance holds the lock")]
    Busy,
    #[error(transparent)]
    RunLost(#[from] RunLost),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// The end of a run's work: which one, and how people read it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The event that closes the run.
    pub kind: EventKind,
    /// One sentence for everyone.
    pub verdict: Text,
    pub blocks: Vec<Block>,
    /// For the record, without free text.
    pub facts: serde_json::Value,
}

impl Outcome {
    /// An end whose verdict says all of it.
    pub fn new(kind: EventKind, verdict: impl Into<Text>) -> Outcome {
        Outcome { kind, verdict: verdict.into(), blocks: Vec::new(), facts: serde_json::Value::Null }
    }

    /// All of the plan was done.
    pub fn done(verdict: impl Into<Text>) -> Outcome {
        Outcome::new(EventKind::Succeeded, verdict)
    }

    /// A part of the plan was done.
    pub fn partial(verdict: impl Into<Text>) -> Outcome {
        Outcome::new(EventKind::Partial, verdict)
    }

    /// Nothing can tell how much of the plan was done.
    pub fn unknown(verdict: impl Into<Text>) -> Outcome {
        Outcome::new(EventKind::Interrupted, verdict)
    }

    /// An error came before anything was done; the verdict says so after the reason. For an error in the midst of the work:
    /// `Outcome::new(EventKind::Failed, …)`.
    pub fn failed(reason: impl Into<Text>) -> Outcome {
        Outcome::new(EventKind::Failed, nothing_done(reason))
    }

    /// The target is no longer the one that the plan shows; the verdict says after the reason that nothing was done.
    pub fn invalidated(reason: impl Into<Text>) -> Outcome {
        Outcome::new(EventKind::Invalidated, nothing_done(reason))
    }

    /// A stop request came before anything was done; the verdict says so after the reason. For a stop in the midst of the work:
    /// `Outcome::new(EventKind::Stopped, …)`.
    pub fn stopped(reason: impl Into<Text>) -> Outcome {
        Outcome::new(EventKind::Stopped, nothing_done(reason))
    }

    /// The details of the event that closes the run, fit for a chat.
    pub fn details(&self) -> EventDetails {
        let details = EventDetails { facts: self.facts.clone(), ..EventDetails::default() };
        let (mut verdict, mut blocks) = (self.verdict.clone(), self.blocks.clone());
        verdict.map_words(&redacted);
        redact_blocks(&mut blocks);
        let outcome = serde_json::to_string(&(&verdict, &blocks)).unwrap_or_default();
        details.with_text("verdict", verdict.words()).with_text("outcome", outcome)
    }
}

/// Removes secrets from the words of blocks: names that clients and owners chose are among them.
pub fn redact_blocks(blocks: &mut [Block]) {
    blocks.iter_mut().for_each(|block| block.map_words(&redacted));
}

fn redacted(kind: WordKind, words: &str) -> String {
    match kind {
        WordKind::Prose => redact::name(words),
        WordKind::Identity => redact::identity(words),
    }
}

/// Plans a change, in words fit for a chat. A custom command's plan shows what its approver has to see exactly: the values.
///
/// # Errors
/// As [`Action::plan`], and a need of the command that its login meets nowhere.
pub async fn plan(action: &dyn Action, call: &Call<'_>) -> Result<Plan> {
    support::needs::ensure(call).await?;
    let mut plan = action.plan(call).await?;
    if !call.command.custom {
        plan.map_words(&redacted);
    }
    Ok(plan)
}

/// The blocks of a plan, whose identity is exact in the record and redacted here.
pub fn plan_blocks(command: Option<&Command>, plan: &Plan) -> Vec<Block> {
    let mut blocks = plan.blocks();
    if !command.is_some_and(|command| command.custom) {
        redact_blocks(&mut blocks);
    }
    blocks
}

/// Closes the reason's sentence and adds that nothing was done.
fn nothing_done(reason: impl Into<Text>) -> Text {
    let reason = reason.into();
    let end = if reason.words().ends_with(['.', '!', '?']) { "" } else { "." };
    reason.plain(format!("{end} Nothing was done."))
}

/// Code of a command that answers and changes nothing. Its error is [`crate::error::Error::User`] for what the requester can correct.
pub type Query = for<'c> fn(&'c Call<'c>) -> BoxFuture<'c, Result<Answer>>;

/// A command that changes something.
#[async_trait]
pub trait Action: Send + Sync {
    /// Plans the change from live facts. Changes nothing.
    ///
    /// # Errors
    /// [`crate::error::Error::User`] when there is nothing to act on, or too much.
    async fn plan(&self, call: &Call<'_>) -> Result<Plan>;

    /// Executes the plan, unless its target is no longer what was shown.
    async fn execute(&self, execution: &Execution<'_>) -> Outcome;

    /// The mechanisms that make a second effect harmless, if a process that was taken for dead wakes. At least one.
    fn effect_guards(&self) -> &'static [EffectGuard];

    /// Looks for the outcome of an interrupted run on PostgreSQL, changing nothing; `None` where nothing can tell.
    async fn observe_outcome(&self, _execution: &Execution<'_>) -> Option<Outcome> {
        None
    }

    /// Refuses another run that the action can't be about, by what is known of the call. A form offers none of those.
    ///
    /// # Errors
    /// [`crate::error::Error::User`] with the reason.
    fn check_run(&self, _call: &Call<'_>, _run: &Run) -> Result<()> {
        Ok(())
    }

    /// The run that this action decides about: it takes a role that approves that run.
    fn decided_run(&self, _plan: &Plan) -> Option<RunId> {
        None
    }

    /// Looks for the progress of an interrupted run that continues without its process, changing nothing; `None` where nothing shows it.
    async fn observe_progress(&self, _execution: &Execution<'_>) -> Option<RunProgress> {
        None
    }

    /// Tells whether [`Action::observe_progress`] can see anything.
    fn reports_progress(&self) -> bool {
        false
    }

    /// Tells whether [`Action::execute`], called again with the checkpoints of a killed process, continues without doing anything twice.
    fn is_resumable(&self) -> bool {
        false
    }

    /// Outcome of a resumable run that is closed while it is interrupted, from its checkpoints alone.
    fn outcome_if_abandoned(&self, _run: &Run) -> Option<Outcome> {
        None
    }

    /// Tells whether all of it is one transaction, which a stop rolls back.
    fn is_transactional(&self) -> bool {
        false
    }
}

/// A command's code.
#[derive(Clone, Copy)]
pub enum Implementation {
    Query(Query),
    Action(&'static dyn Action),
}

/// The code of a command; `None` for plain SQL that reads.
pub fn find(command: &Command) -> Option<Implementation> {
    use Implementation::{Action, Query};
    if let Body::Sql(_) = command.body {
        return (command.header.risk != Risk::Read).then_some(Action(&sql_command::SqlCommand));
    }
    Some(match command.name.as_str() {
        "analyze" => Action(&analyze::COMMAND),
        "backup" => Action(&backup::Backup),
        "backups" => Query(|call| Box::pin(backups::query(call))),
        "break-glass" => Query(|call| Box::pin(break_glass::query(call))),
        "cancel" => Action(&cancel::Cancel),
        "connect" => Query(|call| Box::pin(connect::query(call))),
        "deny" => Action(&deny::Deny),
        "enable-stats" => Action(&enable_stats::EnableStats),
        "environments" => Query(|call| Box::pin(environments::query(call))),
        "freeze" => Action(&freeze::Freeze),
        "help" => Query(|call| Box::pin(help::query(call))),
        "home" => Query(|call| Box::pin(home::query(call))),
        "history" => Query(|call| Box::pin(history::query(call))),
        "jobs" => Query(|call| Box::pin(jobs::query(call))),
        "kill" => Action(&kill::Kill),
        "kill-idle" => Action(&kill_idle::KillIdle),
        "migrate" => Action(&migrate::Migrate),
        "migrate-resolve" => Action(&migrate_resolve::MigrateResolve),
        "pending" => Query(|call| Box::pin(pending::query(call))),
        "purge" => Action(&purge::Purge),
        "reindex" => Action(&reindex::COMMAND),
        "reset-stats" => Action(&reset_stats::ResetStats),
        "run-sql" => Action(&run_sql::RunSql),
        crate::incident::QUIET => Action(&quiet::Quiet),
        "review" => Action(&review::Review),
        "schedule" => Query(|call| Box::pin(schedule::query(call))),
        crate::schedule::PAUSE => Action(&schedule_pause::PauseChange::Pause),
        crate::schedule::RESUME => Action(&schedule_resume::COMMAND),
        "services" => Query(|call| Box::pin(services::query(call))),
        "show" => Query(|call| Box::pin(show::query(call))),
        "stop" => Action(&stop::Stop),
        "unfreeze" => Action(&unfreeze::Unfreeze),
        "use" => Action(&r#use::Use),
        "vacuum" => Action(&vacuum::COMMAND),
        "vacuum-full" => Action(&vacuum_full::VacuumFull),
        "withdraw" => Action(&withdraw::Withdraw),
        _ => return None,
    })
}

/// The code of a run's command, if that changes something.
pub fn action_of(app: &App, run: &Run) -> Option<&'static dyn Action> {
    let code = app.catalog.find(&run.request.command).and_then(find)?;
    if let Implementation::Action(action) = code { Some(action) } else { None }
}

/// Names of coded commands without code.
pub fn missing(catalog: &Catalog) -> Vec<String> {
    let coded = catalog.iter().filter(|command| matches!(command.body, Body::Coded));
    coded.filter(|command| find(command).is_none()).map(|command| command.name.clone()).collect()
}
