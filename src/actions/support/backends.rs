//! Countersign's own backends, found by the `application_name` that each connection of a run has. A killed process leaves them behind
//! until the server notices.

use super::servers::ask_server;
use crate::app::App;
use crate::error::Result;
use crate::model::{LoginKind, Run, RunId};
use crate::postgres::{Address, PgRow};
use crate::sql::user_error;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// Seconds that the clocks of Countersign and a server may differ.
const CLOCK_SKEW_S: f64 = 5.0;

/// A backend that works for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnBackend {
    pub run: RunId,
    /// Seconds that its statement has been running.
    pub for_s: f64,
}

impl OwnBackend {
    /// Tells whether the backend works for this run. Another audit log has the same numbers: a backend that began before the run
    /// was opened is not this run's.
    pub fn is_of(&self, run: &Run) -> bool {
        let age = jiff::Timestamp::now().duration_since(run.opened_at);
        self.run == run.id && self.for_s <= age.as_secs_f64() + CLOCK_SKEW_S
    }
}

/// Finds the backends that work for runs in an environment, of every replica.
pub async fn sessions(app: &App, environment: &str) -> Result<Vec<OwnBackend>> {
    let own_roles = app.environments.own_roles(app.environments.environment(environment)?);
    let sql = include_str!("find_backends.sql");
    let rows = ask_each_server(app, environment, LoginKind::Reader, sql, &[&own_roles]).await?;
    rows.iter().map(|row| Ok(OwnBackend { run: row.get("run")?, for_s: row.get("for_s")? })).collect()
}

/// Terminates the backends that a run left behind, as the login that the run works with, and counts them.
pub async fn end(app: &App, run: &Run, login: LoginKind) -> Result<usize> {
    let environment = run.request.environment.as_deref().unwrap_or_default();
    let age = jiff::Timestamp::now().duration_since(run.opened_at).as_secs_f64() + CLOCK_SKEW_S;
    let sql = include_str!("end_backends.sql");
    Ok(ask_each_server(app, environment, login, sql, &[&run.id, &age]).await?.len())
}

async fn ask_each_server(
    app: &App,
    environment: &str,
    login: LoginKind,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<PgRow>> {
    let mut all = Vec::new();
    for server in &app.environments.environment(environment)?.servers {
        let address = Address::new(environment, &server.name, login);
        let rows = ask_server(app, &address, "countersign", Duration::MAX, sql, values).await;
        all.extend(rows.map_err(|err| user_error(&server.name, &err))?);
    }
    Ok(all)
}
