//! A running command: its progress, the session that blocks it, and its end: by itself, by a stop request or by its time limit.
//!
//! The rest of the module reads the result from the database alone, so that another way to run the command, such as a Kubernetes
//! job, would change only this file.

use super::migration_history::{HistoryError, MigrationHistory};
use super::output::CapturedOutput;
use super::target::{MigrateIdentity, MigrateTarget, ensure_no_shadowing, lock_holder};
use super::{changed_outcome, invalidated_outcome, text};
use crate::actions::support::subprocess::{CapturedStreams, GRACE, Subprocess};
use crate::actions::{Execution, Outcome, TargetLockError};
use crate::model::Run;
use crate::postgres::{DedicatedSession, PooledClient, QueryError};
use crate::shared_state::RunProgress;
use crate::sql::duration;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::fmt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Time between two reads of the migration history and the sessions: a message can't be edited more often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A session that has lost its client ends at its next write to the client. A session that waits for a lock or executes a query
/// doesn't notice: it is ended after this time.
const SESSION_END_GRACE: Duration = Duration::from_secs(1);

/// Time that the command may take to end while Countersign itself is shutting down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Longest wait for the end of the command's sessions.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Lines of output that are shown while the command runs.
const PROGRESS_OUTPUT_LINES: usize = 3;

/// The external command and everything that it runs with, once identity and guards have been checked again.
pub struct MigrationProcess<'a> {
    execution: &'a Execution<'a>,
    target: &'a MigrateTarget<'a>,
    argv: Vec<String>,
    /// Holds the advisory lock that keeps other Countersign instances from migrating this database, through the command's own
    /// login.
    session: DedicatedSession,
    reader: PooledClient,
    pub history_before: MigrationHistory,
}

/// The way in which a command ended.
#[derive(Debug)]
pub enum ProcessEnd {
    Exited(ExitStatus),
    Stopped,
    TimedOut,
    ShutDown,
    /// The operating system returned no exit status.
    Unknown(std::io::Error),
}

/// The end of the command's sessions on the server.
#[derive(Debug)]
pub enum SessionCleanup {
    EndedThemselves,
    Terminated,
    Remaining(Vec<i32>),
    Unknown(QueryError),
}

pub struct CommandResult {
    pub end: ProcessEnd,
    /// The session that blocked it when its sessions were last read.
    pub blocker: Option<Blocker>,
    pub output: CapturedOutput,
    pub elapsed: Duration,
    pub sessions: SessionCleanup,
    /// The migration history after the command.
    pub history: Result<MigrationHistory, HistoryError>,
}

impl CommandResult {
    /// The command exited by itself and with success.
    pub fn succeeded(&self) -> bool {
        matches!(&self.end, ProcessEnd::Exited(status) if status.success())
    }
}

/// The root blocker of a command's session.
#[derive(Debug, Clone)]
pub struct Blocker {
    pub pid: i32,
    application_name: String,
    state: String,
    /// Seconds that the command's session has waited.
    waited_seconds: f64,
    /// Seconds that the blocker has been in its state.
    state_seconds: f64,
}

/// "waited 4.0 s for pid 4711 (shop-api, idle in transaction for 10 s)"
impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocker { pid, application_name, state, .. } = self;
        let (waited, in_state) = (duration(self.waited_seconds), duration(self.state_seconds));
        write!(f, "waited {waited} for pid {pid} ({application_name}, {state} for {in_state})")
    }
}

/// The sessions of a command on the server.
pub struct MigrationSessions {
    pub pids: Vec<i32>,
    /// All of them carry the run's own name.
    pub all_named_by_run: bool,
    pub blocker: Option<Blocker>,
}

