//! The mechanics that VACUUM, ANALYZE and REINDEX share: the session that works, the reader beside it that reports its progress,
//! the advisory lock on a table, and the report: one outcome for each table or index, and the verdict over all.

use super::blocks::{count, table};
use super::database::DatabaseTarget;
use super::recovery::INTERRUPTED;
use super::relations::PlannedRelation;
use crate::actions::{Execution, Outcome, TargetLockError};
use crate::error::Error;
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Cell, EventKind, Severity, Table};
use crate::postgres::{DedicatedSession, PgRow, PooledClient, QueryError, QueryResult};
use crate::sql::duration;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

/// PostgreSQL publishes its times, and removes a session that ended, a moment later.
pub const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
/// Interval between two looks at what PostgreSQL publishes.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Warnings that an outcome quotes: one is most often said of every table.
const MAX_WARNINGS: usize = 3;

/// Name of the lock that keeps two commands from working on the same table.
pub fn resource(database: &str, table: &str) -> String {
    format!("maintenance of {database}: {table}")
}

/// Tells a wait for a lock, or for older transactions, that took as long as it may.
pub fn is_lock_timeout(error: &QueryError) -> bool {
    matches!(error, QueryError::Refused { code, .. } if code == "55P03")
}

/// Builds the refusal for a relation whose lock is not free; `consequence` is what can't be done now.
pub fn locked_error(relation: &str, consequence: &str) -> Error {
    Error::instead(
        format!("{relation} is locked, so {consequence}."),
        "`blocked` shows who holds it. Try again when the lock is released.",
    )
}

/// Table of the sessions in the way, as `users.sql` and `open_transactions.sql` return them.
pub fn sessions_table(title: &str, rows: &[PgRow]) -> Option<Table> {
    let cells = |row: &PgRow| {
        let open_for = row.value("held_s").map_or("-".to_owned(), duration);
        let mut cells = ["who", "app", "state"]
            .map(|name| Cell::from(row.value::<String>(name).unwrap_or_default()))
            .to_vec();
        cells.push(open_for.into());
        cells
    };
    let columns = [("who", Left), ("app", Left), ("state", Left), ("in its transaction for", Right)];
    let total = usize::try_from(rows.first()?.value::<i64>("total")?).unwrap_or_default();
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
    noun: &'static str,
}

