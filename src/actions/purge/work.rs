//! What a purge deletes, as its plan fixed it, and the SQL for that: names come quoted from the server, values are bound as
//! text and cast, so that no setting of a session changes what they mean.

use std::collections::BTreeMap;

/// A column's own kind of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeType {
    Date,
    /// Without time zone: taken as UTC, which is what Prisma writes.
    Timestamp,
    Timestamptz,
}

impl TimeType {
    pub fn of(word: &str) -> Option<TimeType> {
        [TimeType::Date, TimeType::Timestamp, TimeType::Timestamptz]
            .into_iter()
            .find(|kind| kind.word() == word)
    }

    /// The type's name, for a cast.
    pub fn word(self) -> &'static str {
        match self {
            TimeType::Date => "date",
            TimeType::Timestamp => "timestamp",
            TimeType::Timestamptz => "timestamptz",
        }
    }

    /// What a time of it means, behind that time.
    pub fn zone(self) -> &'static str {
        match self {
            TimeType::Date => " (a day in UTC)",
            TimeType::Timestamp => " (the column has no time zone: taken as UTC)",
            TimeType::Timestamptz => "",
        }
    }

    /// The moment $1 ago in the column's own kind of time. The interval is in seconds: a day of 25 hours would make it mean
    /// something else in some time zones.
    pub fn cutoff(self) -> &'static str {
        match self {
            TimeType::Date => {
                "SELECT to_char((clock_timestamp() - $1::text::interval) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
            }
            TimeType::Timestamp => {
                "SELECT to_char((clock_timestamp() - $1::text::interval) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
            }
            TimeType::Timestamptz => {
                "SELECT to_char((clock_timestamp() - $1::text::interval) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'"
            }
        }
    }
}

/// A primary key of one column, which the table is walked along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// Quoted.
    pub name: String,
    /// As `format_type` has it.
    pub kind: String,
}

/// What is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PurgeSpec {
    /// Quoted, with its schema.
    pub relation: String,
    pub oid: i64,
    /// Quoted.
    pub column: String,
    pub kind: TimeType,
    pub cutoff: String,
    pub key: Option<KeyColumn>,
    /// The walk begins behind this key.
    pub after: Option<String>,
    /// How many rows the card shows.
    pub rows: i64,
}

impl PurgeSpec {
    pub fn identity(&self) -> BTreeMap<String, String> {
        let mut identity: BTreeMap<String, String> = [
            ("relation", self.relation.clone()),
            ("oid", self.oid.to_string()),
            ("column", self.column.clone()),
            ("type", self.kind.word().to_owned()),
            ("cutoff", self.cutoff.clone()),
            ("rows", self.rows.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(key) = &self.key {
            identity.insert("key".to_owned(), key.name.clone());
            identity.insert("key_type".to_owned(), key.kind.clone());
        }
        if let Some(after) = &self.after {
            identity.insert("after_key".to_owned(), after.clone());
        }
        identity
    }

    /// `None` if it isn't the identity of a purge.
    pub fn of(identity: &BTreeMap<String, String>) -> Option<PurgeSpec> {
        let get = |name: &str| identity.get(name).cloned();
        let key = get("key").zip(get("key_type")).map(|(name, kind)| KeyColumn { name, kind });
        Some(PurgeSpec {
            relation: get("relation")?,
            oid: get("oid")?.parse().ok()?,
            column: get("column")?,
            kind: TimeType::of(&get("type")?)?,
            cutoff: get("cutoff")?,
            after: get("after_key").filter(|_| key.is_some()),
            key,
            rows: get("rows")?.parse().ok()?,
        })
    }

    /// A fifth more than was shown may have come since.
    pub fn at_most(&self) -> i64 {
        self.rows.saturating_add(self.rows / 5)
    }

    /// "created_at < $1", and the key's beginning as $2 where there is one.
    fn doomed(&self, alias: &str, after: Option<&str>) -> String {
        let mut words = format!("{alias}.{} < $1::text::{}", self.column, self.kind.word());
        if let (Some(key), Some(_)) = (&self.key, after) {
            words = format!("{words} AND {alias}.{} > $2::text::{}", key.name, key.kind);
        }
        words
    }

    /// The values for what [`PurgeSpec::count`] and [`PurgeSpec::batch`] say.
    pub fn values(&self, after: Option<&str>) -> Vec<Option<String>> {
        let after = after.filter(|_| self.key.is_some()).map(str::to_owned);
        std::iter::once(self.cutoff.clone()).chain(after).map(Some).collect()
    }

    /// How many, the oldest and the newest.
    pub fn count(&self) -> String {
        format!(
            "SELECT count(*) AS rows, min(t.{0})::text AS oldest, max(t.{0})::text AS newest,
                    pg_total_relation_size({3}) AS bytes
             FROM ONLY {1} AS t WHERE {2}",
            self.column,
            self.relation,
            self.doomed("t", self.after.as_deref()),
            self.oid
        )
    }

    /// One batch: the last key looked at, how many rows were looked at, and how many are gone. With a key each batch looks at
    /// the next `size` rows, so that none takes longer than another, however few are old; else it looks for `size` old ones.
    /// The size is part of the text, since PostgreSQL plans badly for an unknown LIMIT.
    pub fn batch(&self, after: Option<&str>, size: u32) -> String {
        let (relation, doomed) = (&self.relation, self.doomed("t", after));
        let Some(KeyColumn { name, kind }) = &self.key else {
            return format!(
                "WITH slice AS (SELECT t.ctid AS at FROM ONLY {relation} AS t WHERE {doomed} LIMIT {size}),
                      gone AS (DELETE FROM ONLY {relation} AS t WHERE t.ctid = ANY (ARRAY(SELECT at FROM slice)) AND {doomed} RETURNING 1)
                 SELECT NULL::text AS last, (SELECT count(*) FROM slice) AS looked, (SELECT count(*) FROM gone) AS gone"
            );
        };
        let begin = after.map_or(String::new(), |_| format!("WHERE t.{name} > $2::text::{kind}"));
        format!(
            "WITH slice AS (SELECT t.{name} AS key FROM ONLY {relation} AS t {begin} ORDER BY t.{name} LIMIT {size}),
                  edge AS (SELECT key FROM slice ORDER BY key DESC LIMIT 1),
                  gone AS (DELETE FROM ONLY {relation} AS t WHERE {doomed} AND t.{name} <= (SELECT key FROM edge) RETURNING 1)
             SELECT (SELECT key::text FROM edge) AS last, (SELECT count(*) FROM slice) AS looked, (SELECT count(*) FROM gone) AS gone"
        )
    }
}
