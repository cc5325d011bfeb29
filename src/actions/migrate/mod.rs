//! `migrate`: a service's Prisma migrations, by the command that the configuration names. The result is what Prisma's
//! migration history says afterwards, whatever the command's own output says; nothing is retried.

use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::needs::ensure_met;
use crate::catalog::Need;
use crate::config::{MigrateSettings, Server, Service};
use crate::error::{Error, Result};
use crate::model::{EventKind, LoginKind, Plan};
use crate::postgres::Environments;
use crate::shared_state::RunProgress;
use crate::sql::duration;
use async_trait::async_trait;
use jiff::Timestamp;
use std::time::Duration;

pub(super) mod execute;
pub(super) mod migration_history;
mod output;
pub(super) mod target;
pub(super) mod text;

use execute::{MigrationProcess, MigrationSessions, SessionFilter, application_name, progress};
use migration_history::{HistoryError, MigrationHistory};
use target::{LockHolder, MigrateIdentity, MigrateTarget, ensure_no_shadowing, lock_holder};

/// Port of Azure's PgBouncer. It shares sessions between clients, and Prisma's lock belongs to a session.
const POOLER_PORT: u16 = 6432;

/// Time after its time limit at which a command that left no trace counts as over.
const ABANDONED_GRACE: Duration = Duration::from_secs(60);

pub struct Migrate;

#[async_trait]
impl Action for Migrate {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let target = requested_target(call)?;
        let argv = target.argv(&target.migrate.deploy, &[])?;
        target.check(&argv)?;
        let inspection = inspect(call, &target).await?;
        let history = &inspection.history;
        if let Some(attempt) = history.first_unresolved() {
            return Err(text::unresolved_error(&target, attempt));
        }
        if history.pending_names().is_some_and(|names| names.is_empty()) {
            return Err(text::nothing_pending_error(&target, history));
        }
        Ok(text::describe(&target, &inspection, &argv))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        deploy(execution).await.unwrap_or_else(|outcome| outcome)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::MigrationHistory]
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let (target, history) = final_history(execution).await?;
        // A plan without the pending names can't tell whether all of them were applied.
        let expected = text::shown_pending(execution.plan)?;
        Some(text::recovered_outcome(&target, &history, &expected))
    }

    async fn observe_progress(&self, execution: &Execution<'_>) -> Option<RunProgress> {
        observed_progress(execution).await
    }

    fn reports_progress(&self) -> bool {
        true
    }
}

async fn deploy(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let target = planned_target(execution)?;
    let argv = target.argv(&target.migrate.deploy, &[]).map_err(invalidated_outcome)?;
    let process = MigrationProcess::prepare(execution, &target, argv).await?;
    if let Some(attempt) = process.history_before.first_unresolved() {
        return Err(invalidated_outcome(text::unresolved_error(&target, attempt)));
    }
    let result = process.run().await?;
    Ok(match &result.history {
        Ok(after) => text::outcome(&target, &process.history_before, after, &result),
        Err(error) => text::unknown(&target, error, &result),
    })
}

/// Checks the programs and the directory of a service's migrations, as `migrate` and `migrate-resolve` do before they start one.
pub(crate) fn check_programs(
    environments: &Environments,
    environment: &str,
    service: &Service,
    settings: &MigrateSettings,
) -> Vec<(&'static str, Result<()>)> {
    let check = |words: &[String]| {
        let target = MigrateTarget::new(environments, environment, &service.name, LoginKind::Owner)?;
        target.check(&target.argv(words, &[])?)
    };
    let resolve = settings.resolve.as_ref().map(|words| ("migrate-resolve", check(&words[..1])));
    [("migrate", check(&settings.deploy))].into_iter().chain(resolve).collect()
}

pub(super) fn requested_target<'a>(call: &Call<'a>) -> Result<MigrateTarget<'a>> {
    let environment = call.environment_name();
    let service = super::sql_command::only_target(call)?.service.unwrap_or_default();
    let target =
        MigrateTarget::new(&call.app.environments, environment, &service, call.command.header.login)?;
    let Server { name, port, .. } = target.server;
    if *port == POOLER_PORT {
        let problem =
            format!("Port {port} of {name} is a connection pooler's, which would lose Prisma's lock.");
        return Err(Error::instead(problem, "Set the server's own port, 5432, in the configuration."));
    }
    Ok(target)
}