impl<'a> MaintenanceSession<'a> {
    /// Opens both sessions to the database that the plan names. `noun`: "table" or "index".
    pub async fn begin(
        execution: &'a Execution<'a>,
        noun: &'static str,
    ) -> Result<MaintenanceSession<'a>, Outcome> {
        let database = DatabaseTarget::from_plan(execution);
        let worker = database.dedicated_session(execution).await.map_err(|error| database.failed(error))?;
        let observer = database.connect_reader_for_execution(execution).await;
        let targets = PlannedRelation::all(execution.plan);
        Ok(MaintenanceSession { execution, database, worker, observer, targets, noun })
    }

    /// Queries over the worker's connection; a second time if a cancellation arrived that was meant for the statement before.
    pub async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        match self.worker.query(sql, values).await {
            Err(error) if self.is_stopped(&error) => self.worker.query(sql, values).await,
            answer => answer,
        }
    }

    /// Queries over a new connection, since the worker's is lost.
    pub async fn query_again(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> QueryResult {
        let session = self.database.dedicated_session(self.execution).await;
        session.map_err(|_| QueryError::Lost)?.query(sql, values).await
    }

    /// Runs one statement until it is done or the run is asked to stop. Returns PostgreSQL's warnings.
    pub async fn execute(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        self.worker.execute_until(sql, self.execution.stop).await
    }

    /// Tells a statement that the run's stop cancelled from one that somebody else cancelled.
    pub fn is_stopped(&self, error: &QueryError) -> bool {
        error.is_cancelled() && self.execution.stop.is_cancelled()
    }

    /// Locks a table against every other Countersign instance, as long as the run is this process'.
    pub async fn try_lock(&self, table: &str) -> Result<(), TargetLockError> {
        self.execution.lock_target(&self.worker, &resource(&self.database.database, table)).await
    }

    /// Unlocks a table: the server holds only so many locks at a time, and a database can have more tables.
    pub async fn unlock(&self, table: &str) {
        let unlocked = self.worker.advisory_unlock(&resource(&self.database.database, table)).await;
        if let Err(error) = unlocked {
            tracing::debug!(%error, "a table's advisory lock could not be released; it ends with its session");
        }
    }

    /// As [`Self::try_lock`], for work that does nothing without the lock.
    pub async fn lock(&self, table: &str, failed: impl FnOnce(QueryError) -> Outcome) -> Result<(), Outcome> {
        self.try_lock(table).await.map_err(|error| match error {
            TargetLockError::Busy => {
                Outcome::failed(format!("Another Countersign instance holds the lock on {table}."))
            }
            TargetLockError::RunLost(lost) => lost.into(),
            TargetLockError::Query(error) => failed(error),
        })
    }

    /// Awaits the work on the target of that index, and reports progress meanwhile.
    pub async fn with_progress<T>(&self, index: usize, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.report_progress(index) => match never {},
        }
    }

    /// Reports the targets done and the share of the current one, until it is dropped.
    async fn report_progress(&self, index: usize) -> std::convert::Infallible {
        let weight = |target: &PlannedRelation| (target.bytes as f64).max(1.0);
        let total: f64 = self.targets.iter().map(weight).sum();
        let before: f64 = self.targets.iter().take(index).map(weight).sum();
        let current = self.targets.get(index);
        loop {
            let mut rows = Vec::new();
            if let Some(observer) = &self.observer {
                let asked = observer.query(include_str!("progress.sql"), &[&self.worker.pid]).await;
                rows = asked.unwrap_or_default();
            }
            let row = rows.first();
            let share = row.and_then(|row| row.value::<f64>("share")).unwrap_or_default();
            let percent = 100.0 * (before + current.map_or(0.0, weight) * share / 100.0) / total;
            let mut label = current.map(|target| target.relation.clone()).unwrap_or_default();
            if self.targets.len() > 1 {
                label = format!("{label}, {} {} of {}", self.noun, index + 1, self.targets.len());
            }
            if let Some(phase) = row.and_then(|row| row.value::<String>("phase")) {
                label = format!("{label}: {phase}");
            }
            self.execution.progress(Some(percent.clamp(0.0, 99.0) as u8), label);
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    }

    /// Waits until the worker's session has ended, once its connection is lost: its server may still run the statement.
    pub async fn has_ended(&self) -> bool {
        let Some(observer) = self.database.connect_reader_for_execution(self.execution).await else {
            return false;
        };
        let sql =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_type = 'client backend')";
        let deadline = Instant::now() + VISIBLE_WITHIN;
        loop {
            match observer.query(sql, &[&self.worker.pid]).await {
                Ok(rows) if rows.first().is_some_and(|row| row.value(0) == Some(false)) => return true,
                Ok(_) if Instant::now() < deadline => tokio::time::sleep(POLL_INTERVAL).await,
                _ => return false,
            }
        }
    }
}

/// Outcome of the work on one table or index.
#[derive(Debug)]
pub enum TableOutcome {
    /// Of a table the dead rows left, as PostgreSQL estimates them; of an index its bytes.
    Done {
        left: i64,
        /// Advice of PostgreSQL that came with it.
        warning: Option<String>,
    },
    Skipped(String),
    /// No warning, and no trace of the work either.
    NoTrace,
    /// The name belongs to another relation now, or to none.
    Replaced,
    /// The name has bytes that aren't UTF-8, which no statement of ours can have.
    NotUtf8,
    Locked,
    /// The run is another process' now.
    RunLost,
    Stopped,
    /// Its VACUUM is done, and its ANALYZE is not: the reason, or `None` for the stop.
    OnlyVacuumed(Option<String>),
    Rejected(QueryError),
    /// Its session has ended, and the work was not done.
    SessionLost(QueryError),
    Unknown(QueryError),
}

impl TableOutcome {
    /// The outcome for a target that PostgreSQL doesn't find by its name, as it was read.
    pub fn not_found(relation: &str) -> TableOutcome {
        let is_utf8 = !relation.contains(char::REPLACEMENT_CHARACTER);
        if is_utf8 { TableOutcome::Replaced } else { TableOutcome::NotUtf8 }
    }

    /// Tells an outcome after which no other target is begun.
    pub fn ends_run(&self) -> bool {
        use TableOutcome::{OnlyVacuumed, RunLost, SessionLost, Stopped, Unknown};
        matches!(self, Unknown(_) | SessionLost(_) | RunLost | Stopped | OnlyVacuumed(None))
    }
}

