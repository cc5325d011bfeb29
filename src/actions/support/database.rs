//! The one service's database that a command works on: through which login, and how its failures are told.

use crate::actions::{Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan};
use crate::postgres::{Address, DedicatedSession, PooledClient, QueryError};
use crate::sql::{QueryRequest, scope_targets};

pub struct DatabaseTarget {
    /// Through the login that the command's header names.
    pub address: Address,
    pub database: String,
    /// That login's role.
    pub role: String,
}

impl DatabaseTarget {
    /// # Errors
    /// [`Error::User`] when the call names no service, or several.
    pub fn of(call: &Call<'_>) -> Result<DatabaseTarget> {
        let environment = call.environment.unwrap_or_default();
        let question =
            QueryRequest { command: call.command, environment, values: call.values, asker: &call.asker };
        let targets = scope_targets(&call.app.environments, &question, call.command.header.scope)?;
        let [only] = targets.as_slice() else {
            return Err(Error::instead(
                "It works on one service's database at a time.",
                format!("Type `{}`.", call.command.usage()),
            ));
        };
        let login = call.command.header.login.clone();
        let (_, account) =
            call.app.environments.login(call.app.environments.environment(environment)?, &login)?;
        Ok(DatabaseTarget {
            address: Address {
                environment: environment.to_owned(),
                server: only.server.clone(),
                database: only.database.clone(),
                login,
            },
            database: only.database.clone().unwrap_or_default(),
            role: account.user,
        })
    }

    /// The site that [`DatabaseTarget::identify`] wrote into the plan.
    pub fn planned(doing: &Execution<'_>) -> DatabaseTarget {
        let planned = |name: &str| doing.plan.identity.get(name).cloned().unwrap_or_default();
        DatabaseTarget {
            address: Address {
                environment: doing.environment().unwrap_or_default().to_owned(),
                server: planned("server"),
                database: Some(planned("database")),
                login: doing.command.header.login.clone(),
            },
            database: planned("database"),
            role: planned("role"),
        }
    }

    /// Makes the site part of what the plan is about.
    pub fn identify(&self, plan: &mut Plan) {
        for (name, value) in
            [("server", &self.address.server), ("database", &self.database), ("role", &self.role)]
        {
            plan.identity.insert(name.to_owned(), value.clone());
        }
    }

    /// The same database, through the login that looks: it sees other sessions, which one that works need not.
    fn looking(&self) -> Address {
        Address { login: "reader".to_owned(), ..self.address.clone() }
    }

    /// A connection to plan with, through the login that will work.
    ///
    /// # Errors
    /// [`Error::User`] when there is none.
    pub async fn lease(&self, call: &Call<'_>) -> Result<PooledClient> {
        let lease = call.app.environments.lease(&self.address, &call.asker).await;
        lease.map_err(|why| Error::user(format!("{} {why}.", self.database)))
    }

    /// A connection to plan with, through the login that looks.
    ///
    /// # Errors
    /// As [`DatabaseTarget::lease`].
    pub async fn reader(&self, call: &Call<'_>) -> Result<PooledClient> {
        let lease = call.app.environments.lease(&self.looking(), &call.asker).await;
        lease.map_err(|why| Error::user(format!("{} {why}.", self.database)))
    }

    /// A connection that looks, beside the one that works; `None` if there is none now.
    pub async fn watcher(&self, doing: &Execution<'_>) -> Option<PooledClient> {
        doing.app.environments.lease(&self.looking(), &doing.asker).await.ok()
    }

    /// A connection of its own that works.
    ///
    /// # Errors
    /// Why there is none, in words that follow the database's name.
    pub async fn worker(&self, doing: &Execution<'_>) -> std::result::Result<DedicatedSession, String> {
        let lease = doing.app.environments.lease(&self.address, &doing.asker).await;
        lease.map_err(|why| why.to_string())?.alone().await.map_err(|why| why.to_string())
    }

    pub fn told(&self, why: &QueryError) -> Error {
        Error::user(format!("{}: {why}.", self.database))
    }

    /// An end before anything was done.
    pub fn nothing(&self, why: impl std::fmt::Display) -> Outcome {
        Outcome::new(EventKind::Failed, format!("{} {why}. Nothing was done.", self.database))
    }
}
