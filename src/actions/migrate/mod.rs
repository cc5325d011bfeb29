//! `migrate`: a service's Prisma migrations, by the command that the configuration names. The result is what Prisma's
//! migration history says afterwards, whatever the command's own output says; nothing is retried.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{Login, Plan};
use crate::postgres::{Address, DedicatedSession, PooledClient};
use async_trait::async_trait;

mod database_url;
pub(super) mod execute;
pub(super) mod migration_history;
mod output;
pub(super) mod recover;
pub(super) mod target;
pub(super) mod text;

use execute::{CommandResult, MigrateCommand};
use migration_history::{Executor, HistoryError, MigrationHistory};
use target::{MigrateTarget, lock_holder, require_direct};

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
        recover::deploy(execution).await
    }

    async fn observe_progress(&self, execution: &Execution<'_>) -> Option<crate::app::Share> {
        recover::watch(execution).await
    }

    fn reports_progress(&self) -> bool {
        true
    }
}

async fn deploy(execution: &Execution<'_>) -> std::result::Result<Outcome, Outcome> {
    let target = planned_target(execution)?;
    let argv = target.argv(&target.migrate.deploy, &[]).map_err(invalidated)?;
    let prepared = Prepared::new(execution, &target, &argv).await?;
    if let Some(attempt) = prepared.before.unresolved() {
        return Err(invalidated(text::unresolved_error(&target, attempt)));
    }
    let (result, after) = prepared.run(execution, &target, &argv).await.map_err(Outcome::failed)?;
    Ok(match after {
        Ok(after) => text::outcome(&target, &prepared.before, &after, &result),
        Err(error) => text::unknown(&target, &error, &result),
    })
}

/// The service and the command that a call names.
pub(super) fn requested_target<'a>(call: &Call<'a>) -> Result<MigrateTarget<'a>> {
    let environment = call.environment.unwrap_or_default();
    let database = super::sql_command::only_target(call, environment)?;
    let service = database.service.unwrap_or_default();
    let target = MigrateTarget::new(call.app, environment, &service, call.command.header.login)?;
    require_direct(target.server)?;
    Ok(target)
}

/// The target of a plan, if the configuration still means the same server, database and role.
pub(super) fn planned_target<'a>(
    execution: &Execution<'a>,
) -> std::result::Result<MigrateTarget<'a>, Outcome> {
    let environment = execution.environment().unwrap_or_default();
    let service = execution.run.request.arguments.get("service").map_or("", String::as_str);
    let login = execution.command.header.login;
    let target = MigrateTarget::new(execution.app, environment, service, login).map_err(invalidated)?;
    let current = [
        ("server", target.server.name.as_str()),
        ("database", target.database()),
        ("role", target.role.user.as_str()),
    ];
    for (name, value) in current {
        if execution.plan.identity.get(name).is_none_or(|planned| planned != value) {
            return Err(Outcome::invalidated(format!("The {name} has changed since the plan was made.")));
        }
    }
    Ok(target)
}

pub(super) fn invalidated(error: Error) -> Outcome {
    Outcome::invalidated(error.to_string())
}

/// The state of a database that a plan is made from.
pub(super) struct PlanFacts {
    pub history: MigrationHistory,
    /// The port that the server itself listens on; another than the configured one means that something is in between.
    pub port: String,
}

/// Reads the migration history and the directory.
///
/// # Errors
/// Also when a migration is running.
pub(super) async fn inspect(call: &Call<'_>, target: &MigrateTarget<'_>) -> Result<PlanFacts> {
    let connect = |address: Address| async move {
        let client = call.app.environments.lease(&address, &call.asker).await;
        client.map_err(|error| Error::user(format!("{} {error}.", target.database())))
    };
    let (client, reader) =
        tokio::join!(connect(target.command_address()), connect(target.address(Login::Reader)));
    let (client, reader) = (client?, reader?);
    let user_error = |error: HistoryError| text::history_error(target, &error);
    if let Some(holder) = lock_holder(&reader).await.map_err(user_error)? {
        return Err(text::lock_held_error(target, &holder));
    }
    let rows = client.ask("SELECT current_setting('port')", &[]).await;
    let rows = rows.map_err(|error| user_error(error.into()))?;
    let port = rows.first().map_or(String::new(), |row| row.get(0));
    let history = target.history(&Executor::PooledClient(&client)).await.map_err(user_error)?;
    Ok(PlanFacts { history, port })
}