impl From<TargetLockError> for TableOutcome {
    fn from(error: TargetLockError) -> TableOutcome {
        match error {
            TargetLockError::Busy => TableOutcome::Locked,
            TargetLockError::RunLost(_) => TableOutcome::RunLost,
            TargetLockError::Query(error) => TableOutcome::Rejected(error),
        }
    }
}

/// A target of the plan, and the outcome of the work on it.
pub struct TableResult {
    pub relation: String,
    /// The value before, of that which [`TableOutcome::Done`] counts.
    pub before: i64,
    pub outcome: TableOutcome,
}

/// Words for the targets and for what is done to them.
pub struct Nouns<'a> {
    /// "table"
    pub one: &'a str,
    /// "tables"
    pub many: &'a str,
    /// "vacuumed and analyzed"
    pub done: &'a str,
}

/// The results that are done, each with the value left.
pub fn done(results: &[TableResult]) -> Vec<(&TableResult, i64)> {
    let left = |result| match result {
        &TableResult { outcome: TableOutcome::Done { left, .. }, .. } => Some((result, left)),
        _ => None,
    };
    results.iter().filter_map(left).collect()
}

/// Builds the verdict over all `total` targets.
pub fn summarize(
    results: &[TableResult],
    total: usize,
    nouns: &Nouns<'_>,
    took: Duration,
) -> (EventKind, String) {
    let Nouns { one, many, done: past } = nouns;
    let any = |is: fn(&TableOutcome) -> bool| results.iter().find(|result| is(&result.outcome));
    let half = |result: &TableResult| matches!(result.outcome, TableOutcome::OnlyVacuumed(_));
    let stopped = any(|outcome| matches!(outcome, TableOutcome::Stopped | TableOutcome::OnlyVacuumed(None)));
    let is_lost =
        |outcome: &TableOutcome| matches!(outcome, TableOutcome::SessionLost(_) | TableOutcome::RunLost);
    let is_cut_off = results.iter().any(|result| is_lost(&result.outcome));
    let done = done(results).len();
    let took = duration(took.as_secs_f64());
    if any(|outcome| matches!(outcome, TableOutcome::Unknown(_))).is_some() {
        let text = format!("{done} of {total} {many} are {past}; the result of one is unknown.");
        return (EventKind::Interrupted, text);
    }
    let only = if total == 1 { results.first() } else { None };
    if let Some(only) = only.filter(|_| stopped.is_some()) {
        let state = if half(only) { "vacuumed, but not analyzed".to_owned() } else { format!("not {past}") };
        return (EventKind::Stopped, format!("Stopped: {} is {state}.", only.relation));
    }
    if stopped.is_some() || results.len() < total && !is_cut_off {
        let mut text = format!("Stopped: {done} of {} {past}", count(total, one, many));
        if let Some(stopped) = stopped {
            let behind = if half(stopped) { " after its VACUUM" } else { "" };
            text.push_str(&format!(", {} was interrupted{behind}", stopped.relation));
        }
        match total - results.len() {
            0 => text.push('.'),
            rest => text.push_str(&format!(", {rest} not started.")),
        }
        return (EventKind::Stopped, text);
    }
    match (done, only) {
        (1, Some(only)) => (EventKind::Succeeded, format!("{} is {past}, in {took}.", only.relation)),
        (_, Some(only)) if half(only) => {
            (EventKind::Partial, format!("{} is vacuumed, but not analyzed.", only.relation))
        }
        (_, Some(only)) => (EventKind::Failed, format!("{} was not {past}.", only.relation)),
        (0, None) if results.iter().any(half) => {
            (EventKind::Partial, format!("None of {total} {many} was fully {past}; see below."))
        }
        (0, None) => (EventKind::Failed, format!("None of {total} {many} was {past}.")),
        (all, None) if all == total => {
            (EventKind::Succeeded, format!("{total} {many} are {past}, in {took}."))
        }
        (some, None) => (
            EventKind::Partial,
            format!("{some} of {total} {many} are {past}, in {took}; the others are below."),
        ),
    }
}

