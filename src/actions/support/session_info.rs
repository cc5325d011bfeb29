//! One session as `kill` and `cancel` show it to its approver. `backend_start`, to the microsecond, tells it apart from every later
//! session with the same pid.

use super::blocks::table;
use super::signal::{ServerTarget, SessionId};
use crate::actions::Call;
use crate::error::{Error, Result};
use crate::model::{Cell, Login, Plan, Shape, Table};
use crate::postgres::{Address, PooledClient, QueryError};
use crate::sql::{duration, user_error};
use tokio_postgres::Row;

/// A session in `pg_stat_activity`.
pub struct SessionInfo {
    pub server: String,
    pub pid: i32,
    pub backend_start: String,
    pub query_start: String,
    pub database: String,
    pub role: String,
    pub app: String,
    pub client: String,
    pub state: String,
    pub backend_type: String,
    pub superuser: bool,
    /// It is Countersign's own.
    pub own: bool,
    pub age_s: Option<f64>,
    pub xact_s: Option<f64>,
    pub state_s: Option<f64>,
    pub has_written: bool,
    pub waits_for: Option<String>,
    pub locks: i64,
    pub query: String,
}

impl SessionInfo {
    /// Finds the session of the argument `pid` on the environment's servers, and a connection to its server.
    ///
    /// # Errors
    /// [`Error::User`] when there is none, it is another one than was shown, or it may not be signalled.
    pub async fn find(call: &Call<'_>) -> Result<(PooledClient, SessionInfo)> {
        let environment = call.app.environments.environment(call.environment.unwrap_or_default())?;
        let pid: i32 = call.values.get("pid").and_then(|pid| pid.parse().ok()).unwrap_or_default();
        let own_roles = call.app.environments.own_roles(environment);
        let server = call.values.get("server").map(String::as_str);
        let mut sessions = Vec::new();
        for server in call.app.environments.servers(environment, server)? {
            let client = reader(call, &environment.name, &server.name).await?;
            let rows = client.ask(include_str!("find_session.sql"), &[&pid, &own_roles]).await;
            if let Some(row) = rows.map_err(|err| query_error(&server.name, &err))?.first() {
                ensure_sees_sessions(row)?;
                sessions.push((client, SessionInfo::from_row(&server.name, row)));
            }
        }
        if sessions.len() > 1 {
            let servers: Vec<&str> = sessions.iter().map(|(_, session)| session.server.as_str()).collect();
            return Err(Error::instead(
                format!("Pid {pid} is a session on {}.", servers.join(" and on ")),
                format!("Say which: `{} {pid} --server {}`.", call.command.name, servers[0]),
            ));
        }
        let shown = call.values.get("backend_start");
        let Some((client, session)) = sessions.pop() else {
            return Err(if shown.is_some() {
                Error::instead("That session is gone. Nothing was done.", "Ask `blocked` or `long` again.")
            } else {
                Error::instead(
                    format!("There is no session {pid} on {}.", environment.name),
                    "It may have ended: `blocked` and `long` show the current sessions.",
                )
            });
        };
        if shown.is_some_and(|shown| *shown != session.backend_start) {
            return Err(Error::instead(
                format!("That session is gone: pid {pid} belongs to another session now. Nothing was done."),
                "Ask `blocked` or `long` again.",
            ));
        }
        session.ensure_may_be_signalled()?;
        Ok((client, session))
    }

