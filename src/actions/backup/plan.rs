//! Facts about a database before it is dumped: its size, its server's version, and the client that fits. The queries go through
//! the reader's login, wait for no lock and change nothing: the acting role's few connections stay free for pg_dump.

use super::BackupError;
use super::pg_client::ClientConnection;
use super::tools::{self, Tool};
use crate::app::App;
use crate::model::{Login, Plan};
use crate::postgres::Address;
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
        let databases = plan.identity.iter().filter(|(name, _)| name.starts_with("database"));
        // A server's name has no slash; a database's may have one.
        let targets = databases.filter_map(|(_, target)| target.split_once('/'));
        targets
            .map(|(server, database)| BackupTarget { server: server.into(), database: database.into() })
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

/// The environment that a backup works on, and the `application_name` of its connections.
pub struct BackupContext<'a> {
    pub app: &'a App,
    pub environment: &'a str,
    pub asker: &'a str,
}

impl BackupContext<'_> {
    /// Inspects databases in parallel.
    pub async fn inspect(&self, targets: &[BackupTarget]) -> Vec<Result<DatabaseInfo, BackupError>> {
        let tools = tools::find(&self.app.config.backups).await;
        let checks = targets.iter().map(|target| self.inspect_database(&tools, target));
        futures::future::join_all(checks).await
    }

    async fn inspect_database(
        &self,
        tools: &[Tool],
        target: &BackupTarget,
    ) -> Result<DatabaseInfo, BackupError> {
        let address = Address::new(self.environment, &target.server, Login::Reader);
        let address = address.in_database(target.database.clone());
        let client = self.app.environments.acquire(&address, self.asker).await;
        let client = client.map_err(|error| BackupError::Server(error.to_string()))?;
        let tool = tools::choose(tools, client.major())?.clone();
        let rows = client.query(include_str!("database_size.sql"), &[]).await;
        let rows = rows.map_err(|error| BackupError::Server(format!("can't be measured: {error}")))?;
        let row = rows.first().ok_or_else(|| BackupError::Server("returned no size".to_owned()))?;
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
    /// [`BackupError::Server`] when the configuration has no such server or login.
    pub fn connection(&self, target: &BackupTarget, login: Login) -> Result<ClientConnection, BackupError> {
        let unknown = || BackupError::Server("is not in the configuration".to_owned());
        let environments = &self.app.environments;
        let environment = environments.environment(self.environment).map_err(|_| unknown())?;
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
            application: self.asker.to_owned(),
        })
    }
}
