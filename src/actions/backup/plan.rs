//! What there is to know of a database before it is dumped: its size, its server's version, and which client fits. It is
//! asked as the reader, waits for no lock and changes nothing: the few connections that the acting role may have are
//! pg_dump's.

use super::pg_client::ClientConnection;
use super::tools::{self, MissingClient, Tool};
use crate::error::Error;
use crate::model::Plan;
use crate::postgres::{Address, Environments};
use std::fmt;

/// One database of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupTarget {
    pub server: String,
    pub database: String,
}

impl BackupTarget {
    /// Its name among the plan's identities: in their order, which is alphabetical.
    pub fn name(&self, at: usize, of: usize) -> String {
        if of == 1 { "database".to_owned() } else { format!("database {:03}", at + 1) }
    }

    /// The databases that a plan names, in its order.
    pub fn of(plan: &Plan) -> Vec<BackupTarget> {
        let named = plan.identity.iter().filter(|(name, _)| name.starts_with("database"));
        named
            .filter_map(|(_, aim)| aim.split_once('/'))
            // No server's name has a slash; a database's may.
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

/// What was found out.
#[derive(Debug, Clone)]
pub struct DatabaseInfo {
    pub database_bytes: i64,
    /// The database without its indexes, as of the last analyze: what a dump has to read, roughly.
    pub table_bytes: i64,
    /// The server's: "15.18".
    pub version: String,
    pub tool: Tool,
}

impl DatabaseInfo {
    pub fn dumped_by(&self) -> String {
        format!("pg_dump {} (the server is {})", self.tool.version, self.version)
    }
}

/// Why a database can't be dumped. `Display` follows its name: "it doesn't answer".
#[derive(Debug, Clone, thiserror::Error)]
pub enum PreflightError {
    #[error("{0}")]
    Server(String),
    #[error(transparent)]
    PgClient(#[from] MissingClient),
}

impl PreflightError {
    /// For the record: no free text.
    pub fn word(&self) -> &'static str {
        match self {
            PreflightError::Server(_) => "server",
            PreflightError::PgClient(_) => "no_client",
        }
    }

    pub fn told(&self, aim: &BackupTarget) -> Error {
        let problem = format!("{} can't be dumped: it {self}.", aim.database);
        match self {
            PreflightError::Server(_) => Error::user(problem),
            PreflightError::PgClient(missing) => Error::instead(problem, missing.instead()),
        }
    }
}

/// Looks at the databases of an environment, all at once.
pub async fn survey(
    targets: &Environments,
    tools: &[Tool],
    (environment, asker): (&str, &str),
    aims: &[BackupTarget],
) -> Vec<Result<DatabaseInfo, PreflightError>> {
    let looks = aims.iter().map(|aim| look(targets, tools, (environment, asker), aim));
    futures::future::join_all(looks).await
}

async fn look(
    targets: &Environments,
    tools: &[Tool],
    (environment, asker): (&str, &str),
    aim: &BackupTarget,
) -> Result<DatabaseInfo, PreflightError> {
    let address = Address {
        environment: environment.to_owned(),
        server: aim.server.clone(),
        database: Some(aim.database.clone()),
        login: "reader".to_owned(),
    };
    let lease =
        targets.lease(&address, asker).await.map_err(|why| PreflightError::Server(why.to_string()))?;
    let tool = tools::choose(tools, lease.major())?.clone();
    let rows = lease.ask(include_str!("database_size.sql"), &[]).await;
    let rows = rows.map_err(|why| PreflightError::Server(format!("can't be measured: {why}")))?;
    let row = rows.first().ok_or_else(|| PreflightError::Server("tells no size".to_owned()))?;
    Ok(DatabaseInfo {
        database_bytes: row.get("database_bytes"),
        table_bytes: row.get("table_bytes"),
        version: row.get("version"),
        tool,
    })
}

/// How the client reaches it, with the login that the command's header names.
///
/// # Errors
/// [`PreflightError::Server`] when the configuration has no such server or login.
pub fn connection(
    targets: &Environments,
    (environment, asker): (&str, &str),
    (aim, login): (&BackupTarget, &str),
) -> Result<ClientConnection, PreflightError> {
    let unknown = || PreflightError::Server("is not in the configuration".to_owned());
    let environment = targets.environment(environment).map_err(|_| unknown())?;
    let server = environment.servers.iter().find(|server| server.name == aim.server).ok_or_else(unknown)?;
    let (_, login) = targets.login(environment, login).map_err(|_| unknown())?;
    Ok(ClientConnection {
        server: server.clone(),
        database: aim.database.clone(),
        user: login.user,
        password: login.password,
        tls: environment.tls.clone(),
        timeout: environment.connect_timeout,
        application: asker.to_owned(),
    })
}
