//! One session as `kill` and `cancel` show it to its approver. `backend_start`, to the microsecond, tells it apart from every later
//! session with the same pid.

use super::blocks::{count, table};
use super::signal::{ServerTarget, SessionId, SignalKind};
use crate::actions::Call;
use crate::error::{Error, Result};
use crate::model::ColumnKind::{Left, Right};
use crate::model::{LoginKind, Plan, Table};
use crate::postgres::{Address, ColumnError, PgRow, PooledClient, QueryError};
use crate::sql::{WaitGraph, Waiter, duration, grouped, user_error};
use std::time::Duration;

/// An approver reads no longer list of those who wait.
const MAX_WAITING: usize = 20;

/// A session in `pg_stat_activity`, and a connection to its server.
pub struct SessionInfo {
    client: PooledClient,
    server: String,
    /// The row of `find_session.sql`.
    row: PgRow,
    pub pid: i32,
    pub role: String,
    pub app: String,
    pub state: String,
    /// "Its open transaction is rolled back."
    pub loss: String,
    backend_start: String,
}

impl SessionInfo {
    /// Finds the session of the argument `pid` on the environment's servers.
    pub async fn find(call: &Call<'_>) -> Result<SessionInfo> {
        let environment = call.app.environments.environment(call.environment_name())?;
        let pid: i32 = call.value("pid").and_then(|pid| pid.parse().ok()).unwrap_or_default();
        let own_roles = call.app.environments.own_roles(environment);
        let mut sessions = Vec::new();
        for server in call.app.environments.servers(environment, call.value("server"))? {
            let client = reader(call, &server.name).await?;
            let rows = client.query(include_str!("find_session.sql"), &[&pid, &own_roles]).await;
            if let Some(row) = rows.map_err(|err| query_error(&server.name, &err))?.into_iter().next() {
                ensure_sees_sessions(&row)?;
                sessions.push(SessionInfo {
                    client,
                    server: server.name.clone(),
                    pid: row.get("pid")?,
                    role: row.get("role")?,
                    app: row.get("app")?,
                    state: row.get("state")?,
                    loss: loss(&row)?,
                    backend_start: row.get("backend_start")?,
                    row,
                });
            }
        }
        if sessions.len() > 1 {
            let servers: Vec<&str> = sessions.iter().map(|session| session.server.as_str()).collect();
            return Err(Error::instead(
                format!("Pid {pid} is a session on {}.", servers.join(" and on ")),
                format!("Say which: `{} {pid} --server {}`.", call.command.name, servers[0]),
            ));
        }
        let shown = call.value("backend_start");
        let Some(session) = sessions.pop() else {
            return Err(if shown.is_some() {
                Error::instead("That session is gone. Nothing was done.", "Ask `blocked` or `long` again.")
            } else {
                Error::instead(
                    format!("There is no session {pid} on {}.", environment.name),
                    "It may have ended: `blocked` and `long` show the current sessions.",
                )
            });
        };
        if shown.is_some_and(|shown| shown != session.backend_start) {
            return Err(Error::instead(
                format!("That session is gone: pid {pid} belongs to another session now. Nothing was done."),
                "Ask `blocked` or `long` again.",
            ));
        }
        session.ensure_may_be_signalled()?;
        Ok(session)
    }

    /// Tests the same guards as `signal.sql`, so that nobody is asked to approve what can't be done.
    fn ensure_may_be_signalled(&self) -> Result<()> {
        let SessionInfo { pid, role, row, .. } = self;
        let backend_type = row.value::<String>("backend_type").unwrap_or_default();
        let problem = if row.is_true("own") {
            let problem = format!("Session {pid} is Countersign's own.");
            return Err(match own_run(&self.app) {
                Some(run) => {
                    Error::instead(problem, format!("It works for run #{run}: `stop {run}` ends it."))
                }
                None => Error::instead(problem, "`jobs` lists what Countersign is running."),
            });
        } else if backend_type != "client backend" {
            format!("{pid} is no client's session: it is PostgreSQL's {backend_type}.")
        } else if row.get("superuser")? {
            format!("Session {pid} is a superuser's ({role}): it can't be ended from here.")
        } else {
            return Ok(());
        };
        Err(Error::instead(problem, "`blocked` and `long` show the sessions that can be ended."))
    }