/// Quotes each warning that came with work that is done, once.
pub fn warnings_block(results: &[TableResult]) -> Option<Block> {
    let warning = |result: &TableResult| match &result.outcome {
        TableOutcome::Done { warning, .. } => warning.clone(),
        _ => None,
    };
    let warnings: BTreeSet<String> = results.iter().filter_map(warning).collect();
    let quoted: Vec<String> = warnings.into_iter().take(MAX_WARNINGS).collect();
    (!quoted.is_empty()).then(|| Block::Note(format!("PostgreSQL warns: {}.", quoted.join("; ")).into()))
}

/// Lists each target's outcome, unfinished ones first. The outcome of a single one is a line, since a table's cells are short
/// on a phone.
pub fn results_block(results: &[TableResult], targets: &[PlannedRelation], noun: &str) -> Option<Block> {
    let is_done = |result: &&TableResult| matches!(result.outcome, TableOutcome::Done { .. });
    if let ([only], 1) = (results, targets.len()) {
        let mut text = outcome_cell(&only.outcome).text;
        let first: String = text.drain(..text.chars().next().map_or(0, char::len_utf8)).collect();
        return (!is_done(&only)).then(|| Block::Note(format!("{}{text}.", first.to_uppercase()).into()));
    }
    let row = |result: &TableResult| vec![result.relation.as_str().into(), outcome_cell(&result.outcome)];
    let others = results.iter().filter(|result| !is_done(result)).map(row);
    let not_started = Cell { text: "not started".to_owned(), severity: Severity::Warning };
    let not_started = targets
        .iter()
        .skip(results.len())
        .map(|target| vec![target.relation.as_str().into(), not_started.clone()]);
    let done = results.iter().filter(is_done).map(row);
    let rows: Vec<Vec<Cell>> = others.chain(not_started).chain(done).collect();
    let columns = [(noun, Left), ("result", Left)];
    (!rows.is_empty()).then(|| Block::Table(table(&columns, rows)))
}

fn outcome_cell(outcome: &TableOutcome) -> Cell {
    use Severity::{Critical, Warning};
    use TableOutcome::{
        Done, Locked, NoTrace, NotUtf8, OnlyVacuumed, Rejected, Replaced, RunLost, SessionLost, Skipped,
        Stopped, Unknown,
    };
    let (text, severity) = match outcome {
        Done { .. } => ("done".to_owned(), Severity::Ok),
        Skipped(warning) => (format!("PostgreSQL skipped it: {warning}"), Critical),
        NoTrace => ("PostgreSQL reported no warning, but shows no sign of the work".to_owned(), Critical),
        Replaced => {
            ("it is gone, or its name belongs to another relation now: not touched".to_owned(), Warning)
        }
        NotUtf8 => (
            "its name has bytes that aren't UTF-8, so Countersign can't name it: not touched. Rename it with psql".to_owned(),
            Warning,
        ),
        Locked => ("another Countersign instance holds the lock on it: not touched".to_owned(), Warning),
        RunLost => (format!("not touched: {}", crate::actions::RunLost), Warning),
        Stopped => ("interrupted by the stop".to_owned(), Warning),
        OnlyVacuumed(None) => ("vacuumed; the stop interrupted its ANALYZE".to_owned(), Warning),
        OnlyVacuumed(Some(reason)) => (format!("vacuumed, but not analyzed: {reason}"), Critical),
        Rejected(error) if is_lock_timeout(error) => {
            ("gave up waiting for a lock or an older transaction".to_owned(), Critical)
        }
        Rejected(error) => (format!("PostgreSQL refused: {error}"), Critical),
        SessionLost(error) => (format!("interrupted: the server {error}"), Critical),
        Unknown(error) => (format!("unknown: the server {error}"), Critical),
    };
    Cell { text, severity }
}

/// Builds the outcome of an interrupted run from the number of targets that PostgreSQL shows as done.
pub fn recovered(done: usize, total: usize, nouns: &Nouns<'_>) -> Outcome {
    let kind = match done {
        all if all == total => EventKind::Succeeded,
        0 => EventKind::Failed,
        _ => EventKind::Partial,
    };
    let Nouns { one, many, done: past } = nouns;
    let subject = match done {
        0 => format!("No {one} is"),
        1 => format!("1 {one} is"),
        some => format!("{some} {many} are"),
    };
    let of = if done == total { String::new() } else { format!(", of {total}") };
    Outcome::new(kind, format!("{subject} {past}{of}. {INTERRUPTED}"))
}
