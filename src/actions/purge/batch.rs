//! One batch: a transaction that locks the table's name, tests that it is still the table that was shown, deletes, and commits
//! only if that is no more than may go.

use super::work::PurgeSpec;
use crate::postgres::{AccessMode, DedicatedSession, QueryError, Transaction};
use crate::sql::parameters;
use std::time::{Duration, Instant};

/// What one batch did.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The last key that was looked at.
    pub last: Option<String>,
    pub looked: i64,
    pub gone: i64,
}

/// Why a batch did nothing, or may have.
#[derive(Debug)]
pub(super) enum BatchError {
    /// The name, the column or the key is another now.
    Changed(&'static str),
    ReadOnly,
    /// More rows than may go.
    Grown,
    Refused(QueryError),
    /// It took as long as a batch may.
    TooSlow,
    /// A lock or a deadlock: the same may work in a moment.
    Busy(QueryError),
    /// The connection was lost; `true`: while it committed.
    Lost(QueryError, bool),
}

/// A batch to be tried.
pub(super) struct BatchAttempt<'a> {
    pub worker: &'a DedicatedSession,
    pub work: &'a PurgeSpec,
    pub after: Option<&'a str>,
    /// Rows.
    pub size: u32,
    /// How many rows may go.
    pub left: i64,
}

impl BatchAttempt<'_> {
    pub async fn run(&self) -> Result<Batch, BatchError> {
        let limit = self.worker.statement_timeout();
        let began = Instant::now();
        let hindered = |why: QueryError| hindrance(why, (began.elapsed(), limit));
        let transaction = self.worker.begin(AccessMode::Write, limit).await.map_err(hindered)?;
        let batch = match self.delete(&transaction).await {
            Ok(batch) if batch.gone > self.left => Err(BatchError::Grown),
            Ok(batch) => Ok(batch),
            Err(BatchAbort::QueryResult(why)) => Err(hindered(why)),
            Err(BatchAbort::PlanFacts(hindrance)) => Err(hindrance),
        };
        match batch {
            Ok(batch) => match transaction.commit().await {
                Ok(()) => Ok(batch),
                Err(why) if why.is_final() => Err(hindered(why)),
                Err(why) => Err(BatchError::Lost(why, true)),
            },
            Err(hindrance) => {
                transaction.roll_back().await;
                Err(hindrance)
            }
        }
    }

    async fn delete(&self, transaction: &Transaction<'_>) -> Result<Batch, BatchAbort> {
        let work = self.work;
        // From here on nobody can rename, replace or alter it.
        transaction.run(&format!("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE", work.relation), &[]).await?;
        let key = work.key.as_ref();
        let (key, key_kind) = (key.map(|key| key.name.as_str()), key.map(|key| key.kind.as_str()));
        let (kind, guard) = (work.kind.word(), include_str!("guard.sql"));
        let rows = transaction
            .ask(guard, &[&work.relation, &work.oid, &work.column, &kind, &key, &key_kind])
            .await?;
        let Some(row) = rows.first() else { return Err(BatchAbort::PlanFacts(BatchError::Changed("table"))) };
        for (name, what) in [("same", "table"), ("same_column", "column"), ("same_key", "primary key")] {
            if !row.get::<_, bool>(name) {
                return Err(BatchAbort::PlanFacts(BatchError::Changed(what)));
            }
        }
        if row.get("read_only") {
            return Err(BatchAbort::PlanFacts(BatchError::ReadOnly));
        }
        let values = work.values(self.after);
        let rows = transaction.ask(&work.batch(self.after, self.size), &parameters(&values)).await?;
        let number = |name: &str| rows.first().map_or(0, |row| row.get::<_, i64>(name));
        let last = rows.first().and_then(|row| row.get("last"));
        Ok(Batch { last, looked: number("looked"), gone: number("gone") })
    }
}

enum BatchAbort {
    PlanFacts(BatchError),
    QueryResult(QueryError),
}

impl From<QueryError> for BatchAbort {
    fn from(why: QueryError) -> BatchAbort {
        BatchAbort::QueryResult(why)
    }
}

fn hindrance(why: QueryError, (took, limit): (Duration, Duration)) -> BatchError {
    match &why {
        QueryError::Refused { code, .. } => match code.as_str() {
            // 55P03 lock not available, 40P01 deadlock, 40001 serialization failure
            "55P03" | "40P01" | "40001" => BatchError::Busy(why),
            // 42P01 undefined table, 3F000 schema
            "42P01" | "3F000" if took < limit => BatchError::Changed("table"),
            // Sooner it was somebody who cancelled it.
            "57014" if took >= limit.mul_f64(0.9) => BatchError::TooSlow,
            // 25006 read-only transaction
            "25006" => BatchError::ReadOnly,
            code if code.starts_with("57P") => BatchError::Lost(why, false),
            _ => BatchError::Refused(why),
        },
        QueryError::TimedOut(_) | QueryError::Lost => BatchError::Lost(why, false),
    }
}