impl<'a> MigrationProcess<'a> {
    /// Checks identity and guards again. An external program can't be started inside a transaction, so there is a gap between this
    /// check and the program's own: Prisma reads its history again after it has taken its own lock, which Countersign can't take.
    pub async fn prepare(
        execution: &'a Execution<'a>,
        target: &'a MigrateTarget<'a>,
        argv: Vec<String>,
    ) -> Result<MigrationProcess<'a>, Outcome> {
        let Execution { app, plan, stop, .. } = execution;
        let MigrateTarget { connections, .. } = target;
        let failed = |error: &dyn fmt::Display| connections.failed(error);
        let session = connections.dedicated_session(execution).await.map_err(|error| failed(&error))?;
        let reader = execution.connect(&connections.reader_address()).await;
        let reader = reader.map_err(|error| failed(&error))?;
        let resource = target.resource();
        execution.lock_target(&session, &resource).await.map_err(|error| match error {
            TargetLockError::Busy => {
                let reason = format!("Another Countersign instance holds the lock on {resource}.");
                Outcome::invalidated(reason)
            }
            TargetLockError::RunLost(lost) => lost.into(),
            TargetLockError::Query(error) => failed(&error),
        })?;
        if plan.code != Some(target.code(&argv)) {
            return Err(changed_outcome("The configured command"));
        }
        target.check(&argv).map_err(invalidated_outcome)?;
        ensure_no_shadowing(target, &session).await.map_err(invalidated_outcome)?;
        let history_before = target.history(&session).await.map_err(|error| failed(&error))?;
        let planned_identity: MigrateIdentity = plan.target().unwrap_or_default();
        if planned_identity.history_digest != history_before.digest() {
            return Err(changed_outcome("Prisma's migration history"));
        }
        if planned_identity.directory_digest != history_before.directory_digest() {
            return Err(changed_outcome("The migrations directory"));
        }
        if let Some(holder) = lock_holder(&reader).await.map_err(|error| failed(&error))? {
            return Err(invalidated_outcome(text::lock_held_error(target, &holder)));
        }
        if stop.is_cancelled() || app.shutdown.is_cancelled() {
            return Err(Outcome::stopped("Stopped before it started."));
        }
        Ok(MigrationProcess { execution, target, argv, session, reader, history_before })
    }

    /// Starts the command and waits for its end; an error is the reason why it was not started.
    pub async fn run(&self) -> Result<CommandResult, Outcome> {
        let rows = self.session.query("SELECT clock_timestamp()::text", &[]).await;
        let rows = rows.map_err(|error| self.target.connections.failed(error))?;
        let started_at: Option<String> = rows.first().and_then(|row| row.value(0));
        let started_at = started_at.ok_or_else(|| self.target.connections.failed(QueryError::Lost))?;
        // The checks before took their time. The session, which has answered, still holds the lock.
        self.execution.ensure_current().await?;
        // One name for all of its sessions, and for no others.
        let application_name = application_name(self.execution.run);
        let url = self.target.url(&application_name, self.session.major());
        let migration_names = self.history_before.all_names().into_iter().map(str::to_owned).collect();
        let output = self.target.captured_output(&url, migration_names);
        let command = self.target.command(&self.argv, &url);
        let process = Subprocess::start(command, CapturedStreams::Both, output.clone());
        let failed = |error: std::io::Error| format!("the command can't be started ({})", error.kind());
        let mut process = process.map_err(|error| Outcome::failed(failed(error)))?;
        let role = &self.target.role.user;
        let filter = SessionFilter { application_name: &application_name, role, started_at: &started_at };
        let began = Instant::now();
        let blocker = Mutex::default();
        let end = tokio::select! {
            status = process.wait() => status.map_or_else(ProcessEnd::Unknown, ProcessEnd::Exited),
            () = self.execution.stop.cancelled() => ProcessEnd::Stopped,
            () = self.execution.app.shutdown.cancelled() => ProcessEnd::ShutDown,
            () = tokio::time::sleep(self.target.migrate.timeout) => ProcessEnd::TimedOut,
            never = self.report_progress(&filter, &output, &blocker) => match never {},
        };
        let mut blocker = blocker.into_inner();
        let (process_grace, session_grace) = match end {
            ProcessEnd::ShutDown => (SHUTDOWN_GRACE, Duration::ZERO),
            _ => (GRACE, SESSION_END_GRACE),
        };
        if !matches!(end, ProcessEnd::Exited(_)) {
            self.execution.progress(None, "ending the command");
            if let Ok(sessions) = filter.sessions(&self.reader).await {
                blocker = sessions.blocker;
            }
            process.terminate(process_grace).await;
        }
        // Waits until the output is complete; `output` has it already.
        drop(process.output().await);
        let elapsed = began.elapsed();
        let sessions = self.end_sessions(&filter, session_grace).await;
        let history = self.history_after().await;
        Ok(CommandResult { end, blocker, output, elapsed, sessions, history })
    }

    /// Reads the migration history after the command, by another connection if this one is lost.
    async fn history_after(&self) -> Result<MigrationHistory, HistoryError> {
        let history = self.target.history(&self.session).await;
        if let Err(HistoryError::Server(_)) = history
            && let Ok(client) = self.execution.connect(&self.target.connections.address).await
        {
            return self.target.history(&client).await;
        }
        history
    }

    /// Reports progress until it is dropped, and writes the current blocker into `blocker`.
    async fn report_progress(
        &self,
        filter: &SessionFilter<'_>,
        output: &CapturedOutput,
        blocker: &Mutex<Option<Blocker>>,
    ) -> Infallible {
        let expected = self.history_before.pending_names().map(|names| names.len());
        loop {
            let (applied, sessions) = tokio::join!(self.count_applied(), filter.sessions(&self.reader));
            let current = sessions.ok().and_then(|sessions| sessions.blocker);
            let mut progress = progress(applied, expected);
            if let Some(current) = &current {
                progress.label.push_str(&format!(" · has {current}"));
            }
            *blocker.lock() = current;
            for line in output.last(PROGRESS_OUTPUT_LINES) {
                progress.label.push_str(&format!("\n{line}"));
            }
            self.execution.progress(progress.percent, progress.label);
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    }

    async fn count_applied(&self) -> Option<usize> {
        let history = MigrationHistory::read(&self.session, &self.target.migrate.schema, None).await.ok()?;
        Some(history.applied_names().iter().filter(|name| !self.history_before.is_applied(name)).count())
    }

    /// Waits until the command has no session left on the server, and ends those that don't end by themselves. Only sessions
    /// with the run's own name are ended.
    async fn end_sessions(&self, filter: &SessionFilter<'_>, grace: Duration) -> SessionCleanup {
        let began = Instant::now();
        let mut terminated = 0;
        loop {
            let pids = match filter.sessions(&self.reader).await {
                Ok(sessions) => sessions.pids,
                Err(error) => return SessionCleanup::Unknown(error),
            };
            if pids.is_empty() {
                let ended = SessionCleanup::EndedThemselves;
                return if terminated > 0 { SessionCleanup::Terminated } else { ended };
            }
            if began.elapsed() > SESSION_END_TIMEOUT {
                return SessionCleanup::Remaining(pids);
            }
            if began.elapsed() > grace {
                let sql = include_str!("end_sessions.sql");
                match self.session.query(sql, &[&filter.application_name, &filter.started_at]).await {
                    Ok(rows) => {
                        terminated += rows.first().and_then(|row| row.value::<i64>("ended")).unwrap_or(0)
                    }
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
pub fn progress(applied: Option<usize>, expected: Option<usize>) -> RunProgress {
    let (percent, label) = match (applied, expected) {
        (Some(applied), Some(0)) => (None, format!("{applied} of 0 applied")),
        (Some(applied), Some(all)) => (Some(100 * applied / all), format!("{applied} of {all} applied")),
        (Some(applied), None) => (None, format!("{applied} applied so far")),
        (None, _) => (None, "running".to_owned()),
    };
    RunProgress { percent: percent.and_then(|percent| u8::try_from(percent.min(99)).ok()), label }
}

/// The properties that a command's sessions are found by.
pub struct SessionFilter<'a> {
    pub application_name: &'a str,
    pub role: &'a str,
    /// The server's time when the command was started.
    pub started_at: &'a str,
}

impl SessionFilter<'_> {
    pub async fn sessions(&self, reader: &PooledClient) -> Result<MigrationSessions, QueryError> {
        let sql = include_str!("sessions.sql");
        let rows = reader.query(sql, &[&self.application_name, &self.role, &self.started_at]).await?;
        let row = rows.first().ok_or(QueryError::Lost)?;
        let text = |name: &str| row.value::<String>(name).unwrap_or_else(|| "-".to_owned());
        let seconds = |name: &str| row.value::<f64>(name).unwrap_or_default();
        let blocker = row.get::<Option<i32>>("pid")?.map(|pid| Blocker {
            pid,
            application_name: text("app"),
            state: text("state"),
            waited_seconds: seconds("waits_s"),
            state_seconds: seconds("for_s"),
        });
        let pids = row.get::<Option<Vec<i32>>>("pids")?.unwrap_or_default();
        Ok(MigrationSessions { pids, all_named_by_run: row.get("all_named_by_run")?, blocker })
    }
}
