//! The rows that a purge deletes, and one batch of them. A batch is a transaction: it locks the table, checks that it is still the one
//! on the card, deletes, and commits only within the limit. In its SQL names come quoted from the server, and values are bound as text
//! and cast, so that no setting of a session changes their meaning.

use super::execute::PurgeProgress;
use crate::actions::support::max_change;
use crate::model::as_text;
use crate::postgres::{AccessMode, ColumnError, DedicatedSession, QueryError};
use crate::sql::parameters;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TimeType {
    Date,
    /// Without time zone: taken as UTC, which is what Prisma writes.
    Timestamp,
    Timestamptz,
}

impl TimeType {
    /// The type's name, for a cast.
    pub fn name(self) -> &'static str {
        match self {
            TimeType::Date => "date",
            TimeType::Timestamp => "timestamp",
            TimeType::Timestamptz => "timestamptz",
        }
    }

    /// Note on the time zone of a time of this type, to be appended to that time.
    pub fn zone_note(self) -> &'static str {
        match self {
            TimeType::Date => " (a day in UTC)",
            TimeType::Timestamp => " (the column has no time zone: taken as UTC)",
            TimeType::Timestamptz => "",
        }
    }

    /// SQL for now minus $1, as text of this type. The interval is in seconds, since days have 23 to 25 hours in some time zones.
    pub fn cutoff_sql(self) -> String {
        let (format, offset) = match self {
            TimeType::Date => ("YYYY-MM-DD", ""),
            TimeType::Timestamp => ("YYYY-MM-DD HH24:MI:SS.US", ""),
            TimeType::Timestamptz => ("YYYY-MM-DD HH24:MI:SS.US", "+00"),
        };
        format!(
            "SELECT to_char((clock_timestamp() - $1::text::interval) AT TIME ZONE 'UTC', '{format}') || '{offset}'"
        )
    }
}

/// A primary key of one column, in whose order the table is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyColumn {
    /// Quoted.
    #[serde(rename = "key")]
    pub name: String,
    /// The type, as `format_type()` prints it.
    #[serde(rename = "key_type")]
    pub type_name: String,
}

/// The rows to be deleted: the target of a purge's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PurgeSpec {
    /// Quoted, with its schema.
    pub relation: String,
    #[serde(with = "as_text")]
    pub oid: i64,
    /// Quoted.
    pub column: String,
    #[serde(rename = "type")]
    pub time_type: TimeType,
    pub cutoff: String,
    #[serde(flatten)]
    pub key: Option<KeyColumn>,
    /// The first batch starts after this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_key: Option<String>,
    /// Number of rows that the card shows.
    #[serde(rename = "rows", with = "as_text")]
    pub shown_rows: i64,
}

impl PurgeSpec {
    /// The most rows that may be deleted: a few may have grown old since the card was shown.
    pub fn max_rows(&self) -> i64 {
        max_change(self.shown_rows)
    }

    /// "created_at < $1", and the key to start after as $2. Operators have their schema, for [`PurgeSpec::batch_sql`].
    fn condition(&self, after_key: Option<&str>) -> String {
        let is_old = format!("t.{} OPERATOR(pg_catalog.<) $1::text::{}", self.column, self.time_type.name());
        match self.key.as_ref().filter(|_| after_key.is_some()) {
            Some(key) => {
                format!("{is_old} AND t.{} OPERATOR(pg_catalog.>) $2::text::{}", key.name, key.type_name)
            }
            None => is_old,
        }
    }

    /// The parameters of [`PurgeSpec::count_sql`] and [`PurgeSpec::batch_sql`].
    pub fn sql_values(&self, after_key: Option<&str>) -> Vec<Option<String>> {
        let after_key = after_key.filter(|_| self.key.is_some()).map(str::to_owned);
        std::iter::once(self.cutoff.clone()).chain(after_key).map(Some).collect()
    }

    /// Counts the rows, with the oldest and the newest.
    pub fn count_sql(&self) -> String {
        format!(
            "SELECT count(*) AS rows, min(t.{0})::text AS oldest, max(t.{0})::text AS newest,
                    pg_total_relation_size({3}) AS bytes
             FROM ONLY {1} AS t WHERE {2}",
            self.column,
            self.relation,
            self.condition(self.after_key.as_deref()),
            self.oid
        )
    }

