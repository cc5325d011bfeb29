//! `kill` and `cancel`: one session, told apart from every later holder of its pid by `backend_start` to the microsecond.
//! Never Countersign's own sessions, never replication, background workers or superusers. The guards stand in the statement
//! that signals (`session/signal.sql`); afterwards it waits and tells what became of the session.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{Cell, Column, Plan, Row as TableRow, Shape, Table};
use crate::postgres::{Address, PooledClient, QueryError};
use crate::sql::duration;
use async_trait::async_trait;
use tokio_postgres::Row;

mod idle;
mod signal;

pub use idle::KillIdle;
use signal::{SignalKind, observe, signal};

pub struct Kill;
pub struct Cancel;

#[async_trait]
impl Action for Kill {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let (lease, found) = find(call).await?;
        let mut plan = describe(&found, &behind(&lease, &found).await?);
        plan.effect = format!("Ends session {} of {} ({}).", found.pid, found.role, found.app);
        plan.impact = match found.has_written {
            true => format!("{}: its connection is cut and its open transaction is rolled back.", found.app),
            false => format!(
                "{}: its connection is cut; it has written nothing in its open transaction.",
                found.app
            ),
        };
        plan.rollback =
            "Nothing brings the session back; what it had not committed is lost. Clients usually reconnect."
                .to_owned();
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        signal(doing, SignalKind::Terminate).await
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        observe(doing, SignalKind::Terminate).await
    }
}

#[async_trait]
impl Action for Cancel {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let (lease, found) = find(call).await?;
        if found.state != "active" {
            return Err(Error::instead(
                format!(
                    "Session {} runs no statement: it is {}, and cancelling can't help.",
                    found.pid, found.state
                ),
                format!("To end it and free its locks: `kill {}`.", found.pid),
            ));
        }
        let mut plan = describe(&found, &behind(&lease, &found).await?);
        plan.effect =
            format!("Cancels the statement of session {} of {} ({}).", found.pid, found.role, found.app);
        plan.identity.insert("query_start".to_owned(), found.query_start.clone());
        plan.impact = format!("{}: its statement fails with an error; the connection stays.", found.app);
        plan.rollback = "Run the statement again.".to_owned();
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        signal(doing, SignalKind::Cancel).await
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        observe(doing, SignalKind::Cancel).await
    }
}

/// A session as it was found.
struct SessionInfo {
    server: String,
    pid: i32,
    backend_start: String,
    query_start: String,
    database: String,
    role: String,
    app: String,
    client: String,
    state: String,
    backend_type: String,
    superuser: bool,
    own: bool,
    age_s: Option<f64>,
    xact_s: Option<f64>,
    state_s: Option<f64>,
    has_written: bool,
    waits_for: Option<String>,
    locks: i64,
    query: String,
}

/// The session on whichever server of the environment has it.
async fn find(call: &Call<'_>) -> Result<(PooledClient, SessionInfo)> {
    let environment = call.app.environments.environment(call.environment.unwrap_or_default())?;
    let pid: i32 = call.values.get("pid").and_then(|pid| pid.parse().ok()).unwrap_or_default();
    let own = call.app.environments.own_roles(environment);
    let run_argument = call.values.get("server");
    let mut hits = Vec::new();
    for server in call.app.environments.servers(environment, run_argument.map(String::as_str))? {
        let lease = lease(call, &environment.name, &server.name).await?;
        let rows = lease
            .ask(include_str!("find.sql"), &[&pid, &own])
            .await
            .map_err(|why| told(&server.name, &why))?;
        if let Some(row) = rows.first() {
            if !row.get::<_, bool>("may_see") {
                return Err(Error::user(
                    "Countersign may not see other sessions: grant pg_monitor to its roles.",
                ));
            }
            hits.push((lease, read(&server.name, row)));
        }
    }
    let shown = call.values.get("backend_start");
    if hits.len() > 1 {
        let servers: Vec<String> = hits.iter().map(|(_, found)| found.server.clone()).collect();
        return Err(Error::instead(
            format!("Pid {pid} is a session on {}.", servers.join(" and on ")),
            format!("Say which: `{} {pid} --server {}`.", call.command.name, servers[0]),
        ));
    }
    let Some((lease, found)) = hits.pop() else {
        return Err(match shown {
            Some(_) => {
                Error::instead("That session is gone. Nothing was done.", "Ask `blocked` or `long` again.")
            }
            None => Error::instead(
                format!("There is no session {pid} on {}.", environment.name),
                "It may have ended: `blocked` and `long` show who is there.",
            ),
        });
    };
    if shown.is_some_and(|shown| *shown != found.backend_start) {
        return Err(Error::instead(
            format!("That session is gone: pid {pid} belongs to another session now. Nothing was done."),
            "Ask `blocked` or `long` again.",
        ));
    }
    guard(&found)?;
    Ok((lease, found))
}

async fn lease(call: &Call<'_>, environment: &str, server: &str) -> Result<PooledClient> {
    let address = Address {
        environment: environment.to_owned(),
        server: server.to_owned(),
        database: None,
        login: "reader".to_owned(),
    };
    call.app
        .environments
        .lease(&address, &call.asker)
        .await
        .map_err(|why| Error::user(format!("{server} {why}.")))
}

