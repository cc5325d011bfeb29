//! Countersign's own backends, found by the `application_name` that each connection of a run has. A killed process leaves them behind
//! until the server notices.

use super::servers::ask_server;
use crate::app::App;
use crate::error::Result;
use crate::model::{LoginKind, Run, RunId};
use crate::postgres::{Address, PgRow};
use crate::sql::user_error;
use jiff::Timestamp;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// Seconds by which the clock of the audit log or of a server may be set forward meanwhile.
const CLOCK_STEP_S: f64 = 5.0;

/// A backend that works for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnBackend {
    run: RunId,
    /// Seconds that its statement has been running.
    pub for_s: f64,
}

/// The backends that work for runs in an environment, of every replica.
pub struct OwnBackends {
    backends: Vec<OwnBackend>,
    /// Time of the audit log's clock after they were read: no clock of this machine is compared.
    read_at: Timestamp,
}

impl OwnBackends {
    /// The backends that work for a run. Another audit log has the same numbers: a backend that began before the run was opened is not
    /// this run's.
    pub fn of<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = &'a OwnBackend> {
        let most = longest_s(run, self.read_at);
        self.backends.iter().filter(move |backend| backend.run == run.id && backend.for_s <= most)
    }
}

/// Seconds that a backend of a run can have been at work at that time of the audit log's clock.
fn longest_s(run: &Run, now: Timestamp) -> f64 {
    now.duration_since(run.opened_at).as_secs_f64() + CLOCK_STEP_S
}

/// Finds the backends that work for runs in an environment.
pub async fn sessions(app: &App, environment: &str) -> Result<OwnBackends> {
    let own_roles = app.environments.own_roles(app.environments.environment(environment)?);
    let sql = include_str!("find_backends.sql");
    let rows = ask_each_server(app, environment, LoginKind::Reader, sql, &[&own_roles]).await?;
    let backend = |row: &PgRow| Ok(OwnBackend { run: row.get("run")?, for_s: row.get("for_s")? });
    let backends = rows.iter().map(backend).collect::<Result<_>>()?;
    Ok(OwnBackends { backends, read_at: app.audit.store.now().await.map_err(anyhow::Error::from)? })
}

/// Terminates the backends that a run left behind, as the login that the run works with, and counts them.
pub async fn end(app: &App, run: &Run, login: LoginKind) -> Result<usize> {
    let environment = run.request.environment.as_deref().unwrap_or_default();
    let most = longest_s(run, app.audit.store.now().await.map_err(anyhow::Error::from)?);
    let sql = include_str!("end_backends.sql");
    Ok(ask_each_server(app, environment, login, sql, &[&run.id, &most]).await?.len())
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
