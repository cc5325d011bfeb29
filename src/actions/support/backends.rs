//! What a run still does on PostgreSQL: its sessions, by the name that each of its connections has. A process that was killed leaves
//! them behind until the server notices.

use crate::app::App;
use crate::error::Result;
use crate::model::{Run, RunId};
use crate::postgres::Address;

/// How far two clocks may be apart, in seconds.
const CLOCKS: f64 = 5.0;

/// A session that works for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnBackend {
    pub run: RunId,
    pub server: String,
    pub pid: i32,
    /// How long its statement runs, in seconds.
    pub for_s: f64,
}

impl OwnBackend {
    /// Run numbers are a record's own: what began before the run was opened is another record's.
    pub fn is_of(&self, run: &Run) -> bool {
        let age = jiff::Timestamp::now().duration_since(run.opened_at);
        self.run == run.id && self.for_s <= age.as_secs_f64() + CLOCKS
    }
}

/// The sessions that work for runs in an environment, of every replica.
///
/// # Errors
/// A server that can't be asked: then nobody knows.
pub async fn sessions(app: &App, environment: &str) -> Result<Vec<OwnBackend>> {
    let site = app.environments.environment(environment)?;
    let own = app.environments.own_roles(site);
    let mut found = Vec::new();
    for server in &site.servers {
        let rows = ask(app, (environment, &server.name, "reader"), &own).await?;
        found.extend(rows.iter().map(|row| OwnBackend {
            run: row.get("run"),
            server: server.name.clone(),
            pid: row.get("pid"),
            for_s: row.get("for_s"),
        }));
    }
    Ok(found)
}

async fn ask(
    app: &App,
    (environment, server, login): (&str, &str, &str),
    own: &[String],
) -> Result<Vec<tokio_postgres::Row>> {
    let address = address(environment, server, login);
    let lease = app.environments.lease(&address, "countersign").await;
    let lease = lease.map_err(|why| crate::sql::user_error(server, &why.to_string()))?;
    let rows = lease.ask(include_str!("find_backends.sql"), &[&own]).await;
    rows.map_err(|why| crate::sql::user_error(server, &why.to_string()))
}

/// Ends what a run left behind: how many sessions were signalled. As the very login that works: nobody else's session is its own.
///
/// # Errors
/// As [`sessions`].
pub async fn end(app: &App, run: &Run, login: &str) -> Result<usize> {
    let environment = run.request.environment.as_deref().unwrap_or_default();
    let age = jiff::Timestamp::now().duration_since(run.opened_at).as_secs_f64() + CLOCKS;
    let mut ended = 0;
    for server in &app.environments.environment(environment)?.servers {
        let lease = app.environments.lease(&address(environment, &server.name, login), "countersign").await;
        let told = |why: String| crate::sql::user_error(&server.name, &why);
        let lease = lease.map_err(|why| told(why.to_string()))?;
        let rows = lease.ask(include_str!("end_backends.sql"), &[&run.id, &age]).await;
        ended += rows.map_err(|why| told(why.to_string()))?.len();
    }
    Ok(ended)
}

fn address(environment: &str, server: &str, login: &str) -> Address {
    Address {
        environment: environment.to_owned(),
        server: server.to_owned(),
        database: None,
        login: login.to_owned(),
    }
}
