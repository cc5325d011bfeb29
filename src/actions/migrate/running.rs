//! A command under way: how far it is, whom it waits for, and its end, by itself or because somebody or the clock said so.
//!
//! A Kubernetes job would be another way to run one: everything outside of this file only asks the database what came of it.

use super::heard::Heard;
use super::job::Job;
use super::ledger::{Asker, Status};
use crate::actions::Doing;
use crate::actions::child::{Outputs, Running};
use crate::sql::duration;
use crate::store::Run;
use crate::targets::{Alone, Lease, QueryError};
use std::convert::Infallible;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How often the ledger and the sessions are asked: the messages that show it can't be edited faster.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A session that has lost its client ends when it next writes to it. One that waits for a lock, or works, doesn't: it is
/// ended after this time.
const ENDS_ITSELF: Duration = Duration::from_secs(1);

/// How long a session may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lines of output beside the progress.
const LINES: usize = 3;

/// All that a command runs with.
pub struct Work<'a> {
    pub doing: &'a Doing<'a>,
    pub job: &'a Job<'a>,
    /// Holds the database's migrations for us, by the command's own login.
    pub alone: &'a Alone,
    pub watcher: &'a Lease,
    pub argv: &'a [String],
    pub before: &'a Status,
}

/// How a command came to its end.
#[derive(Debug)]
pub enum End {
    Exited(ExitStatus),
    /// Somebody asked it to stop.
    Stopped,
    /// It was too slow.
    OutOfTime,
    /// The system doesn't tell.
    Unknown(std::io::Error),
}

/// What is left of it on the server.
#[derive(Debug)]
pub enum Sessions {
    Gone,
    /// They had to be ended.
    Ended,
    /// Still there.
    Left(Vec<i32>),
    Unseen(QueryError),
}

pub struct Ended {
    pub end: End,
    pub output: Heard,
    pub took: Duration,
    pub sessions: Sessions,
}

impl Work<'_> {
    /// Starts the command and waits for its end.
    ///
    /// # Errors
    /// Why it was not started, in words.
    pub async fn run(&self) -> Result<Ended, String> {
        let asked = self.alone.ask("SELECT clock_timestamp()::text", &[]).await;
        let rows = asked.map_err(|why| format!("{} {why}", self.job.database()))?;
        let since: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        // One name for all of its sessions, and for no others.
        let application = application(self.doing.run);
        let url = self.job.url(&application);
        let output = self.job.ear(&url, &self.before.all_names());
        let command = self.job.command(self.argv, &url);
        let running = Running::start(command, Outputs::Both, output.clone());
        let mut running = running.map_err(|why| format!("the command can't be started ({})", why.kind()))?;
        let own = Own { application: &application, since: &since };
        let began = Instant::now();
        let end = tokio::select! {
            status = running.ended() => status.map_or_else(End::Unknown, End::Exited),
            () = self.doing.stop.cancelled() => End::Stopped,
            () = tokio::time::sleep(self.job.migrate.within) => End::OutOfTime,
            never = self.tell(&own, &output) => match never {},
        };
        if !matches!(end, End::Exited(_)) {
            self.doing.progress(None, "it is being ended");
            running.terminate().await;
        }
        drop(running.heard().await);
        let took = began.elapsed();
        let sessions = self.see_off(&own).await;
        Ok(Ended { end, output, took, sessions })
    }

    /// Tells how far it is until it is dropped.
    async fn tell(&self, own: &Own<'_>, output: &Heard) -> Infallible {
        let expected = self.before.to_come().map(|names| names.len());
        loop {
            let (done, waits) = tokio::join!(self.applied(), self.waits(own));
            let mut label = match (done, expected) {
                (Some(done), Some(all)) => format!("{done} of {all} applied"),
                (Some(done), None) => format!("{done} applied so far"),
                (None, _) => "under way".to_owned(),
            };
            if let Some(waits) = waits {
                label = format!("{label} · {waits}");
            }
            for line in output.last(LINES) {
                label = format!("{label}\n{line}");
            }
            let percent = match (done, expected) {
                (Some(done), Some(all @ 1..)) => Some((100 * done / all).min(99) as u8),
                _ => None,
            };
            self.doing.progress(percent, label);
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    /// How many were applied since.
    async fn applied(&self) -> Option<usize> {
        let now = Status::read(&Asker::Alone(self.alone), &self.job.migrate.schema, None).await.ok()?;
        Some(now.applied().iter().filter(|name| !self.before.is_applied(name)).count())
    }

    /// Whom it waits for, if it waits.
    async fn waits(&self, own: &Own<'_>) -> Option<String> {
        let rows = self.sessions(own).await.ok()?;
        let row = rows.first()?;
        let pid: i32 = row.get::<_, Option<i32>>("pid")?;
        let told = |name: &str| row.get::<_, Option<String>>(name).unwrap_or_else(|| "-".to_owned());
        let time = |name: &str| duration(row.get::<_, Option<f64>>(name).unwrap_or_default());
        Some(format!(
            "has waited {} for pid {pid} ({}, {} for {})",
            time("waits_s"),
            told("app"),
            told("state"),
            time("for_s")
        ))
    }

    async fn sessions(&self, own: &Own<'_>) -> crate::targets::Asked {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&own.application, &self.job.login.user, &own.since];
        self.watcher.ask(include_str!("sessions.sql"), &values).await
    }

    /// Waits until none of its sessions is left on the server, and ends those that don't notice. Only what surely is its own
    /// is ended.
    async fn see_off(&self, own: &Own<'_>) -> Sessions {
        let began = Instant::now();
        let mut ended = false;
        loop {
            let rows = match self.sessions(own).await {
                Ok(rows) => rows,
                Err(why) => return Sessions::Unseen(why),
            };
            let left =
                rows.first().and_then(|row| row.get::<_, Option<Vec<i32>>>("pids")).unwrap_or_default();
            if left.is_empty() {
                return if ended { Sessions::Ended } else { Sessions::Gone };
            }
            if began.elapsed() > GONE_WITHIN {
                return Sessions::Left(left);
            }
            if began.elapsed() > ENDS_ITSELF {
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&own.application, &own.since];
                match self.alone.ask(include_str!("end.sql"), &values).await {
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

/// Whether sessions of that name are there, at work or idle.
///
/// # Errors
/// [`QueryError`].
pub async fn has_sessions(reader: &Lease, application: &str) -> Result<bool, QueryError> {
    // Of this database: another record's run of the same number has another.
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database())";
    let rows = reader.ask(sql, &[&application]).await?;
    Ok(rows.first().is_none_or(|row| row.get(0)))
}

/// What a command's sessions are known by.
struct Own<'a> {
    application: &'a str,
    /// The server's time when it was started.
    since: &'a str,
}
