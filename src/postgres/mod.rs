//! Environments → servers → logins → connections. Connections are bounded per environment, and one per server and login stays
//! open, so that the bot still answers when every slot is taken. No query lives here.

use crate::config::{Config, Environment, LoginCredentials, Server, Service};
use crate::error::{Error, Result};
use crate::metrics::ConnectionUsage;
use crate::model::{EnvironmentTag, LoginKind};
use crate::pg_connect::{self, ClientTls, Endpoint, SessionLimits, SessionSettings};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Mutex;

mod audit_log_server;
mod dedicated;
mod pool;
mod transaction;

pub use crate::pg_connect::{
    ColumnError, LoginRefusal, PgRow, SettingChange, SlotLimit, Unreachable, dump_options, is_english,
    migration_options,
};
pub use dedicated::DedicatedSession;
pub use pool::{PooledClient, QueryError, QueryResult, SqlValues};
pub use transaction::{AccessMode, BoundSql, READ_ONLY, Transaction};

use audit_log_server::AuditLogServer;
use pool::{ClientKind, Connection, ConnectionPool, ConnectionUse, GRACE, Lease, Lifetime, Priority};

/// Time limit of a transaction's wait for its next statement.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(30);

/// One database of one server, through one login.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub environment: String,
    pub server: String,
    /// `None` is the environment's maintenance database.
    pub database: Option<String>,
    pub login: LoginKind,
}

