//! The database of the one service that a command works on, with its logins and errors.

use crate::actions::{Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{LoginKind, Plan};
use crate::postgres::{Address, DedicatedSession, PooledClient, QueryError, READ_ONLY};
use serde::{Deserialize, Serialize};

/// Builds the error for a server whose transactions are read-only by default.
pub fn read_only_error() -> Error {
    Error::instead(
        format!("The server {READ_ONLY}."),
        "If Azure did it, grow the storage first: changed and deleted rows take more disk. Otherwise `settings default_transaction_read_only` shows the database or role that has it.",
    )
}

/// One database, and the login that executes the command.
pub struct DatabaseTarget {
    /// Through the login that the command's header names.
    pub address: Address,
    pub database: String,
    /// The role of the header's login.
    pub role: String,
}

/// The database in a plan's identity.
#[derive(Default, Serialize, Deserialize)]
pub struct DatabaseIdentity {
    pub server: String,
    pub database: String,
    pub role: String,
}

impl DatabaseTarget {
    /// Resolves the database that the call's arguments name.
    pub fn from_call(call: &Call<'_>) -> Result<DatabaseTarget> {
        let targets = call.targets(call.command.header.scope)?;
        let [target] = targets.as_slice() else {
            return Err(Error::instead(
                format!("`{}` works on one service's database at a time.", call.command.name),
                format!("Type `{}`.", call.command.usage()),
            ));
        };
        let login = call.command.header.login;
        let environment = call.app.environments.environment(call.environment_name())?;
        let (_, login_settings) = call.app.environments.login(environment, login)?;
        Ok(DatabaseTarget {
            address: Address::new(&environment.name, &target.server, login)
                .in_database(target.database.clone()),
            database: target.database.clone().unwrap_or_default(),
            role: login_settings.user,
        })
    }

    /// Reads the database that [`DatabaseTarget::write_to`] wrote into the plan.
    pub fn from_plan(execution: &Execution<'_>) -> DatabaseTarget {
        let identity = execution.plan.target().unwrap_or_default();
        let DatabaseIdentity { server, database, role } = identity;
        let environment = execution.environment().unwrap_or_default();
        let address = Address::new(environment, &server, execution.command.header.login);
        DatabaseTarget { address: address.in_database(database.clone()), database, role }
    }

    /// Writes the database into the plan's identity.
    pub fn write_to(&self, plan: &mut Plan) {
        plan.set_target(&DatabaseIdentity {
            server: self.address.server.clone(),
            database: self.database.clone(),
            role: self.role.clone(),
        });
    }

    /// The same database through the reader login, which can see other sessions; the executing login may not.
    pub fn reader_address(&self) -> Address {
        Address { login: LoginKind::Reader, ..self.address.clone() }
    }

    /// Connects for planning, through the executing login: what it may do is what a run will find.
    pub async fn connect_executor(&self, call: &Call<'_>) -> Result<PooledClient> {
        let client = call.app.environments.acquire_single_use(&self.address, &call.asker).await;
        client.map_err(|err| Error::user(format!("{} {err}.", self.database)))
    }

    /// Refuses maintenance on a replica, which takes none.
    ///
    /// # Errors
    /// [`Error::User`] that names its primary as the place to work on.
    pub async fn refuse_replica(&self, client: &PooledClient, call: &Call<'_>) -> Result<()> {
        let rows = client.query("SELECT pg_is_in_recovery()", &[]).await;
        let rows = rows.map_err(|error| self.query_error(&error))?;
        if rows.first().is_some_and(|row| row.value(0) == Some(true)) {
            let (server, command) = (&self.address.server, &call.command.name);
            return Err(Error::instead(
                format!("{server} is a replica: `{command}` can't be run there."),
                "Run it on its primary; replicas follow.",
            ));
        }
        Ok(())
    }

    /// Connects for planning, through the reader login.
    pub async fn connect_reader(&self, call: &Call<'_>) -> Result<PooledClient> {
        let client = call.app.environments.acquire(&self.reader_address(), &call.asker).await;
        client.map_err(|err| Error::user(format!("{} {err}.", self.database)))
    }

    /// Connects through the reader login during an execution; `None` if that fails. It takes nothing of what is kept for
    /// runs.
    pub async fn connect_reader_for_execution(&self, execution: &Execution<'_>) -> Option<PooledClient> {
        execution.app.environments.acquire(&self.reader_address(), &execution.asker).await.ok()
    }

    /// Opens a dedicated session through the executing login.
    pub async fn dedicated_session(&self, execution: &Execution<'_>) -> Result<DedicatedSession, String> {
        let client = execution.connect_single_use(&self.address).await;
        client.map_err(|err| err.to_string())?.dedicated().await.map_err(|err| err.to_string())
    }

    /// Builds the error for a failed query.
    pub fn query_error(&self, err: &QueryError) -> Error {
        Error::user(format!("{}: {err}.", self.database))
    }

    /// Builds the outcome for an error before anything was done.
    pub fn failed(&self, err: impl std::fmt::Display) -> Outcome {
        Outcome::failed(format!("{} {err}", self.database))
    }
}
