//! The session that works, and beside it the one that watches: progress, a stop, and the state of a session whose connection was
//! lost.

use super::resource;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::postgres::{DedicatedSession, PooledClient, QueryError, QueryResult};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

/// PostgreSQL publishes its times, and removes a session that ended, a moment later.
pub const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
/// Interval between two looks at what PostgreSQL publishes.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The sessions of one maintenance run.
pub struct MaintenanceSession<'a> {
    pub execution: &'a Execution<'a>,
    pub database: DatabaseTarget,
    pub worker: DedicatedSession,
    /// Reads the worker's progress. The work continues without it.
    pub watcher: Option<PooledClient>,
}

/// The target that is being worked on.
pub struct CurrentTarget<'a> {
    pub targets: &'a [PlannedRelation],
    pub index: usize,
    /// "table" or "index".
    pub noun: &'a str,
}

impl<'a> MaintenanceSession<'a> {
    /// Opens both sessions to the database that the plan names.
    ///
    /// # Errors
    /// The outcome of a run that could not start.
    pub async fn begin(execution: &'a Execution<'a>) -> Result<MaintenanceSession<'a>, Outcome> {
        let database = DatabaseTarget::from_plan(execution);
        let worker = database.dedicated_session(execution).await.map_err(|error| database.failed(error))?;
        let watcher = database.observer(execution).await;
        Ok(MaintenanceSession { execution, database, worker, watcher })
    }

    /// Queries over the worker's connection; a second time if a cancellation arrived that was meant for the statement before.
    ///
    /// # Errors
    /// As [`PooledClient::ask`].
    pub async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        match self.worker.ask(sql, values).await {
            Err(error) if self.is_stopped(&error) => self.worker.ask(sql, values).await,
            answer => answer,
        }
    }

    /// Runs one statement until it is done or the run is asked to stop. Returns PostgreSQL's warnings.
    ///
    /// # Errors
    /// As [`DedicatedSession::run_until`].
    pub async fn execute(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        self.worker.run_until(sql, self.execution.stop).await
    }

    /// Tells a statement that the run's stop cancelled from one that somebody else cancelled.
    pub fn is_stopped(&self, error: &QueryError) -> bool {
        error.is_cancelled() && self.execution.stop.is_cancelled()
    }

    /// Locks a table against every other Countersign instance. `false`: another instance holds the lock.
    ///
    /// # Errors
    /// As [`DedicatedSession::hold`].
    pub async fn try_lock(&self, table: &str) -> Result<bool, QueryError> {
        self.worker.hold(&resource(&self.database.database, table)).await
    }

    /// Awaits a part of the work, and reports progress meanwhile.
    pub async fn with_progress<T>(&self, position: CurrentTarget<'_>, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.report_progress(&position) => match never {},
        }
    }

    /// Reports the targets done and the share of the current one, until it is dropped.
    async fn report_progress(&self, position: &CurrentTarget<'_>) -> Infallible {
        let CurrentTarget { targets, index, noun } = position;
        let weight = |target: &PlannedRelation| (target.bytes as f64).max(1.0);
        let total: f64 = targets.iter().map(weight).sum();
        let before: f64 = targets.iter().take(*index).map(weight).sum();
        let current = targets.get(*index);
        loop {
            let rows = match &self.watcher {
                Some(watcher) => watcher.ask(include_str!("progress.sql"), &[&self.worker.pid]).await.ok(),
                None => None,
            };
            let row = rows.as_ref().and_then(|rows| rows.first());
            let share = row.and_then(|row| row.get::<_, Option<f64>>("share")).unwrap_or_default();
            let percent = 100.0 * (before + current.map_or(0.0, weight) * share / 100.0) / total;
            let mut label = current.map(|target| target.relation.clone()).unwrap_or_default();
            if targets.len() > 1 {
                label = format!("{label}, {noun} {} of {}", index + 1, targets.len());
            }
            if let Some(phase) = row.map(|row| row.get::<_, String>("phase")) {
                label = format!("{label}: {phase}");
            }
            self.execution.progress(Some(percent.clamp(0.0, 99.0) as u8), label);
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    }

    /// Waits until the worker's session has ended, once its connection is lost: its server may still run the statement.
    pub async fn has_ended(&self) -> bool {
        let Some(watcher) = self.database.observer(self.execution).await else { return false };
        let sql =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_type = 'client backend')";
        let deadline = Instant::now() + VISIBLE_WITHIN;
        loop {
            match watcher.ask(sql, &[&self.worker.pid]).await {
                Ok(rows) if rows.first().is_some_and(|row| !row.get::<_, bool>(0)) => return true,
                Ok(_) if Instant::now() < deadline => tokio::time::sleep(POLL_INTERVAL).await,
                _ => return false,
            }
        }
    }
}