    /// Deletes one batch, and returns the last key read, and the numbers of rows read and deleted. With a key each batch reads the
    /// next `size` rows, so that every batch takes about as long, even if few rows are old; else it searches for `size` old ones. The size
    /// is part of the text, since PostgreSQL plans badly for an unknown LIMIT. The triggers that it fires are an application's, with
    /// `public` on their search_path: functions and operators have their schema here. Types and tables are looked up by name alone.
    fn batch_sql(&self, after_key: Option<&str>, size: u32) -> String {
        let relation = &self.relation;
        let condition = self.condition(after_key);
        let Some(KeyColumn { name, type_name }) = &self.key else {
            return format!(
                "WITH slice AS (SELECT t.ctid AS at FROM ONLY {relation} AS t WHERE {condition} LIMIT {size}),
                      deleted AS (DELETE FROM ONLY {relation} AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT at FROM slice))
                                  AND {condition} RETURNING 1)
                 SELECT NULL::text AS last, (SELECT pg_catalog.count(*) FROM slice) AS read,
                        (SELECT pg_catalog.count(*) FROM deleted) AS deleted"
            );
        };
        let begin = after_key.map_or(String::new(), |_| {
            format!("WHERE t.{name} OPERATOR(pg_catalog.>) $2::text::{type_name}")
        });
        format!(
            "WITH slice AS (SELECT t.{name} AS key FROM ONLY {relation} AS t {begin} ORDER BY t.{name} LIMIT {size}),
                  edge AS (SELECT key FROM slice ORDER BY key DESC LIMIT 1),
                  deleted AS (DELETE FROM ONLY {relation} AS t WHERE {condition}
                              AND t.{name} OPERATOR(pg_catalog.<=) (SELECT key FROM edge) RETURNING 1)
             SELECT (SELECT key::text FROM edge) AS last, (SELECT pg_catalog.count(*) FROM slice) AS read,
                    (SELECT pg_catalog.count(*) FROM deleted) AS deleted"
        )
    }
    /// Deletes the next batch, of at most `size` rows, in a transaction of its own.
    pub async fn delete_batch(
        &self,
        session: &DedicatedSession,
        progress: &PurgeProgress,
        size: u32,
    ) -> Result<Batch, BatchError> {
        let (last_key, limit) = (progress.last_key.as_deref(), session.statement_timeout());
        let began = Instant::now();
        let to_batch_error = |error| classify(error, began.elapsed(), limit);
        let transaction = session.begin(AccessMode::Write, limit).await.map_err(to_batch_error)?;
        let deletion = async {
            // From here on no session can rename, replace or alter it.
            let lock = format!("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE", self.relation);
            transaction.execute(&lock, &[]).await.map_err(to_batch_error)?;
            let key = self.key.as_ref().map(|key| key.name.as_str());
            let key_type = self.key.as_ref().map(|key| key.type_name.as_str());
            let column_type = self.time_type.name();
            let values: [&(dyn ToSql + Sync); 6] =
                [&self.relation, &self.oid, &self.column, &column_type, &key, &key_type];
            let rows = transaction.query(include_str!("guard.sql"), &values).await.map_err(to_batch_error)?;
            let row = rows.first().ok_or(BatchError::Changed("table"))?;
            for (name, what) in [
                ("same", "table"),
                ("same_column", "column"),
                ("same_key", "primary key"),
                ("same_rows", "row security"),
                ("same_rules", "set of rules"),
            ] {
                if !row.is_true(name) {
                    return Err(BatchError::Changed(what));
                }
            }
            let (sql, values) = (self.batch_sql(last_key, size), self.sql_values(last_key));
            let rows =
                transaction.query_with_public(&sql, &parameters(&values)).await.map_err(to_batch_error)?;
            let row = rows.first().ok_or(BatchError::Changed("table"))?;
            let batch = Batch {
                last_key: row.get("last")?,
                rows_read: row.get("read")?,
                rows_deleted: row.get("deleted")?,
            };
            let is_too_many = progress.deleted + batch.rows_deleted > self.max_rows();
            if is_too_many { Err(BatchError::TooManyRows) } else { Ok(batch) }
        };
        match deletion.await {
            Ok(batch) => match transaction.commit().await {
                Ok(()) => Ok(batch),
                Err(error) if error.is_final() => Err(to_batch_error(error)),
                Err(error) => Err(BatchError::Lost { error, during_commit: true }),
            },
            Err(error) => {
                transaction.roll_back().await;
                Err(error)
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The last key that was read.
    pub last_key: Option<String>,
    pub rows_read: i64,
    pub rows_deleted: i64,
}

/// The reason why a batch failed; with `Lost` it may have been committed.
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
    Lost {
        error: QueryError,
        during_commit: bool,
    },
}

impl From<ColumnError> for BatchError {
    fn from(error: ColumnError) -> BatchError {
        BatchError::Rejected(error.into())
    }
}

fn classify(error: QueryError, elapsed: Duration, limit: Duration) -> BatchError {
    match &error {
        QueryError::Refused { code, .. } => match code.as_str() {
            // 55P03 lock not available, 40P01 deadlock, 40001 serialization failure
            "55P03" | "40P01" | "40001" => BatchError::Busy(error),
            // 42P01 undefined table, 3F000 schema
            "42P01" | "3F000" if elapsed < limit => BatchError::Changed("table"),
            // Earlier than that, a person cancelled it.
            "57014" if elapsed >= limit.mul_f64(0.9) => BatchError::TooSlow,
            // 25006 read-only transaction
            "25006" => BatchError::ReadOnly,
            code if code.starts_with("57P") => BatchError::Lost { error, during_commit: false },
            _ => BatchError::Rejected(error),
        },
        QueryError::Unreadable(_) => BatchError::Rejected(error),
        QueryError::TimedOut(_) | QueryError::Lost => BatchError::Lost { error, during_commit: false },
    }
}
