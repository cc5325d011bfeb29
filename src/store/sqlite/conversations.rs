//! The environments that conversations are bound to.

use super::connection::DbResult;
use super::queries::word;
use crate::model::Conversation;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

pub(super) fn bind(transaction: &Transaction<'_>, place: &Conversation, environment: &str) -> DbResult<()> {
    transaction.execute(
        "INSERT INTO bindings (platform, workspace, conversation, environment) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET environment = excluded.environment",
        params![word(&place.platform)?, place.workspace, place.conversation, environment],
    )?;
    Ok(())
}

pub(super) fn binding(connection: &Connection, place: &Conversation) -> DbResult<Option<String>> {
    let environment = connection
        .prepare_cached(
            "SELECT environment FROM bindings WHERE platform = ?1 AND workspace = ?2 AND conversation = ?3",
        )?
        .query_row(params![word(&place.platform)?, place.workspace, place.conversation], |row| row.get(0))
        .optional()?;
    Ok(environment)
}
