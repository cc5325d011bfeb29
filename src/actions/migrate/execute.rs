//! A running command: its progress, the session that blocks it, and its end: by itself, by a stop request or by its time limit.
//!
//! A Kubernetes job would be another way to run it: everything outside of this file reads the result from the database alone.

use super::migration_history::{HistoryError, MigrationHistory};
use super::output::CapturedOutput;
use super::target::{MigrateIdentity, MigrateTarget, lock_holder};
use super::{changed, invalidated, text};
use crate::actions::support::subprocess::{CapturedStreams, GRACE, Subprocess};
use crate::actions::{Execution, Outcome};
use crate::app::Share;
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

const SESSION_END_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

const OUTPUT_LINES: usize = 3;

/// A command and everything that it runs with, once identity and guards have been checked again.
pub struct MigrateCommand<'a> {
    execution: &'a Execution<'a>,
    target: &'a MigrateTarget<'a>,
    argv: Vec<String>,
    /// Holds the advisory lock that keeps other Countersign instances from migrating this database, through the command's own
    /// login.
    session: DedicatedSession,
    watcher: PooledClient,
    pub before: MigrationHistory,
}

/// The reason for a command's end.
#[derive(Debug)]
pub enum ExitReason {
    Exited(ExitStatus),
    Stopped,
    TimedOut,
    ShutDown,
    /// The operating system returned no exit status.
    Unknown(std::io::Error),
}

/// The command's sessions on the server after its end.
#[derive(Debug)]
pub enum CommandSessions {
    Gone,
    Ended,
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
    /// The migration history after the command.
    pub history: Result<MigrationHistory, HistoryError>,
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

impl<'a> MigrateCommand<'a> {
    /// Checks identity and guards again. An external program can't be started inside a transaction, so there is a gap between
    /// this check and the program's own: Prisma reads its history again once it holds its lock, which nothing else can take for it.
    pub async fn prepare(
        execution: &'a Execution<'a>,
        target: &'a MigrateTarget<'a>,
        argv: Vec<String>,
    ) -> Result<MigrateCommand<'a>, Outcome> {
        let Execution { app, plan, asker, stop, .. } = execution;
        let MigrateTarget { connections, .. } = target;
        let failed = |error: &dyn fmt::Display| connections.failed(error);
        let session = connections.dedicated_session(execution).await.map_err(|error| failed(&error))?;
        let watcher = app.environments.acquire(&connections.reader_address(), asker).await;
        let watcher = watcher.map_err(|error| failed(&error))?;
        let resource = target.resource();
        if !session.try_advisory_lock(&resource).await.map_err(|error| failed(&error))? {
            let reason = format!("Another Countersign instance holds the lock on {resource}.");
            return Err(Outcome::invalidated(reason));
        }
        if plan.code != Some(target.code(&argv)) {
            return Err(changed("The configured command"));
        }
        target.check(&argv).map_err(invalidated)?;
        let before = target.history(&session).await.map_err(|error| failed(&error))?;
        let planned: MigrateIdentity = plan.target().unwrap_or_default();
        if planned.ledger != before.ledger_digest() {
            return Err(changed("Prisma's migration history"));
        }
        if planned.migrations != before.directory_digest() {
            return Err(changed("The migrations directory"));
        }
        if let Some(holder) = lock_holder(&watcher).await.map_err(|error| failed(&error))? {
            return Err(invalidated(text::lock_held_error(target, &holder)));
        }
        if stop.is_cancelled() || app.shutdown.is_cancelled() {
            return Err(Outcome::stopped("Stopped before it started."));
        }
        Ok(MigrateCommand { execution, target, argv, session, watcher, before })
    }