/// The target of a plan, if the configuration still means the same server, database and role.
pub(super) fn planned_target<'a>(execution: &Execution<'a>) -> Result<MigrateTarget<'a>, Outcome> {
    let environment = execution.environment().unwrap_or_default();
    let service = execution.run.request.arguments.get("service").map_or("", String::as_str);
    let login = execution.command.header.login;
    let target = MigrateTarget::new(&execution.app.environments, environment, service, login)
        .map_err(invalidated_outcome)?;
    let planned = DatabaseTarget::from_plan(execution);
    if planned.address.server != target.server.name {
        Err(changed_outcome("The server"))
    } else if planned.database != target.database() {
        Err(changed_outcome("The database"))
    } else if planned.role != target.role.user {
        Err(changed_outcome("The role"))
    } else {
        Ok(target)
    }
}

fn changed_outcome(what: &str) -> Outcome {
    Outcome::invalidated(format!("{what} has changed since the plan was made."))
}

pub(super) fn invalidated_outcome(error: Error) -> Outcome {
    Outcome::invalidated(error.to_string())
}

pub(super) struct MigrationInspection {
    pub history: MigrationHistory,
    /// The port that the server itself listens on; another than the configured one means that a pooler or proxy is in between.
    pub server_port: String,
}

/// The migrations of the call's service that can be resolved, each with whether it is unresolved: those first, then the newest.
pub(super) async fn names(call: &Call<'_>) -> Result<Vec<(String, bool)>> {
    let target = requested_target(call)?;
    let client = target.connections.connect_executor(call).await?;
    let history = target.history(&client).await;
    let history = history.map_err(|error| text::history_error(&target, &error))?;
    let mut names: Vec<&str> = history.all_names();
    names.retain(|name| history.is_unresolved(name) || !history.was_finished(name));
    names.sort_unstable();
    names.dedup();
    let mut names: Vec<(String, bool)> =
        names.into_iter().rev().map(|name| (name.to_owned(), history.is_unresolved(name))).collect();
    names.sort_by_key(|(_, is_unresolved)| !is_unresolved);
    Ok(names)
}

/// Reads the migration history and the directory; a running migration is an error.
pub(super) async fn inspect(call: &Call<'_>, target: &MigrateTarget<'_>) -> Result<MigrationInspection> {
    let (client, reader) =
        tokio::join!(target.connections.connect_executor(call), target.connections.connect_reader(call));
    let (client, reader) = (client?, reader?);
    let history_error = |error: HistoryError| text::history_error(target, &error);
    if let Some(holder) = lock_holder(&reader).await.map_err(history_error)? {
        return Err(text::lock_held_error(target, &holder));
    }
    ensure_no_shadowing(target, &client).await?;
    let (database, schema) = (&target.connections, target.migrate.schema.as_str());
    ensure_met(&client, database, Need::MigrationRecord, Some(schema), "").await?;
    let rows = client.query("SELECT current_setting('port')", &[]).await;
    let rows = rows.map_err(|error| history_error(error.into()))?;
    let server_port = rows.first().and_then(|row| row.value::<String>(0)).unwrap_or_default();
    let history = target.history(&client).await.map_err(history_error)?;
    Ok(MigrationInspection { history, server_port })
}

/// What the server shows of a run whose process died.
struct OrphanedRunState<'a> {
    target: MigrateTarget<'a>,
    /// The migration history, or the reason why it can't be read.
    history: Result<MigrationHistory, String>,
    sessions: MigrationSessions,
    lock_holder: Option<LockHolder>,
    /// The history has changed since the plan was made.
    history_changed: bool,
    /// The time of the audit log's clock, which also gave the run its times.
    read_at: Timestamp,
}

/// Reads the state. An error is the reason why it can't be read; `None` where the plan's target is unknown.
async fn orphaned_run_state<'a>(execution: &Execution<'a>) -> Result<OrphanedRunState<'a>, Option<String>> {
    let target = planned_target(execution).map_err(|_| None)?;
    let reason = |error: &dyn std::fmt::Display| format!("{} {error}", target.database());
    let connections = &target.connections;
    let reader = execution.connect(&connections.reader_address()).await;
    let reader = reader.map_err(|error| Some(reason(&error)))?;
    let application_name = application_name(execution.run);
    // No lower bound: only this run uses the name, and the clocks may differ.
    let (role, started_at) = (&target.role.user, "-infinity");
    let filter = SessionFilter { application_name: &application_name, role, started_at };
    let lock_holder = lock_holder(&reader).await.map_err(|error| Some(reason(&error)))?;
    let sessions = filter.sessions(&reader).await.map_err(|error| Some(reason(&error)))?;
    let history = match execution.connect(&connections.address).await {
        Ok(client) => target.history(&client).await.map_err(|error| reason(&error)),
        Err(error) => Err(reason(&error)),
    };
    let identity: MigrateIdentity = execution.plan.target().unwrap_or_default();
    let history_changed = history.as_ref().is_ok_and(|history| identity.history_digest != history.digest());
    let read_at = execution.app.audit.store.now().await.map_err(|error| Some(error.to_string()))?;
    Ok(OrphanedRunState { history, sessions, lock_holder, history_changed, read_at, target })
}

