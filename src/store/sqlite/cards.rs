//! Cards: adding, claiming and updating them, and the cards that are behind their runs. The tokens of buttons, and the environments
//! that conversations are bound to.

use super::connection::{DbError, DbResult};
use super::process_lock::Instance;
use super::queries::ACTIVE;
use super::rows::{self, to_json_word};
use super::runs::is_executing;
use crate::model::{ButtonToken, Card, CardKind, Conversation, RunId};
use crate::store::Binding;
use crate::store::compensation::{Committed, Compensation};
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};
use std::time::Duration;

pub(super) fn add(
    transaction: &Transaction<'_>,
    run: RunId,
    conversation: &Conversation,
    kind: CardKind,
) -> DbResult<i64> {
    let sql = "INSERT INTO cards (run, place, kind) VALUES (?1, ?2, ?3)";
    rows::execute(
        transaction,
        sql,
        params![run, serde_json::to_string(conversation)?, to_json_word(&kind)?],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// Updates a card that no other instance has claimed, and releases the claim.
pub(super) fn update(transaction: &Transaction<'_>, card: &Card, instance: &Instance) -> DbResult<bool> {
    let sql =
        "UPDATE cards SET place = ?3, message = ?4, shown_version = ?5, abandoned = ?6, claimed_until = 0
                WHERE id = ?1 AND run = ?2 AND claimed_by IN ('', ?7)";
    let conversation = serde_json::to_string(&card.conversation)?;
    let values = params![
        card.id,
        card.run,
        conversation,
        card.message,
        card.shown_version,
        card.abandoned,
        instance.id,
    ];
    let is_updated = rows::execute(transaction, sql, values)? > 0;
    if !is_updated && get(transaction, card.id)?.is_none_or(|known| known.run != card.run) {
        return Err(DbError::Message(format!("there is no card {} of run {}", card.id, card.run)));
    }
    Ok(is_updated)
}

pub(super) fn get(connection: &Connection, id: i64) -> DbResult<Option<Card>> {
    Ok(select(connection, "cards.id = ?1", Some(id))?.pop().map(|row| row.card))
}

pub(super) fn of_run(connection: &Connection, run: RunId) -> DbResult<Vec<Card>> {
    Ok(select(connection, "run = ?1", Some(run))?.into_iter().map(|row| row.card).collect())
}

/// Claims a card for this instance for that long. False if another instance has claimed it.
pub(super) fn claim(
    transaction: &Transaction<'_>,
    id: i64,
    period: Duration,
    instance: &Instance,
) -> DbResult<Committed<bool>> {
    let card = select(transaction, "cards.id = ?1", Some(id))?.pop();
    if card.map_or(Ok(true), |row| row.is_claimed(instance))? {
        return Ok(false.into());
    }
    let sql = "UPDATE cards SET claimed_until = ?2, claimed_by = ?3 WHERE id = ?1";
    let until = Timestamp::now().checked_add(period)?;
    rows::execute(transaction, sql, params![id, until.as_microsecond(), instance.id])?;
    let compensation = Compensation::Claim { card: id, claimed_by: instance.id.clone() };
    Ok(Committed { value: true, compensation: Some(compensation) })
}

pub(super) fn release_claim(transaction: &Transaction<'_>, id: i64, claimed_by: &str) -> DbResult<()> {
    let sql = "UPDATE cards SET claimed_until = 0 WHERE id = ?1 AND claimed_by = ?2";
    rows::execute(transaction, sql, params![id, claimed_by])?;
    Ok(())
}

/// Cards that show less than their run's version and that no living process has claimed.
pub(super) fn outdated(connection: &Connection, instance: &Instance) -> DbResult<Vec<Card>> {
    let mut free = Vec::new();
    for row in select(connection, "is_outdated <> 0", None)? {
        if !row.is_claimed(instance)? {
            free.push(row.card);
        }
    }
    Ok(free)
}

struct CardRow {
    card: Card,
    claimed_until: i64,
    claimed_by: String,
}

impl CardRow {
    /// True while the claim is in force: it has not expired, and its process is alive.
    fn is_claimed(&self, instance: &Instance) -> DbResult<bool> {
        Ok(self.claimed_until > Timestamp::now().as_microsecond() && instance.is_alive(&self.claimed_by)?)
    }
}

/// Cards by id. `condition` is one of those above, with the id in it, if any.
fn select(connection: &Connection, condition: &'static str, id: Option<i64>) -> DbResult<Vec<CardRow>> {
    let sql = format!(
        "SELECT cards.id, run, place, message, shown_version, abandoned, kind, claimed_until, claimed_by
           FROM cards JOIN runs ON runs.id = run WHERE {condition} ORDER BY cards.id"
    );
    rows::all(connection, &sql, rusqlite::params_from_iter(id), from_row)
}

fn from_row(row: &Row<'_>) -> DbResult<CardRow> {
    let card = Card {
        id: row.get(0)?,
        run: row.get(1)?,
        conversation: rows::json(row, 2)?,
        message: row.get(3)?,
        shown_version: row.get(4)?,
        abandoned: row.get(5)?,
        kind: rows::from_json_word(row, 6)?,
    };
    Ok(CardRow { card, claimed_until: row.get(7)?, claimed_by: row.get(8)? })
}

/// Stores new tokens. An existing token is refused: the purpose of a button never changes.
pub(super) fn put_tokens(transaction: &Transaction<'_>, tokens: &[ButtonToken]) -> DbResult<()> {
    let sql = "INSERT INTO tokens (token, purpose, place, created_at) VALUES (?1, ?2, ?3, ?4)";
    let now = Timestamp::now().as_microsecond();
    for token in tokens {
        let purpose = serde_json::to_string(&token.purpose)?;
        let conversation = serde_json::to_string(&token.conversation)?;
        rows::execute(transaction, sql, params![token.token, purpose, conversation, now])?;
    }
    Ok(())
}

pub(super) fn token(connection: &Connection, token: String) -> DbResult<Option<ButtonToken>> {
    let sql = "SELECT token, purpose, place FROM tokens WHERE token = ?1";
    rows::first(connection, sql, [token], |row| {
        Ok(ButtonToken {
            token: row.get(0)?,
            purpose: rows::json(row, 1)?,
            conversation: rows::json(row, 2)?,
        })
    })
}

pub(super) fn take_token(transaction: &Transaction<'_>, token: &str) -> DbResult<bool> {
    Ok(rows::execute(transaction, "DELETE FROM tokens WHERE token = ?1", params![token])? == 1)
}

/// Binds a conversation; false if the condition isn't met.
pub(super) fn bind(transaction: &Transaction<'_>, binding: &Binding, instance: &str) -> DbResult<bool> {
    let Binding { conversation, environment, while_executing } = binding;
    if !is_executing(transaction, *while_executing, instance)? {
        return Ok(false);
    }
    let sql = "INSERT INTO bindings (platform, workspace, conversation, environment) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET environment = excluded.environment";
    let values =
        params![to_json_word(&conversation.platform)?, conversation.workspace, conversation.id, environment];
    rows::execute(transaction, sql, values)?;
    Ok(true)
}

pub(super) fn conversation_environment(
    connection: &Connection,
    conversation: &Conversation,
) -> DbResult<Option<String>> {
    let sql = "SELECT environment FROM bindings WHERE platform = ?1 AND workspace = ?2 AND conversation = ?3";
    let values = params![to_json_word(&conversation.platform)?, conversation.workspace, conversation.id];
    rows::first(connection, sql, values, rows::value)
}

/// Tokens and cards that one call removes at most, of each.
const MOST_REMOVED: usize = 500;

/// Removes tokens, and cards of closed runs, from before `limit`, and returns their number. What an open run's card shows stays.
pub(super) fn remove_old(transaction: &Transaction<'_>, limit: Timestamp) -> DbResult<usize> {
    let limit = limit.as_microsecond();
    let tokens = format!(
        "DELETE FROM tokens WHERE token IN
            (SELECT token FROM tokens
              WHERE created_at < ?1
                AND NOT EXISTS (SELECT 1 FROM runs WHERE id = purpose ->> '$.run' AND {ACTIVE})
              ORDER BY created_at LIMIT {MOST_REMOVED})"
    );
    // The newest run from before the limit ends the range, so that younger cards aren't looked at.
    let cards = format!(
        "DELETE FROM cards WHERE id IN
            (SELECT cards.id FROM cards JOIN runs ON runs.id = run
              WHERE run <= (SELECT id FROM runs WHERE opened_at < ?1 ORDER BY opened_at DESC LIMIT 1)
                AND changed_at < ?1 AND NOT {ACTIVE}
              ORDER BY run LIMIT {MOST_REMOVED})"
    );
    Ok(rows::execute(transaction, &tokens, [limit])? + rows::execute(transaction, &cards, [limit])?)
}