    /// Builds the plan of a signal to this session, without effect and impact. A cancellation is for its current statement only.
    pub async fn plan(&self, kind: SignalKind) -> Result<Plan> {
        let graph = WaitGraph::read(&self.client, Duration::MAX).await;
        let graph = graph.map_err(|err| query_error(&self.server, &err))?;
        let waiting = graph.behind(self.pid);
        let query_start = || self.row.value::<String>("query_start").unwrap_or_default();
        let mut plan = Plan::of(String::new());
        plan.set_target(&ServerTarget { server: self.server.clone() });
        plan.set_target(&SessionId {
            pid: self.pid,
            backend_start: self.backend_start.clone(),
            query_start: (kind == SignalKind::Cancel).then(query_start),
            state_change: None,
            role: self.role.clone(),
            database: self.row.get("database")?,
        });
        let guard = "this is still the same client session (not a superuser's, not Countersign's own)";
        plan.add_guard("session", guard);
        let since = |column: &str| self.row.value(column).map_or("-".to_owned(), duration);
        let client: String = self.row.get("client")?;
        let application = format!("{} from {client}, connected for {}", self.app, since("age_s"));
        plan.add_context("application", application);
        plan.add_context("state", format!("{}, for {}", self.state, since("state_s")));
        let number = usize::try_from(self.row.get::<i64>("locks")?).unwrap_or_default();
        let transaction = match self.row.value("xact_s") {
            Some(seconds) => {
                format!("open for {}, holds {}", duration(seconds), count(number, "lock", "locks"))
            }
            None => "none is open".to_owned(),
        };
        plan.add_context("transaction", transaction);
        if let Some(pids) = self.row.value::<String>("waits_for") {
            plan.add_context("waits for", format!("pid {pids}"));
        }
        let unblocks = match waiting.len() {
            0 => "no sessions: none waits for this one".to_owned(),
            1 => "1 waiting session".to_owned(),
            total => format!("{total} waiting sessions"),
        };
        plan.add_context("unblocks", unblocks);
        let query = crate::redact::query(&self.row.value::<String>("query").unwrap_or_default());
        if !query.trim().is_empty() {
            let title = if self.state == "active" { "Current statement" } else { "Last statement" };
            plan.code = Some((title.to_owned(), crate::command_line::truncated_for_card(&query)));
        }
        if !waiting.is_empty() {
            plan.tables.push(self.waiting_table(&waiting).await?);
        }
        Ok(plan)
    }

    /// Lists the sessions with the longest waits.
    async fn waiting_table(&self, waiting: &[&Waiter]) -> Result<Table> {
        let shown = &waiting[..waiting.len().min(MAX_WAITING)];
        let pids: Vec<i32> = shown.iter().filter_map(|waiter| waiter.pid).collect();
        let known = self.client.query(include_str!("waiting_sessions.sql"), &[&pids]).await;
        let known = known.map_err(|err| query_error(&self.server, &err))?;
        let rows = shown.iter().filter_map(|waiter| {
            let row = known.iter().find(|row| row.value::<i32>("pid") == waiter.pid)?;
            let pid = waiter.pid?;
            let (role, app): (String, String) = (row.value("role")?, row.value("app")?);
            let at_most = if waiter.at_most { "at most " } else { "" };
            let time = waiter.waiting_s.map_or("-".to_owned(), |s| format!("{at_most}{}", duration(s)));
            Some(vec![pid.to_string().into(), role.into(), app.into(), time.into()])
        });
        let is_cut = waiting.len() > MAX_WAITING;
        let longest =
            if is_cut { format!(": the {MAX_WAITING} longest of {}", waiting.len()) } else { String::new() };
        let title = Some(format!("Waiting sessions{longest}"));
        let columns = [("pid", Right), ("role", Left), ("app", Left), ("waiting", Right)];
        Ok(Table { title, ..table(&columns, rows.collect()) })
    }
}

/// The run that one of Countersign's own sessions works for, by its `application_name`: "countersign #313 ana".
fn own_run(application_name: &str) -> Option<u64> {
    application_name.strip_prefix("countersign #")?.split(' ').next()?.parse().ok()
}

/// The loss when the session of a row of `find_session.sql` ends: in whole sentences.
fn loss(row: &PgRow) -> Result<String, ColumnError> {
    let transaction = match (row.value::<f64>("xact_s"), row.get("has_written")?) {
        (None, _) => "No transaction is open.",
        (Some(_), true) => "Its open transaction is rolled back.",
        (Some(_), false) => "Its open transaction has written nothing.",
    };
    Ok(format!("{transaction} {}", session_loss(row.get("advisory_locks")?)))
}

/// The loss besides a transaction when sessions end: what belongs to a session and survives its transactions.
pub fn session_loss(advisory_locks: i64) -> String {
    let advisory_locks = match advisory_locks {
        0 => String::new(),
        1 => "1 advisory lock is released. ".to_owned(),
        many => format!("{} advisory locks are released. ", grouped(many)),
    };
    format!(
        "{advisory_locks}Temporary tables, prepared statements and LISTEN are lost, too; they can't be seen from outside."
    )
}

/// Opens a connection of the reader to a server's maintenance database.
pub async fn reader(call: &Call<'_>, server: &str) -> Result<PooledClient> {
    let address = Address::new(call.environment_name(), server, LoginKind::Reader);
    let client = call.app.environments.acquire(&address, &call.asker).await;
    client.map_err(|err| user_error(server, &err.to_string()))
}

/// Builds the error for a query that a server refused or did not answer.
pub fn query_error(server: &str, err: &QueryError) -> Error {
    Error::user(format!("{server}: {err}."))
}

/// Refuses to plan from what a login without pg_monitor sees.
pub fn ensure_sees_sessions(row: &PgRow) -> Result<()> {
    if row.get("may_see")? {
        return Ok(());
    }
    Err(Error::user("Countersign may not see other sessions: grant pg_monitor to its roles."))
}
