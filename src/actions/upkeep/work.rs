//! The connection that works, and beside it the one that watches: progress, a stop, and what became of a connection that was lost.

use super::names::Relation;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::{Execution, Outcome};
use crate::postgres::{DedicatedSession, PooledClient, QueryError, QueryResult};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

/// PostgreSQL tells its times, and forgets a session that was ended, a moment after.
pub(super) const SEEN_WITHIN: Duration = Duration::from_secs(10);
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the progress is asked.
const TELL_EVERY: Duration = Duration::from_secs(1);

pub(super) struct MaintenanceSession<'a> {
    pub doing: &'a Execution<'a>,
    pub site: DatabaseTarget,
    pub worker: DedicatedSession,
    /// Tells how far the worker is. Without it the work goes on all the same.
    pub watcher: Option<PooledClient>,
}

/// Which of the targets is in work.
pub(super) struct Position<'a> {
    pub targets: &'a [Relation],
    pub at: usize,
    /// What a target is: "table", "index".
    pub kind: &'a str,
}

impl<'a> MaintenanceSession<'a> {
    /// # Errors
    /// The outcome of a run that could do nothing.
    pub async fn begin(doing: &'a Execution<'a>) -> Result<MaintenanceSession<'a>, Outcome> {
        let site = DatabaseTarget::planned(doing);
        let worker = site.worker(doing).await.map_err(|why| site.nothing(why))?;
        let watcher = site.watcher(doing).await;
        Ok(MaintenanceSession { doing, site, worker, watcher })
    }

    /// Asks the worker; once more if a cancellation came too late for the statement that it was meant for.
    pub async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        match self.worker.ask(sql, values).await {
            Err(why) if self.is_cut(&why) => self.worker.ask(sql, values).await,
            answer => answer,
        }
    }

    /// Runs one statement, until it is done or the run is asked to stop.
    pub async fn run(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        self.worker.run_until(sql, self.doing.stop).await
    }

    /// Whether a statement ended since the run is to stop, and not for another's sake.
    pub fn is_cut(&self, why: &QueryError) -> bool {
        why.is_cancelled() && self.doing.stop.is_cancelled()
    }

    /// Against every other Countersign that works there.
    pub async fn hold(&self, table: &str) -> Result<bool, QueryError> {
        self.worker.hold(&resource(&self.site.database, table)).await
    }

    /// Does a part of the work, and tells meanwhile how far it is.
    pub async fn telling<T>(&self, part: Position<'_>, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.tell(&part) => match never {},
        }
    }

    /// Until it is dropped: what is done, and the share of the one in work.
    async fn tell(&self, part: &Position<'_>) -> Infallible {
        let weight = |target: &Relation| (target.bytes as f64).max(1.0);
        let all: f64 = part.targets.iter().map(weight).sum();
        let before: f64 = part.targets.iter().take(part.at).map(weight).sum();
        let current = part.targets.get(part.at);
        loop {
            let found = match &self.watcher {
                Some(watcher) => watcher.ask(include_str!("progress.sql"), &[&self.worker.pid]).await.ok(),
                None => None,
            };
            let row = found.as_ref().and_then(|rows| rows.first());
            let share = row.and_then(|row| row.get::<_, Option<f64>>("share")).unwrap_or_default();
            let percent = 100.0 * (before + current.map_or(0.0, weight) * share / 100.0) / all;
            let mut label = current.map(|target| target.relation.clone()).unwrap_or_default();
            if part.targets.len() > 1 {
                label = format!("{label}, {} {} of {}", part.kind, part.at + 1, part.targets.len());
            }
            if let Some(phase) = row.map(|row| row.get::<_, String>("phase")) {
                label = format!("{label}: {phase}");
            }
            self.doing.progress(Some(percent.clamp(0.0, 99.0) as u8), label);
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    /// Whether the worker's session is over, once its connection is lost: a server that was cut off goes on with its statement.
    pub async fn is_over(&self) -> bool {
        let Some(watcher) = self.site.watcher(self.doing).await else { return false };
        let sql =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_type = 'client backend')";
        let until = Instant::now() + SEEN_WITHIN;
        loop {
            match watcher.ask(sql, &[&self.worker.pid]).await {
                Ok(rows) if rows.first().is_some_and(|row| !row.get::<_, bool>(0)) => return true,
                Ok(_) if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                _ => return false,
            }
        }
    }
}

/// Whatever works on a table holds this, so that no two do.
pub(super) fn resource(database: &str, table: &str) -> String {
    format!("upkeep of {database}: {table}")
}

/// PostgreSQL waited for a lock, or for older transactions, as long as it was told to.
pub(super) fn gave_up(why: &QueryError) -> bool {
    matches!(why, QueryError::Refused { code, .. } if code == "55P03")
}
