//! Queries to the servers of environments, each over its maintenance database.

use super::blocks::verdict;
use crate::actions::Call;
use crate::app::App;
use crate::config::{Environment, Server};
use crate::error::Result;
use crate::model::{Block, Coverage, LoginKind, Severity, Text};
use crate::postgres::{Address, PgRow};
use crate::sql::place_of;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// The rows of one server; the error is words that follow the server's name.
pub type ServerRows = Result<Vec<PgRow>, String>;

/// A server's answer to a query.
pub struct ServerAnswer<'a> {
    pub environment: &'a Environment,
    pub server: &'a Server,
    pub rows: ServerRows,
}

impl ServerAnswer<'_> {
    /// "production/primary".
    fn label(&self) -> String {
        format!("{}/{}", self.environment.name, self.server.name)
    }
}

/// Asks one server, no longer than `limit` and the environment's statement_timeout.
pub async fn ask_server(
    app: &App,
    address: &Address,
    asker: &str,
    limit: Duration,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> ServerRows {
    let client = app.environments.acquire(address, asker).await.map_err(|err| err.to_string())?;
    client.query_within(limit, sql, values).await.map_err(|err| err.to_string())
}

/// Asks all servers of the environments at once, as the reader and each under its own time limit.
pub async fn ask_all<'a>(
    call: &'a Call<'_>,
    environments: &[&str],
    limit: Duration,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<ServerAnswer<'a>>> {
    let mut servers = Vec::new();
    for name in environments {
        let environment = call.app.environments.environment(name)?;
        servers.extend(environment.servers.iter().map(|server| (environment, server)));
    }
    let answers = servers.into_iter().map(|(environment, server)| async move {
        let address = Address::new(&environment.name, &server.name, LoginKind::Reader);
        let rows = ask_server(call.app, &address, &call.asker, limit, sql, values).await;
        ServerAnswer { environment, server, rows }
    });
    Ok(futures::future::join_all(answers).await)
}

/// The share of the servers that gave an answer.
pub fn coverage(answers: &[ServerAnswer<'_>]) -> Coverage {
    Coverage::of(answers.iter().filter(|answer| answer.rows.is_ok()).count(), answers.len())
}

/// The servers that gave an answer: by name, or "all 3 servers". `None` if there are none.
pub fn place(answers: &[ServerAnswer<'_>]) -> Option<String> {
    let answered = answers.iter().filter(|answer| answer.rows.is_ok());
    let labels: Vec<String> = answered.map(ServerAnswer::label).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    (!labels.is_empty()).then(|| place_of(&labels, answers.len(), "servers"))
}

/// The verdict over the servers that gave no answer, and each one's reason; empty if all answered.
pub fn failure_blocks(answers: &[ServerAnswer<'_>]) -> Vec<Block> {
    let failure = |answer: &ServerAnswer<'_>| Some((answer.label(), answer.rows.as_ref().err()?.clone()));
    let failures: Vec<(String, String)> = answers.iter().filter_map(failure).collect();
    if failures.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = failures.iter().map(|(name, _)| name.as_str()).collect();
    let mut blocks = vec![verdict(Severity::Critical, format!("No answer from {}.", names.join(", ")))];
    let reasons = failures.iter().map(|(name, reason)| Text::new().strong(name).plain(format!(" {reason}")));
    blocks.extend(reasons.map(Block::Text));
    blocks
}
