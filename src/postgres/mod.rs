//! Environments → servers → logins → connections. A pid belongs to one server; a service's database stands on one server of
//! an environment. Connections are bounded per environment, and one per server and login stays open, so that the bot still
//! answers when every slot is taken. What is asked over a connection does not live here.

use crate::config::{Config, Environment, LoginCredentials, Server, Service};
use crate::error::{Error, Result};
use crate::model::{EnvironmentTag, Login};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

mod connect;
mod dedicated;
mod pool;
mod transaction;

pub use connect::Unreachable;
pub use dedicated::DedicatedSession;
pub use pool::{PooledClient, QueryError, QueryResult};
pub use transaction::{AccessMode, Transaction};

use connect::Connector;
use pool::{Connection, PoolLimit};

/// One database of one server, through one login.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub environment: String,
    pub server: String,
    /// `None` is the environment's maintenance database.
    pub database: Option<String>,
    pub login: Login,
}

impl Address {
    /// An environment's maintenance database on a server.
    pub fn new(environment: &str, server: &str, login: Login) -> Address {
        Address { environment: environment.to_owned(), server: server.to_owned(), database: None, login }
    }

    /// Another database of the same server; `None` for the maintenance database.
    pub fn in_database(self, database: impl Into<Option<String>>) -> Address {
        Address { database: database.into(), ..self }
    }
}

/// The servers of every environment, and the connections to them.
pub struct Environments {
    environments: HashMap<String, EnvironmentPools>,
    names: Vec<String>,
    services: Vec<Service>,
}

struct EnvironmentPools {
    environment: Environment,
    connector: Connector,
    budget: Arc<PoolLimit>,
    /// By server and login; outside the budget.
    warm: HashMap<(String, Login), Arc<Mutex<Option<Connection>>>>,
}

impl Environments {
    /// # Errors
    /// A certificate file that can't be read.
    pub fn new(config: &Config) -> anyhow::Result<Environments> {
        let mut environments = HashMap::new();
        for environment in &config.environments {
            let logins = environment.logins.keys();
            let warm = environment
                .servers
                .iter()
                .flat_map(|server| logins.clone().map(|login| (server.name.clone(), *login)))
                .map(|key| (key, Arc::new(Mutex::new(None))))
                .collect();
            let site = EnvironmentPools {
                connector: Connector::new(environment)?,
                budget: PoolLimit::new(environment.connections),
                warm,
                environment: environment.clone(),
            };
            environments.insert(environment.name.clone(), site);
        }
        let names = config.environments.iter().map(|environment| environment.name.clone()).collect();
        Ok(Environments { environments, names, services: config.services.clone() })
    }

