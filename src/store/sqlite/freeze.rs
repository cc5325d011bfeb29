//! The freeze: one row of `settings`, for every replica.

use super::connection::DbResult;
use crate::model::ActiveFreeze;
use rusqlite::{Connection, OptionalExtension, Transaction};

pub(super) fn frozen(connection: &Connection) -> DbResult<Option<ActiveFreeze>> {
    let value: Option<String> = connection
        .prepare_cached("SELECT value FROM settings WHERE name = 'frozen'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(value.map(|value| serde_json::from_str(&value)).transpose()?)
}

pub(super) fn set_frozen(transaction: &Transaction<'_>, frozen: Option<&ActiveFreeze>) -> DbResult<()> {
    transaction.execute("DELETE FROM settings WHERE name = 'frozen'", [])?;
    if let Some(frozen) = frozen {
        let value = serde_json::to_string(frozen)?;
        transaction.execute("INSERT INTO settings (name, value) VALUES ('frozen', ?1)", [value])?;
    }
    Ok(())
}
