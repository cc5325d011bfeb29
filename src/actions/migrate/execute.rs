//! A running command: its progress, the session that blocks it, and its end: by itself, by a stop request or by its time limit.
//!
//! A Kubernetes job would be another way to run it: everything outside of this file reads the result from the database alone.

use super::migration_history::{Executor, MigrationHistory};
use super::output::CapturedOutput;
use super::target::MigrateTarget;
use crate::actions::Execution;
use crate::actions::support::subprocess::{CapturedStreams, GRACE, Subprocess};
use crate::model::Run;
use crate::postgres::{DedicatedSession, PooledClient, QueryError};
use crate::sql::duration;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::fmt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Time between two reads of the migration history and the sessions: a message can't be edited more often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A session that has lost its client ends when it next writes to it. A session that waits for a lock or executes a query
/// doesn't notice: it is ended after this time.
const SELF_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Time that the command may take to end while Countersign itself is shutting down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Time that a session may take to end.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Lines of output beside the progress.
const OUTPUT_LINES: usize = 3;

/// A command and everything that it runs with.
pub struct MigrateCommand<'a> {
    pub execution: &'a Execution<'a>,
    pub target: &'a MigrateTarget<'a>,
    /// Holds the advisory lock on the database's migrations, through the command's own login.
    pub session: &'a DedicatedSession,
    pub watcher: &'a PooledClient,
    pub argv: &'a [String],
    pub before: &'a MigrationHistory,
}

/// The reason for a command's end.
#[derive(Debug)]
pub enum ExitReason {
    Exited(ExitStatus),
    /// A person requested the stop.
    Stopped,
    TimedOut,
    /// Countersign itself was shutting down.
    ShutDown,
    /// The operating system returned no exit status.
    Unknown(std::io::Error),
}

/// The command's sessions on the server after its end.
#[derive(Debug)]
pub enum CommandSessions {
    Gone,
    /// They were still running and were ended.
    Ended,
    /// Pids of those that still run.
    Remaining(Vec<i32>),
    Unknown(QueryError),
}

pub struct CommandResult {
    pub exit: ExitReason,
    /// The session that blocked it when its sessions were last read.
    pub blocker: Option<Blocker>,
    pub output: CapturedOutput,
    pub elapsed: Duration,
    pub sessions: CommandSessions,
}

impl CommandResult {
    /// The command exited by itself and with success.
    pub fn succeeded(&self) -> bool {
        matches!(&self.exit, ExitReason::Exited(status) if status.success())
    }
}

/// The root blocker of a command's session.
#[derive(Debug, Clone)]
pub struct Blocker {
    pub pid: i32,
    app: String,
    state: String,
    /// Seconds that the command's session has waited.
    waits_s: f64,
    /// Seconds that the blocker has been in its state.
    for_s: f64,
}

/// "waited 4.0 s for pid 4711 (shop-api, idle in transaction for 10 s)"
impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocker { pid, app, state, waits_s, for_s } = self;
        write!(f, "waited {} for pid {pid} ({app}, {state} for {})", duration(*waits_s), duration(*for_s))
    }
}

/// The sessions of a command on the server.
pub struct BackendStatus {
    pub pids: Vec<i32>,
    /// All of them carry the run's own name.
    pub named: bool,
    pub blocker: Option<Blocker>,
}

