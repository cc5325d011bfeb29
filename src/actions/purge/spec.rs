//! The rows that a purge deletes, as its plan fixed them, and the SQL for that: names come quoted from the server, values are bound as
//! text and cast, so that no setting of a session changes their meaning.

use crate::actions::support::max_change;
use crate::model::as_text;
use serde::{Deserialize, Serialize};

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

    /// Explanation of a time of this type, to follow that time.
    pub fn zone(self) -> &'static str {
        match self {
            TimeType::Date => " (a day in UTC)",
            TimeType::Timestamp => " (the column has no time zone: taken as UTC)",
            TimeType::Timestamptz => "",
        }
    }

    /// SQL for the moment $1 ago as this type. The interval is in seconds: a day of 25 hours would make it mean something else in
    /// some time zones.
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
    /// As `format_type` has it.
    #[serde(rename = "key_type")]
    pub kind: String,
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
    pub kind: TimeType,
    pub cutoff: String,
    #[serde(flatten)]
    pub key: Option<KeyColumn>,
    /// The first batch begins behind this key.
    #[serde(rename = "after_key", default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Number of rows that the card shows.
    #[serde(with = "as_text")]
    pub rows: i64,
}

impl PurgeSpec {
    /// The most rows that may be deleted: a few may have grown old since the card was shown.
    pub fn max_rows(&self) -> i64 {
        max_change(self.rows)
    }

    /// "created_at < $1", and the key to begin behind as $2.
    fn condition(&self, after: Option<&str>) -> String {
        let old = format!("t.{} < $1::text::{}", self.column, self.kind.name());
        match self.key.as_ref().filter(|_| after.is_some()) {
            Some(key) => format!("{old} AND t.{} > $2::text::{}", key.name, key.kind),
            None => old,
        }
    }

    /// The parameters of [`PurgeSpec::count_sql`] and [`PurgeSpec::batch_sql`].
    pub fn values(&self, after: Option<&str>) -> Vec<Option<String>> {
        let after = after.filter(|_| self.key.is_some()).map(str::to_owned);
        std::iter::once(self.cutoff.clone()).chain(after).map(Some).collect()
    }

    /// Counts the rows, with the oldest and the newest.
    pub fn count_sql(&self) -> String {
        format!(
            "SELECT count(*) AS rows, min(t.{0})::text AS oldest, max(t.{0})::text AS newest,
                    pg_total_relation_size({3}) AS bytes
             FROM ONLY {1} AS t WHERE {2}",
            self.column,
            self.relation,
            self.condition(self.after.as_deref()),
            self.oid
        )
    }

    /// Deletes one batch, and returns the last key read, and the numbers of rows read and deleted. With a key each batch reads the
    /// next `size` rows, so that none takes longer than another, however few are old; else it searches for `size` old ones. The size
    /// is part of the text, since PostgreSQL plans badly for an unknown LIMIT.
    pub fn batch_sql(&self, after: Option<&str>, size: u32) -> String {
        let relation = &self.relation;
        let condition = self.condition(after);
        let Some(KeyColumn { name, kind }) = &self.key else {
            return format!(
                "WITH slice AS (SELECT t.ctid AS at FROM ONLY {relation} AS t WHERE {condition} LIMIT {size}),
                      deleted AS (DELETE FROM ONLY {relation} AS t WHERE t.ctid = ANY (ARRAY(SELECT at FROM slice)) AND {condition} RETURNING 1)
                 SELECT NULL::text AS last, (SELECT count(*) FROM slice) AS read, (SELECT count(*) FROM deleted) AS deleted"
            );
        };
        let begin = after.map_or(String::new(), |_| format!("WHERE t.{name} > $2::text::{kind}"));
        format!(
            "WITH slice AS (SELECT t.{name} AS key FROM ONLY {relation} AS t {begin} ORDER BY t.{name} LIMIT {size}),
                  edge AS (SELECT key FROM slice ORDER BY key DESC LIMIT 1),
                  deleted AS (DELETE FROM ONLY {relation} AS t WHERE {condition} AND t.{name} <= (SELECT key FROM edge) RETURNING 1)
             SELECT (SELECT key::text FROM edge) AS last, (SELECT count(*) FROM slice) AS read, (SELECT count(*) FROM deleted) AS deleted"
        )
    }
}
