//! Facts about a database before it is dumped: its size, its server's version, and the client that fits. The queries go through
//! the reader's login, wait for no lock and change nothing: the acting role's few connections stay free for pg_dump.

use super::FailureReason;
use super::pg_client::ClientConnection;
use super::tools::{self, MissingClient, Tool};
use crate::error::Error;
use crate::model::{Login, Plan};
use crate::postgres::{Address, Environments};
use std::fmt;

/// One database of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupTarget {
    pub server: String,
    pub database: String,
}

impl BackupTarget {
    /// The key of a target in the plan's identity. Keys sort alphabetically, in the targets' order.
    pub fn identity_key(index: usize, count: usize) -> String {
        if count == 1 { "database".to_owned() } else { format!("database {:03}", index + 1) }
    }

    /// The databases that a plan names, in its order.
    pub fn from_plan(plan: &Plan) -> Vec<BackupTarget> {
        let named = plan.identity.iter().filter(|(name, _)| name.starts_with("database"));
        named
            .filter_map(|(_, target)| target.split_once('/'))
            // A server's name has no slash; a database's may have one.
            .map(|(server, database)| BackupTarget {
                server: server.to_owned(),
                database: database.to_owned(),
            })
            .collect()
    }
}

impl fmt::Display for BackupTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.database)
    }
}

/// Facts about one database.
#[derive(Debug, Clone)]
pub struct DatabaseInfo {
    pub database_bytes: i64,
    /// Size without indexes, as of the last analyze: roughly what a dump reads.
    pub table_bytes: i64,
    /// The server's: "15.18".
    pub version: String,
    pub tool: Tool,
}

impl DatabaseInfo {
    pub fn client_text(&self) -> String {
        format!("pg_dump {} (the server is {})", self.tool.version, self.version)
    }
}

/// An obstacle to dumping a database. `Display` follows its name: "it doesn't answer".
#[derive(Debug, Clone, thiserror::Error)]
pub enum PreflightError {
    #[error("{0}")]
    Server(String),
    #[error(transparent)]
    PgClient(#[from] MissingClient),
}

impl PreflightError {
    /// A word for the audit log, and a text for people.
    pub fn reason(&self) -> FailureReason {
        let word = match self {
            PreflightError::Server(_) => "server",
            PreflightError::PgClient(_) => "no_client",
        };
        (word, self.to_string())
    }

    pub fn user_error(&self, target: &BackupTarget) -> Error {
        let problem = format!("{} can't be dumped: it {self}.", target.database);
        match self {
            PreflightError::Server(_) => Error::user(problem),
            PreflightError::PgClient(missing) => Error::instead(problem, missing.instead()),
        }
    }
}

/// The environment that a backup works on, and the `application_name` of its connections.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub environment: &'a str,
    pub application: &'a str,
}

/// Inspects databases of an environment in parallel.
pub async fn inspect(
    environments: &Environments,
    tools: &[Tool],
    asker: Asker<'_>,
    targets: &[BackupTarget],
) -> Vec<Result<DatabaseInfo, PreflightError>> {
    let checks = targets.iter().map(|target| inspect_database(environments, tools, asker, target));
    futures::future::join_all(checks).await
}

async fn inspect_database(
    environments: &Environments,
    tools: &[Tool],
    asker: Asker<'_>,
    target: &BackupTarget,
) -> Result<DatabaseInfo, PreflightError> {
    let address = Address::new(asker.environment, &target.server, Login::Reader);
    let address = address.in_database(target.database.clone());
    let client = environments.lease(&address, asker.application).await;
    let client = client.map_err(|error| PreflightError::Server(error.to_string()))?;
    let tool = tools::choose(tools, client.major())?.clone();
    let rows = client.ask(include_str!("database_size.sql"), &[]).await;
    let rows = rows.map_err(|error| PreflightError::Server(format!("can't be measured: {error}")))?;
    let row = rows.first().ok_or_else(|| PreflightError::Server("returned no size".to_owned()))?;
    Ok(DatabaseInfo {
        database_bytes: row.get("database_bytes"),
        table_bytes: row.get("table_bytes"),
        version: row.get("version"),
        tool,
    })
}

/// The client program's connection, through the login that the command's header names.
///
/// # Errors
/// [`PreflightError::Server`] when the configuration has no such server or login.
pub fn connection(
    environments: &Environments,
    asker: Asker<'_>,
    target: &BackupTarget,
    login: Login,
) -> Result<ClientConnection, PreflightError> {
    let unknown = || PreflightError::Server("is not in the configuration".to_owned());
    let environment = environments.environment(asker.environment).map_err(|_| unknown())?;
    let server =
        environment.servers.iter().find(|server| server.name == target.server).ok_or_else(unknown)?;
    let (_, login) = environments.login(environment, login).map_err(|_| unknown())?;
    Ok(ClientConnection {
        server: server.clone(),
        database: target.database.clone(),
        user: login.user,
        password: login.password,
        tls: environment.tls.clone(),
        timeout: environment.connect_timeout,
        application: asker.application.to_owned(),
    })
}
