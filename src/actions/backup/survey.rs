//! What there is to know of a database before it is dumped: its size, its server's version, and which client fits. It is
//! asked as the reader, waits for no lock and changes nothing: the few connections that the acting role may have are
//! pg_dump's.

use super::child::Connection;
use super::tools::{self, Missing, Tool};
use crate::error::Error;
use crate::plan::Plan;
use crate::postgres::{Address, Targets};
use std::fmt;

/// One database of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    pub server: String,
    pub database: String,
}

impl Aim {
    /// Its name among the plan's identities: in their order, which is alphabetical.
    pub fn name(&self, at: usize, of: usize) -> String {
        if of == 1 { "database".to_owned() } else { format!("database {:03}", at + 1) }
    }

    /// The databases that a plan names, in its order.
    pub fn of(plan: &Plan) -> Vec<Aim> {
        let named = plan.identity.iter().filter(|(name, _)| name.starts_with("database"));
        named
            .filter_map(|(_, aim)| aim.split_once('/'))
            // No server's name has a slash; a database's may.
            .map(|(server, database)| Aim { server: server.to_owned(), database: database.to_owned() })
            .collect()
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.database)
    }
}

/// What was found out.
#[derive(Debug, Clone)]
pub struct Facts {
    pub database_bytes: i64,
    /// The database without its indexes, as of the last analyze: what a dump has to read, roughly.
    pub table_bytes: i64,
    /// The server's: "15.18".
    pub version: String,
    pub tool: Tool,
}

impl Facts {
    pub fn dumped_by(&self) -> String {
        format!("pg_dump {} (the server is {})", self.tool.version, self.version)
    }
}

/// Why a database can't be dumped. `Display` follows its name: "it doesn't answer".
#[derive(Debug, Clone, thiserror::Error)]
pub enum Obstacle {
    #[error("{0}")]
    Server(String),
    #[error(transparent)]
    Client(#[from] Missing),
}

impl Obstacle {
    /// For the record: no free text.
    pub fn word(&self) -> &'static str {
        match self {
            Obstacle::Server(_) => "server",
            Obstacle::Client(_) => "no_client",
        }
    }

    pub fn told(&self, aim: &Aim) -> Error {
        let problem = format!("{} can't be dumped: it {self}.", aim.database);
        match self {
            Obstacle::Server(_) => Error::user(problem),
            Obstacle::Client(missing) => Error::instead(problem, missing.instead()),
        }
    }
}

/// Looks at the databases of an environment, all at once.
pub async fn survey(
    targets: &Targets,
    tools: &[Tool],
    (environment, asker): (&str, &str),
    aims: &[Aim],
) -> Vec<Result<Facts, Obstacle>> {
    let looks = aims.iter().map(|aim| look(targets, tools, (environment, asker), aim));
    futures::future::join_all(looks).await
}

async fn look(
    targets: &Targets,
    tools: &[Tool],
    (environment, asker): (&str, &str),
    aim: &Aim,
) -> Result<Facts, Obstacle> {
    let address = Address {
        environment: environment.to_owned(),
        server: aim.server.clone(),
        database: Some(aim.database.clone()),
        login: "reader".to_owned(),
    };
    let lease = targets.lease(&address, asker).await.map_err(|why| Obstacle::Server(why.to_string()))?;
    let tool = tools::choose(tools, lease.major())?.clone();
    let rows = lease.ask(include_str!("size.sql"), &[]).await;
    let rows = rows.map_err(|why| Obstacle::Server(format!("can't be measured: {why}")))?;
    let row = rows.first().ok_or_else(|| Obstacle::Server("tells no size".to_owned()))?;
    Ok(Facts {
        database_bytes: row.get("database_bytes"),
        table_bytes: row.get("table_bytes"),
        version: row.get("version"),
        tool,
    })
}

/// How the client reaches it, with the login that the command's header names.
///
/// # Errors
/// [`Obstacle::Server`] when the configuration has no such server or login.
pub fn connection(
    targets: &Targets,
    (environment, asker): (&str, &str),
    (aim, login): (&Aim, &str),
) -> Result<Connection, Obstacle> {
    let unknown = || Obstacle::Server("is not in the configuration".to_owned());
    let environment = targets.environment(environment).map_err(|_| unknown())?;
    let server = environment.servers.iter().find(|server| server.name == aim.server).ok_or_else(unknown)?;
    let (_, login) = targets.login(environment, login).map_err(|_| unknown())?;
    Ok(Connection {
        server: server.clone(),
        database: aim.database.clone(),
        user: login.user,
        password: login.password,
        tls: environment.tls.clone(),
        timeout: environment.connect_timeout,
        application: asker.to_owned(),
    })
}
