//! Figures of the servers.

use super::connection::DbResult;
use super::rows;
use crate::store::Figure;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

pub(super) fn put(transaction: &Transaction<'_>, figures: &[Figure], limit: Timestamp) -> DbResult<()> {
    let sql = "INSERT INTO figures (environment, server, name, at, value) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
    for Figure { environment, server, name, at, value } in figures {
        rows::execute(transaction, sql, params![environment, server, name, at.as_microsecond(), value])?;
    }
    rows::execute(transaction, "DELETE FROM figures WHERE at < ?1", [limit.as_microsecond()])?;
    Ok(())
}

pub(super) fn of_server(
    connection: &Connection,
    environment: &str,
    server: &str,
    name: &str,
) -> DbResult<Vec<(Timestamp, f64)>> {
    let sql =
        "SELECT at, value FROM figures WHERE environment = ?1 AND server = ?2 AND name = ?3 ORDER BY at";
    rows::all(connection, sql, [environment, server, name], |row| {
        Ok((Timestamp::from_microsecond(row.get(0)?)?, row.get(1)?))
    })
}
