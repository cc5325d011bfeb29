//! Queries whose rows several commands need. A built-in command binds the rows as JSON, by the query's name:
//! `json_to_recordset(:'connection_limits'::json)`.

/// The name and the SQL of each: one SELECT without parameters, which runs on the target beforehand.
pub const SHARED_QUERIES: [(&str, &str); 5] = [
    ("connection_limits", include_str!("connection_limits.sql")),
    ("counters", include_str!("counters.sql")),
    ("standbys", include_str!("standbys.sql")),
    ("wal_position", include_str!("wal_position.sql")),
    ("walsenders", include_str!("walsenders.sql")),
];

/// The statement of a shared query: one row with its rows as JSON.
pub fn shared_query(name: &str) -> Option<String> {
    let (_, sql) = SHARED_QUERIES.iter().find(|(known, _)| *known == name)?;
    Some(format!("SELECT COALESCE(json_agg(x), '[]')::text FROM (\n{sql}\n) x"))
}
