//! Rate limits of the chat platforms, among the settings: a time for each name.

use super::connection::DbResult;
use super::rows;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

/// Begins the names of these settings.
const PREFIX: &str = "rate_limit ";

pub(super) fn set(transaction: &Transaction<'_>, name: &str, until: Timestamp) -> DbResult<()> {
    let passed = "DELETE FROM settings WHERE name LIKE ?1 || '%' AND CAST(value AS INTEGER) <= ?2";
    rows::execute(transaction, passed, params![PREFIX, Timestamp::now().as_microsecond()])?;
    let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2)
               ON CONFLICT DO UPDATE SET value = excluded.value";
    let value = until.as_microsecond().to_string();
    rows::execute(transaction, sql, params![format!("{PREFIX}{name}"), value])?;
    Ok(())
}

pub(super) fn all(connection: &Connection) -> DbResult<Vec<(String, Timestamp)>> {
    let sql = "SELECT name, CAST(value AS INTEGER) FROM settings WHERE name LIKE ?1 || '%'";
    rows::all(connection, sql, [PREFIX], |row| {
        let name: String = row.get(0)?;
        Ok((name[PREFIX.len()..].to_owned(), Timestamp::from_microsecond(row.get(1)?)?))
    })
}
