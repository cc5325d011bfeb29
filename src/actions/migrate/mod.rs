//! `migrate`: a service's Prisma migrations, by the command that the configuration names. The result is what Prisma's
//! migration history says afterwards, whatever the command's own output says; nothing is retried.

use super::{Action, Call, Execution, Outcome};
use crate::actions::support::database::DatabaseTarget;
use crate::app::Share;
use crate::config::Server;
use crate::error::{Error, Result};
use crate::model::Plan;
use async_trait::async_trait;

pub(super) mod execute;
pub(super) mod migration_history;
mod output;
pub(super) mod recover;
pub(super) mod target;
pub(super) mod text;

use execute::MigrateCommand;
use migration_history::{HistoryError, MigrationHistory};
use target::{MigrateTarget, lock_holder};

/// Port of Azure's PgBouncer. It shares sessions between clients, and Prisma's lock belongs to a session.
const POOLER_PORT: u16 = 6432;

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

    async fn observe_progress(&self, execution: &Execution<'_>) -> Option<Share> {
        recover::watch(execution).await
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
