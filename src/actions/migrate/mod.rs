//! `migrate`: a service's Prisma migrations, by the command that the configuration names. The result is what Prisma's
//! migration history says afterwards, whatever the command's own output says; nothing is retried.

use super::{Action, Call, Execution, Outcome};
use crate::actions::support::database::DatabaseTarget;
use crate::app::Share;
use crate::config::Server;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan};
use crate::sql::duration;
use async_trait::async_trait;
use jiff::Timestamp;
use std::time::Duration;

pub(super) mod execute;
pub(super) mod migration_history;
mod output;
pub(super) mod target;
pub(super) mod text;

use execute::{BackendFilter, BackendStatus, MigrateCommand, application_name, progress};
use migration_history::{HistoryError, MigrationHistory};
use target::{LockHolder, MigrateIdentity, MigrateTarget, lock_holder};

/// Port of Azure's PgBouncer. It shares sessions between clients, and Prisma's lock belongs to a session.
const POOLER_PORT: u16 = 6432;

/// Time beyond its limit after which a command that left no trace counts as over.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

pub struct Migrate;

#[async_trait]
impl Action for Migrate {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let target = requested_target(call)?;
        let argv = target.argv(&target.migrate.deploy, &[])?;
        target.check(&argv)?;
        let facts = inspect(call, &target).await?;
        let history = &facts.history;
        if let Some(attempt) = history.unresolved() {
            return Err(text::unresolved_error(&target, attempt));
        }
        if history.pending().is_some_and(|names| names.is_empty()) {
            return Err(text::nothing_pending_error(&target, history));
        }
        Ok(text::describe(&target, &facts, &argv))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        deploy(execution).await.unwrap_or_else(|outcome| outcome)
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let (target, history) = final_history(execution).await?;
        // A plan without the pending names can't tell whether all of them were applied.
        let expected = text::shown_pending(execution.plan)?;
        Some(text::recovered_outcome(&target, &history, &expected))
    }

    async fn observe_progress(&self, execution: &Execution<'_>) -> Option<Share> {
        watch(execution).await
    }

    fn reports_progress(&self) -> bool {
        true
    }
}

async fn deploy(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let target = planned_target(execution)?;
    let argv = target.argv(&target.migrate.deploy, &[]).map_err(invalidated)?;
    let command = MigrateCommand::prepare(execution, &target, argv).await?;
    if let Some(attempt) = command.before.unresolved() {
        return Err(invalidated(text::unresolved_error(&target, attempt)));
    }
    let result = command.run().await?;
    Ok(match &result.history {
        Ok(after) => text::outcome(&target, &command.before, after, &result),
        Err(error) => text::unknown(&target, error, &result),
    })
}

pub(super) fn requested_target<'a>(call: &Call<'a>) -> Result<MigrateTarget<'a>> {
    let environment = call.environment_name();
    let service = super::sql_command::only_target(call)?.service.unwrap_or_default();
    let target = MigrateTarget::new(call.app, environment, &service, call.command.header.login)?;
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
    let target = MigrateTarget::new(execution.app, environment, service, login).map_err(invalidated)?;
    let planned = DatabaseTarget::from_plan(execution);
    if planned.address.server != target.server.name {
        Err(changed("The server"))
    } else if planned.database != target.database() {
        Err(changed("The database"))
    } else if planned.role != target.role.user {
        Err(changed("The role"))
    } else {
        Ok(target)
    }
}

fn changed(what: &str) -> Outcome {
    Outcome::invalidated(format!("{what} has changed since the plan was made."))
}

pub(super) fn invalidated(error: Error) -> Outcome {
    Outcome::invalidated(error.to_string())
}

pub(super) struct MigrateFacts {
    pub history: MigrationHistory,
    /// The port that the server itself listens on; another than the configured one means that something is in between.
    pub port: String,
}

/// Reads the migration history and the directory; a running migration is an error.
pub(super) async fn inspect(call: &Call<'_>, target: &MigrateTarget<'_>) -> Result<MigrateFacts> {
    let (client, reader) = tokio::join!(target.connections.client(call), target.connections.reader(call));
    let (client, reader) = (client?, reader?);
    let user_error = |error: HistoryError| text::history_error(target, &error);
    if let Some(holder) = lock_holder(&reader).await.map_err(user_error)? {
        return Err(text::lock_held_error(target, &holder));
    }
    let rows = client.query("SELECT current_setting('port')", &[]).await;
    let rows = rows.map_err(|error| user_error(error.into()))?;
    let port = rows.first().map_or(String::new(), |row| row.get(0));
    let history = target.history(&client).await.map_err(user_error)?;
    Ok(MigrateFacts { history, port })
}

/// The state of a run on the server whose Countersign process died.
struct Snapshot<'a> {
    target: MigrateTarget<'a>,
    /// The migration history, or the reason why it can't be read.
    history: Result<MigrationHistory, String>,
    backends: BackendStatus,
    lock_holder: Option<LockHolder>,
    /// The history has changed since the plan was made.
    changed: bool,
}