    /// Starts the command and waits for its end; an error is the reason why it was not started.
    pub async fn run(&self) -> Result<CommandResult, Outcome> {
        let rows = self.session.query("SELECT clock_timestamp()::text", &[]).await;
        let rows = rows.map_err(|error| self.target.connections.failed(error))?;
        let since: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        // One name for all of its sessions, and for no others.
        let application = application_name(self.execution.run);
        let url = self.target.url(&application);
        let names = self.before.all_names().into_iter().map(str::to_owned).collect();
        let output = self.target.captured_output(&url, names);
        let command = self.target.command(&self.argv, &url);
        let process = Subprocess::start(command, CapturedStreams::Both, output.clone());
        let failed = |error: std::io::Error| format!("the command can't be started ({})", error.kind());
        let mut process = process.map_err(|error| Outcome::failed(failed(error)))?;
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
        let mut blocker = blocker.into_inner();
        let (grace, self_end) = match exit {
            ExitReason::ShutDown => (SHUTDOWN_GRACE, Duration::ZERO),
            _ => (GRACE, SELF_END_TIMEOUT),
        };
        if !matches!(exit, ExitReason::Exited(_)) {
            self.execution.progress(None, "ending the command");
            if let Ok(backends) = filter.backends(&self.watcher).await {
                blocker = backends.blocker;
            }
            process.terminate(grace).await;
        }
        drop(process.output().await);
        let elapsed = began.elapsed();
        let sessions = self.end_sessions(&filter, self_end).await;
        let history = self.history_after().await;
        Ok(CommandResult { exit, blocker, output, elapsed, sessions, history })
    }

    /// Reads the migration history after the command, by another connection if this one is lost.
    async fn history_after(&self) -> Result<MigrationHistory, HistoryError> {
        let history = self.target.history(&self.session).await;
        if let Err(HistoryError::Server(_)) = history {
            let Execution { app, asker, .. } = self.execution;
            if let Ok(client) = app.environments.acquire(&self.target.connections.address, asker).await {
                return self.target.history(&client).await;
            }
        }
        history
    }

    /// Reports progress until it is dropped, and writes the current blocker into `blocker`.
    async fn report_progress(
        &self,
        filter: &BackendFilter<'_>,
        output: &CapturedOutput,
        blocker: &Mutex<Option<Blocker>>,
    ) -> Infallible {
        let expected = self.before.pending().map(|names| names.len());
        loop {
            let (applied, backends) = tokio::join!(self.applied(), filter.backends(&self.watcher));
            let current = backends.ok().and_then(|backends| backends.blocker);
            let mut progress = progress(applied, expected);
            if let Some(current) = &current {
                progress.label.push_str(&format!(" · has {current}"));
            }
            *blocker.lock() = current;
            for line in output.last(OUTPUT_LINES) {
                progress.label.push_str(&format!("\n{line}"));
            }
            self.execution.progress(progress.percent, progress.label);
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    }

    async fn applied(&self) -> Option<usize> {
        let history = MigrationHistory::read(&self.session, &self.target.migrate.schema, None).await.ok()?;
        Some(history.applied().iter().filter(|name| !self.before.is_applied(name)).count())
    }

    /// Waits until the command has no session left on the server, and ends those that don't end by themselves. Only sessions
    /// with the run's own name are ended.
    async fn end_sessions(&self, filter: &BackendFilter<'_>, self_end: Duration) -> CommandSessions {
        let began = Instant::now();
        let mut ended = false;
        loop {
            let pids = match filter.backends(&self.watcher).await {
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
                let sql = include_str!("end_sessions.sql");
                match self.session.query(sql, &[&filter.application, &filter.since]).await {
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

/// Progress by the number of applied migrations: at most 99 % before the end.
pub fn progress(applied: Option<usize>, expected: Option<usize>) -> Share {
    let (percent, label) = match (applied, expected) {
        (Some(applied), Some(0)) => (None, format!("{applied} of 0 applied")),
        (Some(applied), Some(all)) => (Some(100 * applied / all), format!("{applied} of {all} applied")),
        (Some(applied), None) => (None, format!("{applied} applied so far")),
        (None, _) => (None, "running".to_owned()),
    };
    Share { percent: percent.and_then(|percent| u8::try_from(percent.min(99)).ok()), label }
}

/// The properties that a command's sessions are found by.
pub struct BackendFilter<'a> {
    pub application: &'a str,
    pub role: &'a str,
    /// The server's time when the command was started.
    pub since: &'a str,
}

impl BackendFilter<'_> {
    pub async fn backends(&self, reader: &PooledClient) -> Result<BackendStatus, QueryError> {
        let sql = include_str!("sessions.sql");
        let rows = reader.query(sql, &[&self.application, &self.role, &self.since]).await?;
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
