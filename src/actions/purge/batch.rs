//! One batch: a transaction that locks the table's name, tests that it is still the table that was shown, deletes, and commits
//! only if that is no more than may be deleted.

use super::spec::PurgeSpec;
use crate::postgres::{AccessMode, DedicatedSession, QueryError, Transaction};
use crate::sql::parameters;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The last key that was read.
    pub last: Option<String>,
    /// Rows.
    pub read: i64,
    /// Rows.
    pub deleted: i64,
}

/// The reason why a batch did nothing, or may have done nothing.
#[derive(Debug)]
pub(super) enum BatchError {
    /// The name, the column or the key is another now.
    Changed(&'static str),
    ReadOnly,
    TooManyRows,
    Rejected(QueryError),
    TooSlow,
    /// A lock or a deadlock: the same may work in a moment.
    Busy(QueryError),
    /// The connection was lost; `true`: while it committed.
    Lost(QueryError, bool),
}

pub(super) struct BatchAttempt<'a> {
    pub worker: &'a DedicatedSession,
    pub spec: &'a PurgeSpec,
    pub after: Option<&'a str>,
    /// Rows.
    pub size: u32,
    /// Number of rows that may still be deleted.
    pub remaining: i64,
}

impl BatchAttempt<'_> {
    /// Deletes the batch in a transaction of its own.
    pub async fn run(&self) -> Result<Batch, BatchError> {
        let limit = self.worker.statement_timeout();
        let began = Instant::now();
        let classified = |error: QueryError| classify(error, began.elapsed(), limit);
        let transaction = self.worker.begin(AccessMode::Write, limit).await.map_err(classified)?;
        match self.delete(&transaction, &classified).await {
            Ok(batch) => match transaction.commit().await {
                Ok(()) => Ok(batch),
                Err(error) if error.is_final() => Err(classified(error)),
                Err(error) => Err(BatchError::Lost(error, true)),
            },
            Err(error) => {
                transaction.roll_back().await;
                Err(error)
            }
        }
    }

    async fn delete(
        &self,
        transaction: &Transaction<'_>,
        classified: &(impl Fn(QueryError) -> BatchError + Sync),
    ) -> Result<Batch, BatchError> {
        let spec = self.spec;
        // From here on no session can rename, replace or alter it.
        let lock = format!("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE", spec.relation);
        transaction.execute(&lock, &[]).await.map_err(classified)?;
        let key = spec.key.as_ref().map(|key| key.name.as_str());
        let key_type = spec.key.as_ref().map(|key| key.kind.as_str());
        let column_type = spec.kind.name();
        let values: [&(dyn ToSql + Sync); 6] =
            [&spec.relation, &spec.oid, &spec.column, &column_type, &key, &key_type];
        let rows = transaction.query(include_str!("guard.sql"), &values).await.map_err(classified)?;
        let row = rows.first().ok_or(BatchError::Changed("table"))?;
        for (name, what) in [("same", "table"), ("same_column", "column"), ("same_key", "primary key")] {
            if !row.get::<_, bool>(name) {
                return Err(BatchError::Changed(what));
            }
        }
        if row.get("read_only") {
            return Err(BatchError::ReadOnly);
        }
        let values = spec.values(self.after);
        let sql = spec.batch_sql(self.after, self.size);
        let rows = transaction.query(&sql, &parameters(&values)).await.map_err(classified)?;
        let number = |name: &str| rows.first().map_or(0, |row| row.get::<_, i64>(name));
        let last = rows.first().and_then(|row| row.get("last"));
        let batch = Batch { last, read: number("read"), deleted: number("deleted") };
        if batch.deleted > self.remaining { Err(BatchError::TooManyRows) } else { Ok(batch) }
    }
}

fn classify(error: QueryError, took: Duration, limit: Duration) -> BatchError {
    match &error {
        QueryError::Refused { code, .. } => match code.as_str() {
            // 55P03 lock not available, 40P01 deadlock, 40001 serialization failure
            "55P03" | "40P01" | "40001" => BatchError::Busy(error),
            // 42P01 undefined table, 3F000 schema
            "42P01" | "3F000" if took < limit => BatchError::Changed("table"),
            // Sooner it was somebody who cancelled it.
            "57014" if took >= limit.mul_f64(0.9) => BatchError::TooSlow,
            // 25006 read-only transaction
            "25006" => BatchError::ReadOnly,
            code if code.starts_with("57P") => BatchError::Lost(error, false),
            _ => BatchError::Rejected(error),
        },
        QueryError::TimedOut(_) | QueryError::Lost => BatchError::Lost(error, false),
    }
}