impl Address {
    /// An environment's maintenance database on a server.
    pub fn new(environment: &str, server: &str, login: LoginKind) -> Address {
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
    audit_log_server: AuditLogServer,
}

struct EnvironmentPools {
    environment: Environment,
    tls: ClientTls,
    pool: Arc<ConnectionPool>,
    /// By server and login; outside the pool.
    warm: HashMap<(String, LoginKind), Arc<Mutex<Option<Connection>>>>,
}

impl Environments {
    /// Fails when a certificate file can't be read.
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
            let pools = EnvironmentPools {
                tls: pg_connect::client_tls(&environment.tls)?,
                pool: ConnectionPool::new(environment.connections),
                warm,
                environment: environment.clone(),
            };
            environments.insert(environment.name.clone(), pools);
        }
        let names = config.environments.iter().map(|environment| environment.name.clone()).collect();
        let services = config.services.clone();
        Ok(Environments { environments, names, services, audit_log_server: AuditLogServer::default() })
    }

    /// Excludes the audit log's server, of that system identifier, from the targets: connections to it are refused from now on.
    pub fn exclude(&self, audit_log_server: String) {
        self.audit_log_server.set(audit_log_server);
    }

    /// Asks every server that can be reached if it is the audit log's. The others are asked when they are first connected to.
    ///
    /// # Errors
    /// One is, by its environment and name.
    pub async fn check_audit_log_server(&self) -> anyhow::Result<()> {
        if !self.audit_log_server.is_set() {
            return Ok(());
        }
        let servers = self.environments.iter().flat_map(|(name, pools)| {
            pools
                .environment
                .servers
                .iter()
                .map(move |server| Address::new(name, &server.name, LoginKind::Reader))
        });
        let checks = servers.map(|address| async move {
            match self.acquire(&address, "countersign warm").await {
                Err(error @ Unreachable::AuditLogServer) => {
                    anyhow::bail!("{} of {} {error}", address.server, address.environment)
                }
                _ => Ok(()),
            }
        });
        futures::future::join_all(checks).await.into_iter().collect()
    }

    /// The environments' names, in the configuration's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The connections of each environment's pool. The warm ones are outside.
    pub fn connection_usage(&self) -> impl Iterator<Item = (&str, ConnectionUsage)> {
        self.environments.iter().map(|(name, pools)| (name.as_str(), pools.pool.usage()))
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

    /// The error names the environments that there are.
    pub fn environment(&self, name: &str) -> Result<&Environment> {
        self.pools(name).map(|pools| &pools.environment)
    }

    fn pools(&self, name: &str) -> Result<&EnvironmentPools> {
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

    /// The servers that a name means: that one, or all where none is named. The error names those that there are.
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
    pub fn login(
        &self,
        environment: &Environment,
        login: LoginKind,
    ) -> Result<(LoginKind, LoginCredentials)> {
        let fallback = if login == LoginKind::Reader { LoginKind::Reader } else { LoginKind::Operator };
        [login, fallback]
            .iter()
            .find_map(|login| environment.logins.get(login).map(|role| (*login, role.clone())))
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("the environment has no login for {login}")))
    }

    /// Every role that the bot uses there: never a target.
    pub fn own_roles(&self, environment: &Environment) -> Vec<String> {
        environment.logins.values().map(|login| login.user.clone()).collect()
    }

    /// Acquires a connection, and names its client for a DBA. The maintenance database's is the warm one if it is free.
    pub async fn acquire(
        &self,
        address: &Address,
        application_name: &str,
    ) -> Result<PooledClient, Unreachable> {
        let usage = ConnectionUse { priority: Priority::Read, lifetime: Lifetime::Shared };
        self.acquire_for(usage, address, application_name).await
    }

    /// As [`Environments::acquire`], for the work of a run: some connections are kept for those, and they wait longer for one.
    pub async fn acquire_for_run(
        &self,
        address: &Address,
        application_name: &str,
    ) -> Result<PooledClient, Unreachable> {
        let usage = ConnectionUse { priority: Priority::Run, lifetime: Lifetime::Shared };
        self.acquire_for(usage, address, application_name).await
    }

    async fn acquire_for(
        &self,
        usage: ConnectionUse,
        address: &Address,
        application_name: &str,
    ) -> Result<PooledClient, Unreachable> {
        let unknown = |_| Unreachable::Misconfigured;
        let pools = self.pools(&address.environment).map_err(unknown)?;
        let environment = &pools.environment;
        let (login, role) = self.login(environment, address.login).map_err(unknown)?;
        let server = environment.servers.iter().find(|server| server.name == address.server);
        let server = server.ok_or(Unreachable::Misconfigured)?;
        let database = address.database.as_ref().unwrap_or(&environment.maintenance_database);
        let endpoint = Endpoint {
            tls: &pools.tls,
            server,
            database,
            credentials: &role,
            timeout: environment.connect_timeout,
            shows_sessions: *database == environment.maintenance_database,
        };
        let connect = self.open(environment, login, &endpoint);
        let warm = pools.warm.get(&(server.name.clone(), login)).filter(|_| address.database.is_none());
        let warm = warm.filter(|_| usage.lifetime == Lifetime::Shared);
        if let Some(warm) = warm
            && let Ok(mut connection) = Arc::clone(warm).try_lock_owned()
        {
            if connection.as_ref().is_none_or(Connection::is_closed) {
                *connection = Some(connect.await?);
            }
            return Ok(PooledClient::new(ClientKind::Warm(connection), environment, application_name));
        }
        let key = Address { database: Some(database.clone()), login, ..address.clone() };
        let kind = match (pools.pool.take(&key, usage, connect, environment.connect_timeout).await, warm) {
            (Ok(Lease { connection, read }), _) => {
                let connection = Some(Box::new(connection));
                ClientKind::Pooled { connection, key, pool: Arc::clone(&pools.pool), _read: read }
            }
            (Err(Unreachable::NoSlot(limit)), Some(warm)) => {
                // All slots are taken: wait for the warm one, which is ours already.
                let wait = tokio::time::timeout(
                    environment.statement_timeout + GRACE,
                    Arc::clone(warm).lock_owned(),
                )
                .await;
                let connection = wait.map_err(|_| Unreachable::NoSlot(limit))?;
                if connection.as_ref().is_none_or(Connection::is_closed) {
                    return Err(Unreachable::NoSlot(limit));
                }
                ClientKind::Warm(connection)
            }
            (Err(error), _) => return Err(error),
        };
        let client = PooledClient::new(kind, environment, application_name);
        client.single_use.store(usage.lifetime == Lifetime::SingleUse, Ordering::SeqCst);
        Ok(client)
    }

    /// Opens a connection with an environment's limits. The reader's transactions are read-only.
    async fn open(
        &self,
        environment: &Environment,
        login: LoginKind,
        endpoint: &Endpoint<'_>,
    ) -> Result<Connection, Unreachable> {
        let limits = SessionLimits {
            statement_timeout: environment.statement_timeout,
            lock_timeout: environment.lock_timeout,
            idle_in_transaction: IDLE_IN_TRANSACTION,
        };
        let settings = SessionSettings::new(limits, login == LoginKind::Reader)?;
        let opened = pg_connect::open(endpoint, &settings).await?;
        let server = &endpoint.server.name;
        self.audit_log_server.check(&environment.name, server, &opened, endpoint.timeout).await?;
        Ok(Connection::from(opened))
    }

    /// As [`Environments::acquire`], for a client that begins a transaction, or that has to know whether it may write: a new
    /// connection, since an older one still has the defaults of its time.
    pub async fn acquire_single_use(
        &self,
        address: &Address,
        application_name: &str,
    ) -> Result<PooledClient, Unreachable> {
        let usage = ConnectionUse { priority: Priority::Read, lifetime: Lifetime::SingleUse };
        self.acquire_for(usage, address, application_name).await
    }

    /// As [`Environments::acquire_single_use`], for the work of a run.
    pub async fn acquire_single_use_for_run(
        &self,
        address: &Address,
        application_name: &str,
    ) -> Result<PooledClient, Unreachable> {
        let usage = ConnectionUse { priority: Priority::Run, lifetime: Lifetime::SingleUse };
        self.acquire_for(usage, address, application_name).await
    }

    /// Opens the warm connections that are not open. Called at start and every half minute.
    pub async fn keep_warm(&self) {
        let addresses = self.environments.iter().flat_map(|(environment, pools)| {
            pools.warm.keys().map(move |(server, login)| Address::new(environment, server, *login))
        });
        let all = addresses.map(|address| async move {
            match self.acquire(&address, "countersign warm").await {
                Ok(client) => drop(client.query("SELECT 1", &[]).await),
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