    /// The environments' names, in the configuration's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn services(&self) -> &[Service] {
        &self.services
    }

    pub fn service(&self, name: &str) -> Result<&Service> {
        self.services
            .iter()
            .find(|service| service.name == name)
            .ok_or_else(|| Error::user(format!("There is no service “{name}”.")))
    }

    /// # Errors
    /// [`Error::User`] with the names that there are.
    pub fn environment(&self, name: &str) -> Result<&Environment> {
        self.site(name).map(|site| &site.environment)
    }

    fn site(&self, name: &str) -> Result<&EnvironmentPools> {
        self.environments.get(name).ok_or_else(|| {
            let problem = format!("There is no environment “{}”.", crate::suggest::shown(name));
            match crate::suggest::nearest(name, self.names.iter().map(String::as_str)) {
                Some(near) => Error::instead(problem, format!("Did you mean `--env {near}`?")),
                None => Error::instead(problem, format!("Choose one: {}.", choices(&self.names))),
            }
        })
    }

    /// The tag that every answer about the environment carries.
    pub fn tag(&self, name: &str) -> Option<EnvironmentTag> {
        let environment = &self.environments.get(name)?.environment;
        Some(EnvironmentTag { name: environment.name.clone(), production: environment.production })
    }

    /// The server of a service's database.
    pub fn server_of<'a>(&'a self, environment: &'a Environment, service: &Service) -> Option<&'a Server> {
        match service.servers.get(&environment.name) {
            Some(name) => environment.servers.iter().find(|server| server.name == *name),
            None => environment.servers.first(),
        }
    }

    /// The servers that a name means: that one, or all where none is named.
    ///
    /// # Errors
    /// [`Error::User`] with the names that there are.
    pub fn servers<'a>(&self, environment: &'a Environment, name: Option<&str>) -> Result<Vec<&'a Server>> {
        let Some(name) = name else { return Ok(environment.servers.iter().collect()) };
        if let Some(server) = environment.servers.iter().find(|server| server.name == name) {
            return Ok(vec![server]);
        }
        let names: Vec<&str> = environment.servers.iter().map(|server| server.name.as_str()).collect();
        let problem = format!("{} has no server “{}”.", environment.name, crate::suggest::shown(name));
        Err(match crate::suggest::nearest(name, names.iter().copied()) {
            Some(near) => Error::instead(problem, format!("Did you mean `--server {near}`?")),
            None => Error::instead(problem, format!("There are: {}.", names.join(", "))),
        })
    }

    /// The role behind a login's name: its own, or the operator's for all that acts.
    ///
    /// # Errors
    /// [`Error::Internal`] when the configuration has neither.
    pub fn login(&self, environment: &Environment, login: Login) -> Result<(Login, LoginCredentials)> {
        let fallback = if login == Login::Reader { Login::Reader } else { Login::Operator };
        [login, fallback]
            .iter()
            .find_map(|login| environment.logins.get(login).map(|role| (*login, role.clone())))
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("the environment has no login for {login}")))
    }

    /// Every role that the bot uses there: never a target.
    pub fn own_roles(&self, environment: &Environment) -> Vec<String> {
        environment.logins.values().map(|login| login.user.clone()).collect()
    }

    /// A connection for one asker. The maintenance database's is the warm one if it is free.
    ///
    /// # Errors
    /// [`Unreachable`], in words that tell the cases apart.
    pub async fn lease(
        &self,
        address: &Address,
        asker: &str,
    ) -> std::result::Result<PooledClient, Unreachable> {
        let unknown = |_| Unreachable::Misconfigured;
        let site = self.site(&address.environment).map_err(unknown)?;
        let (login, role) = self.login(&site.environment, address.login).map_err(unknown)?;
        let server = site.environment.servers.iter().find(|server| server.name == address.server);
        let server = server.ok_or(Unreachable::Misconfigured)?;
        let maintenance = &site.environment.maintenance_database;
        let key = Address {
            database: Some(address.database.clone().unwrap_or_else(|| maintenance.clone())),
            login,
            ..address.clone()
        };
        let warm = site.warm.get(&(server.name.clone(), login)).filter(|_| address.database.is_none());
        let connect = || site.connector.open(server, &role, key.database.as_deref().unwrap_or(maintenance));
        let limits = pool::Limits::of(&site.environment);
        if let Some(warm) = warm
            && let Ok(mut held) = Arc::clone(warm).try_lock_owned()
        {
            if held.as_ref().is_none_or(Connection::is_closed) {
                *held = Some(Connection::new(connect().await?));
            }
            return Ok(PooledClient::warm(held, limits, asker));
        }
        match site.budget.take(&key, connect, limits.connect).await {
            Ok(connection) => {
                Ok(PooledClient::pooled(connection, key, Arc::clone(&site.budget), (limits, asker)))
            }
            Err(Unreachable::NoSlot) if warm.is_some() => {
                // All slots are taken: wait for the warm one, which is ours already.
                let Some(warm) = warm else { return Err(Unreachable::NoSlot) };
                let wait = tokio::time::timeout(limits.statement, Arc::clone(warm).lock_owned()).await;
                let held = wait.map_err(|_| Unreachable::NoSlot)?;
                match held.as_ref() {
                    Some(connection) if !connection.is_closed() => {
                        Ok(PooledClient::warm(held, limits, asker))
                    }
                    _ => Err(Unreachable::NoSlot),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// Opens what is to stay warm and is not open. Called at start and every half minute.
    pub async fn keep_warm(&self) {
        let warming = self.environments.values().flat_map(|site| {
            site.warm.iter().map(move |((server, login), _)| Address {
                environment: site.environment.name.clone(),
                server: server.clone(),
                database: None,
                login: *login,
            })
        });
        let all = warming.map(|address| async move {
            match self.lease(&address, "countersign warm").await {
                Ok(lease) => drop(lease.ask("SELECT 1", &[]).await),
                Err(why) => {
                    tracing::warn!(environment = address.environment, server = address.server, login = address.login.name(), %why, "no warm connection");
                }
            }
        });
        futures::future::join_all(all).await;
    }
}

/// "`--env production` or `--env staging`".
pub fn choices(names: &[String]) -> String {
    names.iter().map(|name| format!("`--env {name}`")).collect::<Vec<_>>().join(" or ")
}
