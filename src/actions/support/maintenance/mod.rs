//! The mechanics that VACUUM, ANALYZE and REINDEX share: the session that works, the reader beside it that reports its progress,
//! the advisory lock on a table, and the report on each table or index (`results`).

use super::blocks::table;
use super::database::DatabaseTarget;
use super::relations::PlannedRelation;
use crate::actions::{Execution, Outcome};
use crate::model::Shape::{Left, Right};
use crate::model::{Cell, Table};
use crate::postgres::{DedicatedSession, PooledClient, QueryError, QueryResult};
use crate::sql::duration;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

mod results;

pub use results::{Nouns, TableOutcome, TableResult, done, recovered, results_block, summarize};

/// PostgreSQL publishes its times, and removes a session that ended, a moment later.
pub const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
/// Interval between two looks at what PostgreSQL publishes.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Name of the lock that keeps two commands from working on the same table.
pub fn resource(database: &str, table: &str) -> String {
    format!("maintenance of {database}: {table}")
}

/// Tells a wait for a lock, or for older transactions, that took as long as it may.
pub fn is_lock_timeout(error: &QueryError) -> bool {
    matches!(error, QueryError::Refused { code, .. } if code == "55P03")
}

/// Table of the sessions in the way, as `users.sql` and `open_transactions.sql` return them.
pub fn sessions_table(title: &str, rows: &[tokio_postgres::Row]) -> Option<Table> {
    let cells = |row: &tokio_postgres::Row| {
        let open_for = row.get::<_, Option<f64>>("held_s").map_or("-".to_owned(), duration);
        let mut cells = ["who", "app", "state"].map(|name| Cell::from(row.get::<_, &str>(name))).to_vec();
        cells.push(open_for.into());
        cells
    };
    let columns = [("who", Left), ("app", Left), ("state", Left), ("in its transaction for", Right)];
    let total = usize::try_from(rows.first()?.get::<_, i64>("total")).unwrap_or_default();
    Some(Table { title: Some(title.to_owned()), total, ..table(&columns, rows.iter().map(cells).collect()) })
}

/// The sessions of one maintenance run.
pub struct MaintenanceSession<'a> {
    pub execution: &'a Execution<'a>,
    pub database: DatabaseTarget,
    pub worker: DedicatedSession,
    /// Reads the worker's progress. The work continues without it.
    pub observer: Option<PooledClient>,
    pub targets: Vec<PlannedRelation>,
    /// "table" or "index".
    noun: &'static str,
}

impl<'a> MaintenanceSession<'a> {
    /// Opens both sessions to the database that the plan names. `noun`: "table" or "index".
    ///
    /// # Errors
    /// The outcome of a run that could not start.
    pub async fn begin(
        execution: &'a Execution<'a>,
        noun: &'static str,
    ) -> Result<MaintenanceSession<'a>, Outcome> {
        let database = DatabaseTarget::from_plan(execution);
        let worker = database.dedicated_session(execution).await.map_err(|error| database.failed(error))?;
        let observer = database.observer(execution).await;
        let targets = PlannedRelation::all(execution.plan);
        Ok(MaintenanceSession { execution, database, worker, observer, targets, noun })
    }

    /// Queries over the worker's connection; a second time if a cancellation arrived that was meant for the statement before.
    ///
    /// # Errors
    /// As [`PooledClient::ask`].
    pub async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        match self.worker.query(sql, values).await {
            Err(error) if self.is_stopped(&error) => self.worker.query(sql, values).await,
            answer => answer,
        }
    }

    /// Queries over a new connection, since the worker's is lost.
    ///
    /// # Errors
    /// As [`PooledClient::ask`].
    pub async fn query_again(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        let session = self.database.dedicated_session(self.execution).await;
        session.map_err(|_| QueryError::Lost)?.query(sql, values).await
    }

    /// Runs one statement until it is done or the run is asked to stop. Returns PostgreSQL's warnings.
    ///
    /// # Errors
    /// As [`DedicatedSession::execute_until`].
    pub async fn execute(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        self.worker.execute_until(sql, self.execution.stop).await
    }

    /// Tells a statement that the run's stop cancelled from one that somebody else cancelled.
    pub fn is_stopped(&self, error: &QueryError) -> bool {
        error.is_cancelled() && self.execution.stop.is_cancelled()
    }

    /// Locks a table against every other Countersign instance. `false`: another instance holds the lock.
    ///
    /// # Errors
    /// As [`DedicatedSession::try_advisory_lock`].
    pub async fn try_lock(&self, table: &str) -> Result<bool, QueryError> {
        self.worker.try_advisory_lock(&resource(&self.database.database, table)).await
    }

    /// Awaits the work on the target of that index, and reports progress meanwhile.
    pub async fn with_progress<T>(&self, index: usize, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.report_progress(index) => match never {},
        }
    }

    /// Reports the targets done and the share of the current one, until it is dropped.
    async fn report_progress(&self, index: usize) -> Infallible {
        let weight = |target: &PlannedRelation| (target.bytes as f64).max(1.0);
        let total: f64 = self.targets.iter().map(weight).sum();
        let before: f64 = self.targets.iter().take(index).map(weight).sum();
        let current = self.targets.get(index);
        loop {
            let rows = match &self.observer {
                Some(observer) => {
                    observer.query(include_str!("progress.sql"), &[&self.worker.pid]).await.ok()
                }
                None => None,
            };
            let row = rows.as_ref().and_then(|rows| rows.first());
            let share = row.and_then(|row| row.get::<_, Option<f64>>("share")).unwrap_or_default();
            let percent = 100.0 * (before + current.map_or(0.0, weight) * share / 100.0) / total;
            let mut label = current.map(|target| target.relation.clone()).unwrap_or_default();
            if self.targets.len() > 1 {
                label = format!("{label}, {} {} of {}", self.noun, index + 1, self.targets.len());
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
        let Some(observer) = self.database.observer(self.execution).await else { return false };
        let sql =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_type = 'client backend')";
        let deadline = Instant::now() + VISIBLE_WITHIN;
        loop {
            match observer.query(sql, &[&self.worker.pid]).await {
                Ok(rows) if rows.first().is_some_and(|row| !row.get::<_, bool>(0)) => return true,
                Ok(_) if Instant::now() < deadline => tokio::time::sleep(POLL_INTERVAL).await,
                _ => return false,
            }
        }
    }
}
