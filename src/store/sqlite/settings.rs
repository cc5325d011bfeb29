//! What isn't a run: the freeze, the tokens of buttons, the copies of cards, the bindings of conversations.

use super::connection::{DbError, DbResult};
use super::process_lock::Instance;
use super::queries::{from_word, word};
use crate::model::{ActiveFreeze, ButtonToken, Card, CardKind, Conversation, RunId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

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

/// A token that exists is refused: what a button stands for never changes.
pub(super) fn put_tokens(transaction: &Transaction<'_>, tokens: &[ButtonToken]) -> DbResult<()> {
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

pub(super) fn token(connection: &Connection, token: &str) -> DbResult<Option<ButtonToken>> {
    let row: Option<(String, String)> = connection
        .prepare_cached("SELECT purpose, place FROM tokens WHERE token = ?1")?
        .query_row([token], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((purpose, place)) = row else { return Ok(None) };
    let (purpose, place) = (serde_json::from_str(&purpose)?, serde_json::from_str(&place)?);
    Ok(Some(ButtonToken { token: token.to_owned(), purpose, place }))
}

pub(super) fn add_card(
    transaction: &Transaction<'_>,
    run: RunId,
    (place, kind): (&Conversation, CardKind),
) -> DbResult<i64> {
    let (place, kind) = (serde_json::to_string(place)?, word(&kind)?);
    let sql = "INSERT INTO cards (run, place, kind) VALUES (?1, ?2, ?3)";
    transaction.execute(sql, params![run, place, kind])?;
    Ok(transaction.last_insert_rowid())
}

pub(super) fn update_card(transaction: &Transaction<'_>, card: &Card) -> DbResult<()> {
    let changed = transaction.execute(
        "UPDATE cards SET place = ?3, message = ?4, shown_version = ?5, abandoned = ?6, claimed_until = 0
          WHERE id = ?1 AND run = ?2",
        params![
            card.id,
            card.run,
            serde_json::to_string(&card.place)?,
            card.message,
            card.shown_version,
            card.abandoned
        ],
    )?;
    match changed {
        0 => Err(DbError::Message(format!("there is no card {} of run {}", card.id, card.run))),
        _ => Ok(()),
    }
}

pub(super) fn card(connection: &Connection, id: i64) -> DbResult<Option<Card>> {
    Ok(cards(connection, "cards.id = ?1", &[&id])?.pop())
}

pub(super) fn cards_of(connection: &Connection, run: RunId) -> DbResult<Vec<Card>> {
    cards(connection, "run = ?1", &[&run])
}

/// True if nobody else has the copy: it is this instance's until then.
pub(super) fn claim_card(
    connection: &Connection,
    id: i64,
    until: Timestamp,
    instance: &Instance,
) -> DbResult<bool> {
    let claim: Option<(i64, String)> = connection
        .prepare_cached("SELECT claimed_until, claimed_by FROM cards WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((claimed_until, claimed_by)) = claim else { return Ok(false) };
    if is_claimed(claimed_until, &claimed_by, instance)? {
        return Ok(false);
    }
    let claim = "UPDATE cards SET claimed_until = ?2, claimed_by = ?3 WHERE id = ?1";
    connection.execute(claim, params![id, until.as_microsecond(), instance.id])?;
    Ok(true)
}

/// Ends a claim of that instance's.
pub(super) fn give_back(connection: &Connection, id: i64, claimed_by: &str) -> DbResult<()> {
    let claim = "UPDATE cards SET claimed_until = 0 WHERE id = ?1 AND claimed_by = ?2";
    connection.execute(claim, params![id, claimed_by])?;
    Ok(())
}

/// Whether a claim still counts: its time isn't over, and its instance lives.
fn is_claimed(claimed_until: i64, claimed_by: &str, instance: &Instance) -> DbResult<bool> {
    let unreadable = |_| DbError::Message("its instances' locks can't be read".into());
    Ok(claimed_until > Timestamp::now().as_microsecond() && instance.lives(claimed_by).map_err(unreadable)?)
}

pub(super) fn cards_behind(connection: &Connection, instance: &Instance) -> DbResult<Vec<Card>> {
    let mut free = Vec::new();
    for card in cards(connection, "abandoned = 0 AND shown_version < version", &[])? {
        let sql = "SELECT claimed_until, claimed_by FROM cards WHERE id = ?1";
        let (claimed_until, claimed_by): (i64, String) =
            connection.prepare_cached(sql)?.query_row([card.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if !is_claimed(claimed_until, &claimed_by, instance)? {
            free.push(card);
        }
    }
    Ok(free)
}

/// Copies by id. `condition` is one of the three above, never a value.
fn cards(
    connection: &Connection,
    condition: &'static str,
    values: &[&dyn rusqlite::ToSql],
) -> DbResult<Vec<Card>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT cards.id, run, place, message, shown_version, abandoned, kind
           FROM cards JOIN runs ON runs.id = run WHERE {condition} ORDER BY cards.id"
    ))?;
    let mut rows = statement.query(values)?;
    let mut cards = Vec::new();
    while let Some(row) = rows.next()? {
        cards.push(card_row(row)?);
    }
    Ok(cards)
}

fn card_row(row: &Row<'_>) -> DbResult<Card> {
    let place: String = row.get(2)?;
    Ok(Card {
        id: row.get(0)?,
        run: row.get(1)?,
        place: serde_json::from_str(&place)?,
        message: row.get(3)?,
        shown_version: row.get(4)?,
        abandoned: row.get(5)?,
        kind: from_word(row.get(6)?)?,
    })
}

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
