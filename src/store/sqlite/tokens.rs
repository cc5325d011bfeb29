//! The tokens of buttons.

use super::connection::DbResult;
use crate::model::ButtonToken;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// Stores new tokens. An existing token is refused: the purpose of a button never changes.
pub(super) fn put(transaction: &Transaction<'_>, tokens: &[ButtonToken]) -> DbResult<()> {
    let mut statement = transaction
        .prepare_cached("INSERT INTO tokens (token, purpose, place, created_at) VALUES (?1, ?2, ?3, ?4)")?;
    let now = Timestamp::now().as_microsecond();
    for token in tokens {
        let purpose = serde_json::to_string(&token.purpose)?;
        let place = serde_json::to_string(&token.place)?;
        statement.execute(params![token.token, purpose, place, now])?;
    }
    Ok(())
}

pub(super) fn get(connection: &Connection, token: &str) -> DbResult<Option<ButtonToken>> {
    let row: Option<(String, String)> = connection
        .prepare_cached("SELECT purpose, place FROM tokens WHERE token = ?1")?
        .query_row([token], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((purpose, place)) = row else { return Ok(None) };
    let (purpose, place) = (serde_json::from_str(&purpose)?, serde_json::from_str(&place)?);
    Ok(Some(ButtonToken { token: token.to_owned(), purpose, place }))
}
