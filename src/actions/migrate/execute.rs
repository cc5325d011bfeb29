//! A command under way: how far it is, whom it waits for, and its end, by itself or because somebody or the clock said so.
//!
//! A Kubernetes job would be another way to run one: everything outside of this file only asks the database what came of it.

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
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How often the ledger and the sessions are asked: the messages that show it can't be edited faster.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A session that has lost its client ends when it next writes to it. One that waits for a lock, or works, doesn't: it is
/// ended after this time.
const ENDS_ITSELF: Duration = Duration::from_secs(1);

/// How long the command may take to end when Countersign itself has no more time than that.
const GRACE_AT_THE_END: Duration = Duration::from_secs(1);

/// How long a session may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lines of output beside the progress.
const LINES: usize = 3;

/// All that a command runs with.
pub struct MigrateCommand<'a> {
    pub doing: &'a Execution<'a>,
    pub job: &'a MigrateTarget<'a>,
    /// Holds the database's migrations for us, by the command's own login.
    pub alone: &'a DedicatedSession,
    pub watcher: &'a PooledClient,
    pub argv: &'a [String],
    pub before: &'a MigrationHistory,
}

/// How a command came to its end.
#[derive(Debug)]
pub enum ExitReason {
    Exited(ExitStatus),
    /// Somebody asked it to stop.
    Stopped,
    /// It was too slow.
    OutOfTime,
    /// Countersign itself was told to end.
    Ending,
    /// The system doesn't tell.
    Unknown(std::io::Error),
}

/// What is left of it on the server.
#[derive(Debug)]
pub enum CommandSessions {
    Gone,
    /// They had to be ended.
    CommandResult,
    /// Still there.
    Left(Vec<i32>),
    Unseen(QueryError),
}

pub struct CommandResult {
    pub end: ExitReason,
    /// Whom it waited for when it was last looked at.
    pub waited: Option<Blocker>,
    pub output: CapturedOutput,
    pub took: Duration,
    pub sessions: CommandSessions,
}

/// Whom a command's session waits for: the head of the queue.
#[derive(Debug, Clone)]
pub struct Blocker {
    pub pid: i32,
    app: String,
    state: String,
    /// Seconds: how long it has waited, and how long the head has been in its state.
    waits_s: f64,
    for_s: f64,
}

impl Blocker {
    /// "waited 4.0 s for pid 4711 (shop-api, idle in transaction for 10 s)"
    pub fn words(&self) -> String {
        let Blocker { pid, app, state, waits_s, for_s } = self;
        format!("waited {} for pid {pid} ({app}, {state} for {})", duration(*waits_s), duration(*for_s))
    }
}

/// What is seen of a command's sessions.
pub struct BackendStatus {
    pub pids: Vec<i32>,
    /// All of them surely are its own.
    pub named: bool,
    pub wait: Option<Blocker>,
}