    fn from_row(server: &str, row: &Row) -> SessionInfo {
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

    /// Tests the same guards as `signal.sql`, so that nobody is asked to approve what can't be done.
    fn ensure_may_be_signalled(&self) -> Result<()> {
        let SessionInfo { pid, role, backend_type, .. } = self;
        let problem = if self.own {
            format!("Session {pid} is Countersign's own.")
        } else if backend_type != "client backend" {
            format!("{pid} is no client's session: it is PostgreSQL's {backend_type}.")
        } else if self.superuser {
            format!("Session {pid} is a superuser's ({role}): it can't be ended from here.")
        } else {
            return Ok(());
        };
        Err(Error::instead(problem, "`blocked` and `long` show the sessions that can be ended."))
    }

    /// Builds the plan for this session, or only for its statement that began at `query_start`, without effect and impact.
    ///
    /// # Errors
    /// [`Error::User`] when its server can't be asked which sessions wait behind it.
    pub async fn plan(&self, client: &PooledClient, query_start: Option<String>) -> Result<Plan> {
        let waiting = client.ask(include_str!("waiting_sessions.sql"), &[&self.pid]).await;
        let waiting = waiting.map_err(|err| query_error(&self.server, &err))?;
        let total = waiting.first().map_or(0, |row| row.get::<_, i64>("total"));
        let mut plan = Plan::of(String::new());
        plan.set_target(&ServerTarget { server: self.server.clone() });
        plan.set_target(&SessionId {
            pid: self.pid,
            backend_start: self.backend_start.clone(),
            query_start,
            state_change: None,
            role: self.role.clone(),
            database: self.database.clone(),
        });
        plan.guards.insert(
            "session".to_owned(),
            "this is still the same client session (not a superuser's, not Countersign's own)".to_owned(),
        );
        let since = |seconds: Option<f64>| seconds.map_or("-".to_owned(), duration);
        plan.context = vec![
            (
                "application".to_owned(),
                format!("{} from {}, connected for {}", self.app, self.client, since(self.age_s)),
            ),
            ("state".to_owned(), format!("{}, for {}", self.state, since(self.state_s))),
            (
                "transaction".to_owned(),
                format!("open for {}, holds {} table and index locks", since(self.xact_s), self.locks),
            ),
        ];
        if let Some(waits_for) = &self.waits_for {
            plan.context.push(("waits for".to_owned(), format!("pid {waits_for}")));
        }
        plan.context.push((
            "unblocks".to_owned(),
            match total {
                0 => "no sessions: none waits for this one".to_owned(),
                1 => "1 waiting session".to_owned(),
                _ => format!("{total} waiting sessions"),
            },
        ));
        let query = crate::redact::query(&self.query);
        if !query.trim().is_empty() {
            let title = if self.state == "active" { "Current statement" } else { "Last statement" };
            plan.code = Some((title.to_owned(), crate::command_line::shown_long(&query)));
        }
        if total > 0 {
            plan.tables.push(waiting_table(&waiting, total));
        }
        Ok(plan)
    }
}

fn waiting_table(waiting: &[Row], total: i64) -> Table {
    let columns =
        [("pid", Shape::Right), ("role", Shape::Left), ("app", Shape::Left), ("waiting", Shape::Right)];
    let rows = waiting.iter().map(|row| {
        vec![
            Cell::from(row.get::<_, i32>("pid").to_string()),
            Cell::from(row.get::<_, String>("role")),
            Cell::from(row.get::<_, String>("app")),
            Cell::from(row.get::<_, Option<f64>>("waiting_s").map_or("-".to_owned(), duration)),
        ]
    });
    let title = if total > 20 {
        format!("Waiting sessions: the 20 longest of {total}")
    } else {
        "Waiting sessions".to_owned()
    };
    Table { title: Some(title), ..table(&columns, rows.collect()) }
}

/// Opens a connection of the reader to a server's maintenance database.
///
/// # Errors
/// [`Error::User`] when the server can't be reached.
pub async fn reader(call: &Call<'_>, environment: &str, server: &str) -> Result<PooledClient> {
    let address = Address::new(environment, server, Login::Reader);
    let client = call.app.environments.lease(&address, &call.asker).await;
    client.map_err(|err| user_error(server, &err.to_string()))
}

/// Builds the error for a query that a server refused or did not answer.
pub fn query_error(server: &str, err: &QueryError) -> Error {
    Error::user(format!("{server}: {err}."))
}

/// Refuses to plan from what a login without pg_monitor sees.
///
/// # Errors
/// [`Error::User`] when the row's `may_see` is false.
pub fn ensure_sees_sessions(row: &Row) -> Result<()> {
    if row.get("may_see") {
        return Ok(());
    }
    Err(Error::user("Countersign may not see other sessions: grant pg_monitor to its roles."))
}
