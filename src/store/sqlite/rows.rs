//! Statements with their rows, and the columns that hold JSON, a word or a time.

use super::connection::{DbError, DbResult};
use rusqlite::types::FromSql;
use rusqlite::{CachedStatement, Connection, Params, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Prepares a statement, or takes the one that is kept.
pub(super) fn prepare<'a>(connection: &'a Connection, sql: &str) -> DbResult<CachedStatement<'a>> {
    #[cfg(test)]
    super::tests::note_statement(sql);
    Ok(connection.prepare_cached(sql)?)
}

/// Runs a statement that returns no rows, and returns the number of rows it changed.
pub(super) fn execute(connection: &Connection, sql: &str, values: impl Params) -> DbResult<usize> {
    Ok(prepare(connection, sql)?.execute(values)?)
}

pub(super) fn for_each(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> DbResult<()>,
) -> DbResult<()> {
    prepare(connection, sql)?.query_and_then(values, read)?.collect()
}

pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> DbResult<T>,
) -> DbResult<Vec<T>> {
    prepare(connection, sql)?.query_and_then(values, read)?.collect()
}

pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> DbResult<T>,
) -> DbResult<Option<T>> {
    prepare(connection, sql)?.query_and_then(values, read)?.next().transpose()
}

/// The value of a row's only column.
pub(super) fn value<T: FromSql>(row: &Row<'_>) -> DbResult<T> {
    Ok(row.get(0)?)
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> DbResult<T> {
    Ok(serde_json::from_str(&row.get::<_, String>(column)?)?)
}

/// Reads what [`to_json_word`] wrote.
pub(super) fn from_json_word<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> DbResult<T> {
    Ok(serde_json::from_value(serde_json::Value::String(row.get(column)?))?)
}

/// A value that JSON writes as one word: a state, a platform's name.
pub(super) fn to_json_word(value: &impl Serialize) -> DbResult<String> {
    match serde_json::to_value(value)? {
        serde_json::Value::String(word) => Ok(word),
        _ => Err(DbError::Message("a stored value has an unexpected form".into())),
    }
}