impl MigrateCommand<'_> {
    /// Starts the command and waits for its end.
    ///
    /// # Errors
    /// Why it was not started, in words.
    pub async fn run(&self) -> Result<CommandResult, String> {
        let asked = self.alone.ask("SELECT clock_timestamp()::text", &[]).await;
        let rows = asked.map_err(|why| format!("{} {why}", self.job.database()))?;
        let since: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        // One name for all of its sessions, and for no others.
        let application = application(self.doing.run);
        let url = self.job.url(&application);
        let output = self.job.ear(&url, &self.before.all_names());
        let command = self.job.command(self.argv, &url);
        let running = Subprocess::start(command, CapturedStreams::Both, output.clone());
        let mut running = running.map_err(|why| format!("the command can't be started ({})", why.kind()))?;
        let own = BackendFilter { application: &application, role: &self.job.login.user, since: &since };
        let (began, waited) = (Instant::now(), Mutex::default());
        let end = tokio::select! {
            status = running.ended() => status.map_or_else(ExitReason::Unknown, ExitReason::Exited),
            () = self.doing.stop.cancelled() => ExitReason::Stopped,
            () = self.doing.app.shutdown.cancelled() => ExitReason::Ending,
            () = tokio::time::sleep(self.job.migrate.within) => ExitReason::OutOfTime,
            never = self.tell(&own, (&output, &waited)) => match never {},
        };
        let mut waited: Option<Blocker> = waited.into_inner();
        let (grace, notices) = match end {
            ExitReason::Ending => (GRACE_AT_THE_END, Duration::ZERO),
            _ => (GRACE, ENDS_ITSELF),
        };
        if !matches!(end, ExitReason::Exited(_)) {
            self.doing.progress(None, "it is being ended");
            if let Ok(sight) = own.sight(self.watcher).await {
                waited = sight.wait;
            }
            running.terminate(grace).await;
        }
        drop(running.heard().await);
        let took = began.elapsed();
        let sessions = self.see_off(&own, notices).await;
        Ok(CommandResult { end, waited, output, took, sessions })
    }

    /// Tells how far it is until it is dropped, and keeps whom it waits for.
    async fn tell(
        &self,
        own: &BackendFilter<'_>,
        (output, waited): (&CapturedOutput, &Mutex<Option<Blocker>>),
    ) -> Infallible {
        let expected = self.before.to_come().map(|names| names.len());
        loop {
            let (done, sight) = tokio::join!(self.applied(), own.sight(self.watcher));
            let wait = sight.ok().and_then(|sight| sight.wait);
            let mut label = far(done, expected);
            if let Some(wait) = &wait {
                label = format!("{label} · has {}", wait.words());
            }
            *waited.lock() = wait;
            for line in output.last(LINES) {
                label = format!("{label}\n{line}");
            }
            let percent = percent(done, expected);
            self.doing.progress(percent, label);
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    /// How many were applied since.
    async fn applied(&self) -> Option<usize> {
        let now =
            MigrationHistory::read(&Executor::DedicatedSession(self.alone), &self.job.migrate.schema, None)
                .await
                .ok()?;
        Some(now.applied().iter().filter(|name| !self.before.is_applied(name)).count())
    }

    /// Waits until none of its sessions is left on the server, and ends those that don't notice. Only what surely is its own
    /// is ended.
    async fn see_off(&self, own: &BackendFilter<'_>, notices: Duration) -> CommandSessions {
        let began = Instant::now();
        let mut ended = false;
        loop {
            let left = match own.sight(self.watcher).await {
                Ok(sight) => sight.pids,
                Err(why) => return CommandSessions::Unseen(why),
            };
            if left.is_empty() {
                return if ended { CommandSessions::CommandResult } else { CommandSessions::Gone };
            }
            if began.elapsed() > GONE_WITHIN {
                return CommandSessions::Left(left);
            }
            if began.elapsed() > notices {
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&own.application, &own.since];
                match self.alone.ask(include_str!("end_sessions.sql"), &values).await {
                    Ok(rows) => ended |= rows.first().is_some_and(|row| row.get::<_, i64>("ended") > 0),
                    Err(why) => tracing::warn!(%why, "a command's session could not be ended"),
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The name of all of a run's sessions, and of no others: `jobs` knows it by its number.
pub fn application(run: &Run) -> String {
    format!("countersign #{} migration", run.id)
}

/// How many are applied, for people.
pub fn far(done: Option<usize>, of: Option<usize>) -> String {
    match (done, of) {
        (Some(done), Some(all)) => format!("{done} of {all} applied"),
        (Some(done), None) => format!("{done} applied so far"),
        (None, _) => "under way".to_owned(),
    }
}

/// The same as a share; all of it is for the end to say.
pub fn percent(done: Option<usize>, of: Option<usize>) -> Option<u8> {
    match (done, of) {
        (Some(done), Some(all @ 1..)) => u8::try_from((100 * done / all).min(99)).ok(),
        _ => None,
    }
}

/// What a command's sessions are known by.
pub struct BackendFilter<'a> {
    pub application: &'a str,
    pub role: &'a str,
    /// The server's time when it was started.
    pub since: &'a str,
}

impl BackendFilter<'_> {
    /// # Errors
    /// [`QueryError`].
    pub async fn sight(&self, reader: &PooledClient) -> Result<BackendStatus, QueryError> {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&self.application, &self.role, &self.since];
        let rows = reader.ask(include_str!("sessions.sql"), &values).await?;
        let row = rows.first().ok_or(QueryError::Lost)?;
        let word = |name: &str| row.get::<_, Option<String>>(name).unwrap_or_else(|| "-".to_owned());
        let seconds = |name: &str| row.get::<_, Option<f64>>(name).unwrap_or_default();
        let wait = row.get::<_, Option<i32>>("pid").map(|pid| Blocker {
            pid,
            app: word("app"),
            state: word("state"),
            waits_s: seconds("waits_s"),
            for_s: seconds("for_s"),
        });
        let pids = row.get::<_, Option<Vec<i32>>>("pids").unwrap_or_default();
        Ok(BackendStatus { pids, named: row.get("named"), wait })
    }
}