/// Reads the state. An error is the reason why it can't be read; `None` where the plan's target is unknown.
async fn snapshot<'a>(execution: &Execution<'a>) -> Result<Snapshot<'a>, Option<String>> {
    let target = planned_target(execution).map_err(|_| None)?;
    let reason = |error: &dyn std::fmt::Display| format!("{} {error}", target.database());
    let (environments, connections) = (&execution.app.environments, &target.connections);
    let reader = environments.acquire(&connections.reader_address(), &execution.asker).await;
    let reader = reader.map_err(|error| Some(reason(&error)))?;
    let application = application_name(execution.run);
    // No lower bound: only this run uses the name, and the clocks may differ.
    let filter = BackendFilter { application: &application, role: &target.role.user, since: "-infinity" };
    let lock_holder = lock_holder(&reader).await.map_err(|error| Some(reason(&error)))?;
    let backends = filter.backends(&reader).await.map_err(|error| Some(reason(&error)))?;
    let history = match environments.acquire(&connections.address, &execution.asker).await {
        Ok(client) => target.history(&client).await.map_err(|error| reason(&error)),
        Err(error) => Err(reason(&error)),
    };
    let planned: MigrateIdentity = execution.plan.target().unwrap_or_default();
    let changed = history.as_ref().is_ok_and(|history| planned.ledger != history.ledger_digest());
    Ok(Snapshot { history, backends, lock_holder, changed, target })
}

impl Snapshot<'_> {
    /// A session of the command, or of whoever holds Prisma's lock, still runs.
    fn is_active(&self) -> bool {
        self.lock_holder.is_some() || !self.backends.pids.is_empty()
    }

    /// Time at which it counts as over although the migration history never changed. The run was opened by the request and
    /// approved later, so both waits are added.
    fn abandoned_at(&self, execution: &Execution<'_>) -> Timestamp {
        let approval = &execution.app.config.approval;
        let limit = self.target.migrate.within + ABANDONED_AFTER;
        execution.run.opened_at + limit + approval.wait + approval.start_within
    }

    fn is_settled(&self, execution: &Execution<'_>) -> bool {
        !self.is_active() && (self.changed || Timestamp::now() > self.abandoned_at(execution))
    }
}

/// The target and its migration history. `None` while the command may still run: it has a session, Prisma's lock is held, or it
/// may not have started yet.
pub(super) async fn final_history<'a>(
    execution: &Execution<'a>,
) -> Option<(MigrateTarget<'a>, MigrationHistory)> {
    let snapshot = snapshot(execution).await.ok()?;
    if !snapshot.is_settled(execution) {
        return None;
    }
    Some((snapshot.target, snapshot.history.ok()?))
}

/// Progress of a command that runs, or may run, without Countersign; `None` once it can't run any more.
pub(super) async fn watch(execution: &Execution<'_>) -> Option<Share> {
    let snapshot = match snapshot(execution).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            return error.map(|error| Share { percent: None, label: format!("state unknown: {error}") });
        }
    };
    if snapshot.is_settled(execution) {
        return None;
    }
    let names = text::shown_pending(execution.plan);
    let mut applied = None;
    if let (Some(names), Ok(history)) = (&names, &snapshot.history) {
        applied = Some(names.iter().filter(|name| history.is_applied(name)).count());
    }
    let mut progress = progress(applied, names.map(|names| names.len()));
    progress.label.push_str(&format!(" · {}", activity(&snapshot, execution)));
    if let Err(error) = &snapshot.history {
        progress.label.push_str(&format!(" · migration history unavailable: {error}"));
    }
    if let Some(overdue) = overdue(&snapshot, execution) {
        progress.label.push_str(&format!("\n{overdue}"));
    }
    Some(progress)
}

/// The session that works for it, and the session that blocks it.
fn activity(snapshot: &Snapshot<'_>, execution: &Execution<'_>) -> String {
    let Snapshot { backends, lock_holder, .. } = snapshot;
    let wait = |conjunction: &str| match &backends.blocker {
        Some(blocker) => format!("{conjunction} has {blocker}"),
        None => String::new(),
    };
    if backends.named && !backends.pids.is_empty() {
        let pids: Vec<String> = backends.pids.iter().map(ToString::to_string).collect();
        return format!("its session is pid {}{}", pids.join(" and "), wait(", which"));
    }
    match lock_holder {
        Some(LockHolder { pid, app, .. }) => {
            let wait = wait(" and");
            format!("pid {pid} ({app}) holds Prisma's lock{wait}: its session, or another deploy's")
        }
        None if backends.pids.is_empty() => {
            let until = crate::sql::moment(snapshot.abandoned_at(execution));
            format!("no session found, so it may not have started; watched until {until}")
        }
        None => "a session of its role waits for Prisma's lock".to_owned(),
    }
}

/// A line about a passed time limit and the command that ends the migration: no process ends it automatically any more.
fn overdue(snapshot: &Snapshot<'_>, execution: &Execution<'_>) -> Option<String> {
    let within = snapshot.target.migrate.within;
    let began = execution.run.event(EventKind::Started)?.at;
    let overdue = Timestamp::now().duration_since(began + within);
    if !overdue.is_positive() || !snapshot.is_active() {
        return None;
    }
    let ends = match (&snapshot.lock_holder, snapshot.backends.named) {
        (Some(lock_holder), false) => format!("kill {}", lock_holder.pid),
        _ => format!("stop {}", execution.run.id),
    };
    let limit = duration(within.as_secs_f64());
    let overdue = duration(overdue.as_secs_f64());
    Some(format!(
        "Its time limit of {limit} passed {overdue} ago, and it is no longer ended automatically: type {ends}."
    ))
}