fn told(server: &str, why: &QueryError) -> Error {
    Error::user(format!("{server}: {why}."))
}

/// The same guards as in the acting statement, so that nobody is asked in vain.
fn guard(found: &SessionInfo) -> Result<()> {
    let pid = found.pid;
    let refused =
        |why: String| Err(Error::instead(why, "`blocked` and `long` show the sessions that can be named."));
    if found.own {
        return refused(format!("Session {pid} is Countersign's own."));
    }
    if found.backend_type != "client backend" {
        return refused(format!("{pid} is no client's session: it is PostgreSQL's {}.", found.backend_type));
    }
    if found.superuser {
        return refused(format!(
            "Session {pid} is a superuser's ({}): it can't be ended from here.",
            found.role
        ));
    }
    Ok(())
}

fn read(server: &str, row: &Row) -> SessionInfo {
    SessionInfo {
        server: server.to_owned(),
        pid: row.get("pid"),
        backend_start: row.get("backend_start"),
        query_start: row.get::<_, Option<String>>("query_start").unwrap_or_default(),
        database: row.get("database"),
        role: row.get("role"),
        app: row.get("app"),
        client: row.get("client"),
        state: row.get("state"),
        backend_type: row.get::<_, Option<String>>("backend_type").unwrap_or_default(),
        superuser: row.get("superuser"),
        own: row.get::<_, Option<bool>>("own").unwrap_or(false),
        age_s: row.get("age_s"),
        xact_s: row.get("xact_s"),
        state_s: row.get("state_s"),
        has_written: row.get("has_written"),
        waits_for: row.get("waits_for"),
        locks: row.get("locks"),
        query: row.get::<_, Option<String>>("query").unwrap_or_default(),
    }
}

async fn behind(lease: &PooledClient, found: &SessionInfo) -> Result<Vec<Row>> {
    let rows = lease.ask(include_str!("behind.sql"), &[&found.pid]).await;
    rows.map_err(|why| told(&found.server, &why))
}

fn describe(found: &SessionInfo, behind: &[Row]) -> Plan {
    let mut plan = Plan::of(String::new());
    for (name, value) in [
        ("server", found.server.clone()),
        ("pid", found.pid.to_string()),
        ("backend_start", found.backend_start.clone()),
        ("database", found.database.clone()),
        ("role", found.role.clone()),
    ] {
        plan.identity.insert(name.to_owned(), value);
    }
    let since = |seconds: Option<f64>| seconds.map_or("-".to_owned(), duration);
    plan.guards.insert("session".to_owned(), "it is still this very session".to_owned());
    plan.guards
        .insert("whose".to_owned(), "still a client's, no superuser's and not Countersign's own".to_owned());
    plan.context = vec![
        (
            "application".to_owned(),
            format!("{} from {}, connected for {}", found.app, found.client, since(found.age_s)),
        ),
        ("state".to_owned(), format!("{}, for {}", found.state, since(found.state_s))),
        (
            "transaction".to_owned(),
            format!("open for {}, holds {} table and index locks", since(found.xact_s), found.locks),
        ),
    ];
    if let Some(waits_for) = &found.waits_for {
        plan.context.push(("itself waits for".to_owned(), format!("pid {waits_for}")));
    }
    let total = behind.first().map_or(0, |row| row.get::<_, i64>("total"));
    let waiting = match total {
        0 => "no session waits behind it".to_owned(),
        1 => "1 session waits behind it and goes on".to_owned(),
        more => format!("{more} sessions wait behind it"),
    };
    plan.context.push(("frees".to_owned(), waiting));
    let kind = if found.state == "active" { "It runs" } else { "Its last statement" };
    let query = crate::redact::query(&found.query);
    if !query.trim().is_empty() {
        plan.code = Some((kind.to_owned(), crate::command_line::shown_long(&query)));
    }
    if total > 0 {
        plan.tables.push(waiting_table(behind, total));
    }
    plan
}

fn waiting_table(behind: &[Row], total: i64) -> Table {
    let column = |title: &str, shape| Column { title: title.to_owned(), shape };
    let rows = behind.iter().map(|row| TableRow {
        cells: vec![
            Cell::from(row.get::<_, i32>("pid").to_string()),
            Cell::from(row.get::<_, String>("role")),
            Cell::from(row.get::<_, String>("app")),
            Cell::from(row.get::<_, Option<f64>>("waiting_s").map_or("-".to_owned(), duration)),
        ],
        buttons: Vec::new(),
    });
    Table {
        title: Some(match total {
            1..=20 => "Waiting behind it".to_owned(),
            more => format!("Waiting behind it: the 20 longest of {more}"),
        }),
        columns: vec![
            column("pid", Shape::Right),
            column("role", Shape::Left),
            column("app", Shape::Left),
            column("waiting", Shape::Right),
        ],
        rows: rows.collect(),
        total: behind.len(),
        empty: None,
    }
}
