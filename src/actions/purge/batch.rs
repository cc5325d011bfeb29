//! One batch: a transaction that locks the table's name, tests that it is still the table that was shown, deletes, and commits
//! only if that is no more than may go.

use super::work::Work;
use crate::postgres::{Access, Alone, QueryError, Transaction};
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
pub(super) enum Hindrance {
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
pub(super) struct Try<'a> {
    pub worker: &'a Alone,
    pub work: &'a Work,
    pub after: Option<&'a str>,
    /// Rows.
    pub size: u32,
    /// How many rows may go.
    pub left: i64,
}

impl Try<'_> {
    pub async fn run(&self) -> Result<Batch, Hindrance> {
        let limit = self.worker.statement_timeout();
        let began = Instant::now();
        let hindered = |why: QueryError| hindrance(why, (began.elapsed(), limit));
        let transaction = self.worker.begin(Access::Write, limit).await.map_err(hindered)?;
        let batch = match self.delete(&transaction).await {
            Ok(batch) if batch.gone > self.left => Err(Hindrance::Grown),
            Ok(batch) => Ok(batch),
            Err(Stop::Asked(why)) => Err(hindered(why)),
            Err(Stop::Found(hindrance)) => Err(hindrance),
        };
        match batch {
            Ok(batch) => match transaction.commit().await {
                Ok(()) => Ok(batch),
                Err(why) if why.is_final() => Err(hindered(why)),
                Err(why) => Err(Hindrance::Lost(why, true)),
            },
            Err(hindrance) => {
                transaction.roll_back().await;
                Err(hindrance)
            }
        }
    }

    async fn delete(&self, transaction: &Transaction<'_>) -> Result<Batch, Stop> {
        let work = self.work;
        // From here on nobody can rename, replace or alter it.
        transaction.run(&format!("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE", work.relation), &[]).await?;
        let key = work.key.as_ref();
        let (key, key_kind) = (key.map(|key| key.name.as_str()), key.map(|key| key.kind.as_str()));
        let (kind, guard) = (work.kind.word(), include_str!("guard.sql"));
        let rows = transaction
            .ask(guard, &[&work.relation, &work.oid, &work.column, &kind, &key, &key_kind])
            .await?;
        let Some(row) = rows.first() else { return Err(Stop::Found(Hindrance::Changed("table"))) };
        for (name, what) in [("same", "table"), ("same_column", "column"), ("same_key", "primary key")] {
            if !row.get::<_, bool>(name) {
                return Err(Stop::Found(Hindrance::Changed(what)));
            }
        }
        if row.get("read_only") {
            return Err(Stop::Found(Hindrance::ReadOnly));
        }
        let values = work.values(self.after);
        let rows = transaction.ask(&work.batch(self.after, self.size), &parameters(&values)).await?;
        let number = |name: &str| rows.first().map_or(0, |row| row.get::<_, i64>(name));
        let last = rows.first().and_then(|row| row.get("last"));
        Ok(Batch { last, looked: number("looked"), gone: number("gone") })
    }
}

enum Stop {
    Found(Hindrance),
    Asked(QueryError),
}

impl From<QueryError> for Stop {
    fn from(why: QueryError) -> Stop {
        Stop::Asked(why)
    }
}

fn hindrance(why: QueryError, (took, limit): (Duration, Duration)) -> Hindrance {
    match &why {
        QueryError::Refused { code, .. } => match code.as_str() {
            // 55P03 lock not available, 40P01 deadlock, 40001 serialization failure
            "55P03" | "40P01" | "40001" => Hindrance::Busy(why),
            // 42P01 undefined table, 3F000 schema
            "42P01" | "3F000" if took < limit => Hindrance::Changed("table"),
            // Sooner it was somebody who cancelled it.
            "57014" if took >= limit.mul_f64(0.9) => Hindrance::TooSlow,
            // 25006 read-only transaction
            "25006" => Hindrance::ReadOnly,
            code if code.starts_with("57P") => Hindrance::Lost(why, false),
            _ => Hindrance::Refused(why),
        },
        QueryError::TimedOut(_) | QueryError::Lost => Hindrance::Lost(why, false),
    }
}
