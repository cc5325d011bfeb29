//! The environments that conversations are bound to; and the freeze, one row of `settings` for every replica.

use super::connection::DbResult;
use super::rows::{self, word};
use crate::model::{ActiveFreeze, Conversation};
use rusqlite::{Connection, Transaction, params};

pub(super) fn bind(transaction: &Transaction<'_>, place: &Conversation, environment: &str) -> DbResult<()> {
    let sql = "INSERT INTO bindings (platform, workspace, conversation, environment) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET environment = excluded.environment";
    let values = params![word(&place.platform)?, place.workspace, place.conversation, environment];
    rows::execute(transaction, sql, values)?;
    Ok(())
}

pub(super) fn binding(connection: &Connection, place: &Conversation) -> DbResult<Option<String>> {
    let sql = "SELECT environment FROM bindings WHERE platform = ?1 AND workspace = ?2 AND conversation = ?3";
    let values = params![word(&place.platform)?, place.workspace, place.conversation];
    rows::first(connection, sql, values, rows::value)
}

pub(super) fn frozen(connection: &Connection) -> DbResult<Option<ActiveFreeze>> {
    let sql = "SELECT value FROM settings WHERE name = 'frozen'";
    rows::first(connection, sql, [], |row| rows::json(row, 0))
}

pub(super) fn set_frozen(transaction: &Transaction<'_>, frozen: Option<&ActiveFreeze>) -> DbResult<()> {
    rows::execute(transaction, "DELETE FROM settings WHERE name = 'frozen'", [])?;
    if let Some(frozen) = frozen {
        let value = serde_json::to_string(frozen)?;
        rows::execute(transaction, "INSERT INTO settings (name, value) VALUES ('frozen', ?1)", [value])?;
    }
    Ok(())
}