impl MigrateCommand<'_> {
    /// Starts the command and waits for its end.
    ///
    /// # Errors
    /// The reason why it was not started.
    pub async fn run(&self) -> Result<CommandResult, String> {
        let rows = self.session.ask("SELECT clock_timestamp()::text", &[]).await;
        let rows = rows.map_err(|error| format!("{} {error}", self.target.database()))?;
        let since: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        // One name for all of its sessions, and for no others.
        let application = application_name(self.execution.run);
        let url = self.target.url(&application);
        let output = self.target.captured_output(&url, &self.before.all_names());
        let command = self.target.command(self.argv, &url);
        let process = Subprocess::start(command, CapturedStreams::Both, output.clone());
        let mut process =
            process.map_err(|error| format!("the command can't be started ({})", error.kind()))?;
        let filter = BackendFilter { application: &application, role: &self.target.role.user, since: &since };
        let began = Instant::now();
        let blocker = Mutex::default();
        let exit = tokio::select! {
            status = process.wait() => status.map_or_else(ExitReason::Unknown, ExitReason::Exited),
            () = self.execution.stop.cancelled() => ExitReason::Stopped,
            () = self.execution.app.shutdown.cancelled() => ExitReason::ShutDown,
            () = tokio::time::sleep(self.target.migrate.within) => ExitReason::TimedOut,
            never = self.report_progress(&filter, &output, &blocker) => match never {},
        };
        let mut blocker: Option<Blocker> = blocker.into_inner();
        let (grace, self_end) = match exit {
            ExitReason::ShutDown => (SHUTDOWN_GRACE, Duration::ZERO),
            _ => (GRACE, SELF_END_TIMEOUT),
        };
        if !matches!(exit, ExitReason::Exited(_)) {
            self.execution.progress(None, "ending the command");
            if let Ok(backends) = filter.backends(self.watcher).await {
                blocker = backends.blocker;
            }
            process.terminate(grace).await;
        }
        drop(process.output().await);
        let elapsed = began.elapsed();
        let sessions = self.end_sessions(&filter, self_end).await;
        Ok(CommandResult { exit, blocker, output, elapsed, sessions })
    }

    /// Reports progress until it is dropped, and keeps the current blocker.
    async fn report_progress(
        &self,
        filter: &BackendFilter<'_>,
        output: &CapturedOutput,
        blocker: &Mutex<Option<Blocker>>,
    ) -> Infallible {
        let expected = self.before.pending().map(|names| names.len());
        loop {
            let (done, backends) = tokio::join!(self.applied(), filter.backends(self.watcher));
            let current = backends.ok().and_then(|backends| backends.blocker);
            let mut label = progress_label(done, expected);
            if let Some(current) = &current {
                label = format!("{label} · has {current}");
            }
            *blocker.lock() = current;
            for line in output.last(OUTPUT_LINES) {
                label = format!("{label}\n{line}");
            }
            self.execution.progress(progress_percent(done, expected), label);
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    }

    /// Number of migrations applied since the start.
    async fn applied(&self) -> Option<usize> {
        let executor = Executor::DedicatedSession(self.session);
        let history = MigrationHistory::read(&executor, &self.target.migrate.schema, None).await.ok()?;
        Some(history.applied().iter().filter(|name| !self.before.is_applied(name)).count())
    }

    /// Waits until the command has no session left on the server, and ends those that don't end by themselves. Only sessions
    /// with the run's own name are ended.
    async fn end_sessions(&self, filter: &BackendFilter<'_>, self_end: Duration) -> CommandSessions {
        let began = Instant::now();
        let mut ended = false;
        loop {
            let pids = match filter.backends(self.watcher).await {
                Ok(backends) => backends.pids,
                Err(error) => return CommandSessions::Unknown(error),
            };
            if pids.is_empty() {
                return if ended { CommandSessions::Ended } else { CommandSessions::Gone };
            }
            if began.elapsed() > SESSION_END_TIMEOUT {
                return CommandSessions::Remaining(pids);
            }
            if began.elapsed() > self_end {
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
                    [&filter.application, &filter.since];
                match self.session.ask(include_str!("end_sessions.sql"), &values).await {
                    Ok(rows) => ended |= rows.first().is_some_and(|row| row.get::<_, i64>("ended") > 0),
                    Err(error) => {
                        tracing::warn!(run = self.execution.run.id, %error, "ending a migration's session failed")
                    }
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// The `application_name` of a run's sessions: `jobs` finds them by the run's number in it.
pub fn application_name(run: &Run) -> String {
    format!("countersign #{} migration", run.id)
}

/// Number of applied migrations, for people.
pub fn progress_label(done: Option<usize>, of: Option<usize>) -> String {
    match (done, of) {
        (Some(done), Some(all)) => format!("{done} of {all} applied"),
        (Some(done), None) => format!("{done} applied so far"),
        (None, _) => "running".to_owned(),
    }
}

/// The same in percent: at most 99 before the end.
pub fn progress_percent(done: Option<usize>, of: Option<usize>) -> Option<u8> {
    match (done, of) {
        (Some(done), Some(all @ 1..)) => u8::try_from((100 * done / all).min(99)).ok(),
        _ => None,
    }
}

/// The properties that a command's sessions are found by.
pub struct BackendFilter<'a> {
    pub application: &'a str,
    pub role: &'a str,
    /// The server's time when the command was started.
    pub since: &'a str,
}

impl BackendFilter<'_> {
    /// # Errors
    /// [`QueryError`].
    pub async fn backends(&self, reader: &PooledClient) -> Result<BackendStatus, QueryError> {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&self.application, &self.role, &self.since];
        let rows = reader.ask(include_str!("sessions.sql"), &values).await?;
        let row = rows.first().ok_or(QueryError::Lost)?;
        let text = |name: &str| row.get::<_, Option<String>>(name).unwrap_or_else(|| "-".to_owned());
        let seconds = |name: &str| row.get::<_, Option<f64>>(name).unwrap_or_default();
        let blocker = row.get::<_, Option<i32>>("pid").map(|pid| Blocker {
            pid,
            app: text("app"),
            state: text("state"),
            waits_s: seconds("waits_s"),
            for_s: seconds("for_s"),
        });
        let pids = row.get::<_, Option<Vec<i32>>>("pids").unwrap_or_default();
        Ok(BackendStatus { pids, named: row.get("named"), blocker })
    }
}
