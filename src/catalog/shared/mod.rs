//! Queries whose rows several commands need. A built-in command binds the rows as JSON, by the query's name:
//! `json_to_recordset(:'connection_limits'::json)`.

use super::bind::{bind_names, parameter_order};

/// The shared query that is read once of each server: all sections of an answer judge by the same sessions.
pub const IDLE_SESSIONS: &str = "idle_sessions";

/// The name and the SQL of each: one SELECT, which runs on the target beforehand.
pub const SHARED_QUERIES: [(&str, &str); 11] = [
    ("connection_limits", include_str!("connection_limits.sql")),
    ("counters", include_str!("counters.sql")),
    (IDLE_SESSIONS, include_str!("idle_sessions.sql")),
    ("invalid_indexes", include_str!("invalid_indexes.sql")),
    ("migration_history", include_str!("migration_history.sql")),
    ("migration_status", include_str!("migration_status.sql")),
    ("replay", include_str!("replay.sql")),
    ("sequences", include_str!("sequences.sql")),
    ("standbys", include_str!("standbys.sql")),
    ("wal_position", include_str!("wal_position.sql")),
    ("walsenders", include_str!("walsenders.sql")),
];

/// A shared query, bound.
pub struct SharedQuery {
    /// One row with the query's rows as JSON.
    pub sql: String,
    /// The names behind `$1`, `$2` …, which the program fills in.
    pub parameters: Vec<String>,
}

/// The statement of a shared query.
pub fn shared_query(name: &str) -> Option<SharedQuery> {
    let (_, sql) = SHARED_QUERIES.iter().find(|(known, _)| *known == name)?;
    let bound = bind_names(sql).ok()?;
    let sql = format!("SELECT COALESCE(json_agg(x), '[]')::text FROM (\n{}\n) x", bound.sql);
    Some(SharedQuery { sql, parameters: parameter_order(&bound.names) })
}
