//! Rate limits of the chat platforms: a time for each name.

use super::connection::DbResult;
use super::rows;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

pub(super) fn set(transaction: &Transaction<'_>, name: &str, until: Timestamp) -> DbResult<()> {
    let now = Timestamp::now().as_microsecond();
    rows::execute(transaction, "DELETE FROM rate_limits WHERE ends_at <= ?1", [now])?;
    let sql = "INSERT INTO rate_limits (name, ends_at) VALUES (?1, ?2)
               ON CONFLICT DO UPDATE SET ends_at = excluded.ends_at";
    rows::execute(transaction, sql, params![name, until.as_microsecond()])?;
    Ok(())
}

pub(super) fn all(connection: &Connection) -> DbResult<Vec<(String, Timestamp)>> {
    rows::all(connection, "SELECT name, ends_at FROM rate_limits", [], |row| {
        Ok((row.get(0)?, Timestamp::from_microsecond(row.get(1)?)?))
    })
}
