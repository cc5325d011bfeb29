//! Cards: adding, claiming and updating them, and the cards that are behind their runs.

use super::connection::{DbError, DbResult};
use super::process_lock::Instance;
use super::queries::{from_word, word};
use crate::model::{Card, CardKind, Conversation, RunId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

pub(super) fn add(
    transaction: &Transaction<'_>,
    run: RunId,
    place: &Conversation,
    kind: CardKind,
) -> DbResult<i64> {
    let (place, kind) = (serde_json::to_string(place)?, word(&kind)?);
    let sql = "INSERT INTO cards (run, place, kind) VALUES (?1, ?2, ?3)";
    transaction.execute(sql, params![run, place, kind])?;
    Ok(transaction.last_insert_rowid())
}

pub(super) fn update(transaction: &Transaction<'_>, card: &Card) -> DbResult<()> {
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
    if changed == 0 {
        return Err(DbError::Message(format!("there is no card {} of run {}", card.id, card.run)));
    }
    Ok(())
}

pub(super) fn get(connection: &Connection, id: i64) -> DbResult<Option<Card>> {
    Ok(select(connection, "cards.id = ?1", &[&id])?.pop())
}

pub(super) fn of_run(connection: &Connection, run: RunId) -> DbResult<Vec<Card>> {
    select(connection, "run = ?1", &[&run])
}

/// Claims a card for this instance until then. False if another instance has claimed it.
pub(super) fn claim(
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
    let update = "UPDATE cards SET claimed_until = ?2, claimed_by = ?3 WHERE id = ?1";
    connection.execute(update, params![id, until.as_microsecond(), instance.id])?;
    Ok(true)
}

/// Releases a claim of that instance.
pub(super) fn release_claim(connection: &Connection, id: i64, claimed_by: &str) -> DbResult<()> {
    let update = "UPDATE cards SET claimed_until = 0 WHERE id = ?1 AND claimed_by = ?2";
    connection.execute(update, params![id, claimed_by])?;
    Ok(())
}

/// True while a claim is in force: it has not expired, and its process is alive.
fn is_claimed(claimed_until: i64, claimed_by: &str, instance: &Instance) -> DbResult<bool> {
    let unreadable = |_| DbError::Message("its instances' locks can't be read".into());
    Ok(claimed_until > Timestamp::now().as_microsecond() && instance.lives(claimed_by).map_err(unreadable)?)
}

/// Cards that show less than their run's version and that no living process has claimed.
pub(super) fn behind(connection: &Connection, instance: &Instance) -> DbResult<Vec<Card>> {
    let mut free = Vec::new();
    for card in select(connection, "abandoned = 0 AND shown_version < version", &[])? {
        let sql = "SELECT claimed_until, claimed_by FROM cards WHERE id = ?1";
        let (claimed_until, claimed_by): (i64, String) =
            connection.prepare_cached(sql)?.query_row([card.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if !is_claimed(claimed_until, &claimed_by, instance)? {
            free.push(card);
        }
    }
    Ok(free)
}

/// Cards by id. `condition` is one of the three above, never a value.
fn select(
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
        cards.push(from_row(row)?);
    }
    Ok(cards)
}

fn from_row(row: &Row<'_>) -> DbResult<Card> {
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