impl OrphanedRunState<'_> {
    /// A session of the command, or of whoever holds Prisma's lock, still runs.
    fn is_active(&self) -> bool {
        self.lock_holder.is_some() || !self.sessions.pids.is_empty()
    }

    /// Time at which it counts as over although the migration history never changed. It is counted from the request, so the time
    /// for the approval and the time for the start are added.
    fn presumed_over_at(&self, execution: &Execution<'_>) -> Timestamp {
        let approval = &execution.app.config.approval;
        let limit = self.target.migrate.timeout + ABANDONED_GRACE;
        execution.run.opened_at + limit + approval.wait + approval.start_within
    }

    fn is_over(&self, execution: &Execution<'_>) -> bool {
        !self.is_active() && (self.history_changed || self.read_at > self.presumed_over_at(execution))
    }
}

/// The target and its migration history. `None` while the command may still run: it has a session, Prisma's lock is held, or it
/// may not have started yet.
pub(super) async fn final_history<'a>(
    execution: &Execution<'a>,
) -> Option<(MigrateTarget<'a>, MigrationHistory)> {
    let state = orphaned_run_state(execution).await.ok()?;
    if !state.is_over(execution) {
        return None;
    }
    Some((state.target, state.history.ok()?))
}

/// Progress of a command that runs, or may run, without Countersign; `None` once it can't run any more.
pub(super) async fn observed_progress(execution: &Execution<'_>) -> Option<RunProgress> {
    let state = match orphaned_run_state(execution).await {
        Ok(state) => state,
        Err(error) => {
            let label = |error| format!("state unknown: {error}");
            return error.map(|error| RunProgress { percent: None, label: label(error) });
        }
    };
    if state.is_over(execution) {
        return None;
    }
    let names = text::shown_pending(execution.plan);
    let mut applied = None;
    if let (Some(names), Ok(history)) = (&names, &state.history) {
        applied = Some(names.iter().filter(|name| history.is_applied(name)).count());
    }
    let mut progress = progress(applied, names.map(|names| names.len()));
    progress.label.push_str(&format!(" · {}", describe_activity(&state, execution)));
    if let Err(error) = &state.history {
        progress.label.push_str(&format!(" · migration history unavailable: {error}"));
    }
    if let Some(line) = overdue_line(&state, execution) {
        progress.label.push_str(&format!("\n{line}"));
    }
    Some(progress)
}

/// Describes the run's session and the session that blocks it.
fn describe_activity(state: &OrphanedRunState<'_>, execution: &Execution<'_>) -> String {
    let OrphanedRunState { sessions, lock_holder, .. } = state;
    let blocker_text = |conjunction: &str| match &sessions.blocker {
        Some(blocker) => format!("{conjunction} has {blocker}"),
        None => String::new(),
    };
    if sessions.all_named_by_run && !sessions.pids.is_empty() {
        let pids: Vec<String> = sessions.pids.iter().map(ToString::to_string).collect();
        return format!("its session is pid {}{}", pids.join(" and "), blocker_text(", which"));
    }
    match lock_holder {
        Some(LockHolder { pid, app, .. }) => {
            let blocker = blocker_text(" and");
            format!("pid {pid} ({app}) holds Prisma's lock{blocker}: its session, or another deploy's")
        }
        None if sessions.pids.is_empty() => {
            let until = crate::sql::moment(state.presumed_over_at(execution));
            format!("no session found, so it may not have started; watched until {until}")
        }
        None => "a session of its role waits for Prisma's lock".to_owned(),
    }
}

/// A line about a passed time limit and the command that ends the migration: no process ends it automatically any more.
fn overdue_line(state: &OrphanedRunState<'_>, execution: &Execution<'_>) -> Option<String> {
    let within = state.target.migrate.timeout;
    let began = execution.run.event(EventKind::Started)?.at;
    let late_by = state.read_at.duration_since(began + within);
    if !late_by.is_positive() || !state.is_active() {
        return None;
    }
    let end_command = match (&state.lock_holder, state.sessions.all_named_by_run) {
        (Some(lock_holder), false) => format!("kill {}", lock_holder.pid),
        _ => format!("stop {}", execution.run.id),
    };
    let limit = duration(within.as_secs_f64());
    let late_by = duration(late_by.as_secs_f64());
    Some(format!(
        "Its time limit of {limit} passed {late_by} ago, and it is no longer ended automatically: type {end_command}."
    ))
}