/// Everything that the command needs, once identity and guards have been checked again.
pub(super) struct Prepared {
    /// Holds the advisory lock that keeps other Countersign instances from migrating this database.
    session: DedicatedSession,
    watcher: PooledClient,
    pub before: MigrationHistory,
}

impl Prepared {
    /// Checks identity and guards again. An external program can't be started inside a transaction, so there is a gap between
    /// this check and the program's own: Prisma reads its history again once it holds its lock, which nothing else can take for it.
    pub async fn new(
        execution: &Execution<'_>,
        target: &MigrateTarget<'_>,
        argv: &[String],
    ) -> std::result::Result<Prepared, Outcome> {
        let failed =
            |error: &dyn std::fmt::Display| Outcome::failed(format!("{} {error}", target.database()));
        let environments = &execution.app.environments;
        let client = environments.lease(&target.command_address(), &execution.asker).await;
        let session = client.map_err(|error| failed(&error))?.alone().await;
        let session = session.map_err(|error| failed(&error))?;
        let watcher = environments.lease(&target.address(Login::Reader), &execution.asker).await;
        let watcher = watcher.map_err(|error| failed(&error))?;
        let resource = target.resource();
        if !session.hold(&resource).await.map_err(|error| failed(&error))? {
            let reason = format!("Another Countersign instance holds the lock on {resource}.");
            return Err(Outcome::invalidated(reason));
        }
        if execution.plan.code != Some(target.code(argv)) {
            return Err(Outcome::invalidated("The configured command has changed since the plan was made."));
        }
        target.check(argv).map_err(invalidated)?;
        let before = target.history(&Executor::DedicatedSession(&session)).await;
        let before = before.map_err(|error| failed(&error))?;
        let planned = |name: &str| execution.plan.identity.get(name).cloned();
        if planned("ledger") != Some(before.ledger_digest()) {
            return Err(Outcome::invalidated(
                "Prisma's migration history has changed since the plan was made.",
            ));
        }
        if planned("migrations") != before.directory_digest() {
            return Err(Outcome::invalidated(
                "The migrations directory has changed since the plan was made.",
            ));
        }
        if let Some(holder) = lock_holder(&watcher).await.map_err(|error| failed(&error))? {
            return Err(invalidated(text::lock_held_error(target, &holder)));
        }
        if execution.stop.is_cancelled() || execution.app.shutdown.is_cancelled() {
            return Err(Outcome::stopped("Stopped before it started."));
        }
        Ok(Prepared { session, watcher, before })
    }

    /// Runs the command and reads the migration history afterwards, by another connection if this one is lost.
    ///
    /// # Errors
    /// The reason why the command was not started.
    pub async fn run(
        &self,
        execution: &Execution<'_>,
        target: &MigrateTarget<'_>,
        argv: &[String],
    ) -> std::result::Result<(CommandResult, std::result::Result<MigrationHistory, HistoryError>), String>
    {
        let Prepared { session, watcher, before } = self;
        let command = MigrateCommand { execution, target, session, watcher, argv, before };
        let result = command.run().await?;
        let mut after = target.history(&Executor::DedicatedSession(session)).await;
        if let Err(HistoryError::Server(_)) = after
            && let Ok(client) =
                execution.app.environments.lease(&target.command_address(), &execution.asker).await
        {
            after = target.history(&Executor::PooledClient(&client)).await;
        }
        Ok((result, after))
    }
}
