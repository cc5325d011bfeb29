//! What isn't a run: the freeze, the tokens of buttons, the copies of cards, the bindings of conversations.

use super::connection::{Fault, Worked};
use super::process_lock::Instance;
use super::queries::{from_word, word};
use crate::message::Place;
use crate::store::{CardCopy, CopyKind, Frozen, RunId, Token};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

pub(super) fn frozen(connection: &Connection) -> Worked<Option<Frozen>> {
    let value: Option<String> = connection
        .prepare_cached("SELECT value FROM settings WHERE name = 'frozen'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(value.map(|value| serde_json::from_str(&value)).transpose()?)
}

pub(super) fn set_frozen(transaction: &Transaction<'_>, frozen: Option<&Frozen>) -> Worked<()> {
    transaction.execute("DELETE FROM settings WHERE name = 'frozen'", [])?;
    if let Some(frozen) = frozen {
        let value = serde_json::to_string(frozen)?;
        transaction.execute("INSERT INTO settings (name, value) VALUES ('frozen', ?1)", [value])?;
    }
    Ok(())
}

/// A token that exists is refused: what a button stands for never changes.
pub(super) fn put_tokens(transaction: &Transaction<'_>, tokens: &[Token]) -> Worked<()> {
    let mut statement = transaction
        .prepare_cached("INSERT INTO tokens (token, meaning, place, made_at) VALUES (?1, ?2, ?3, ?4)")?;
    let now = Timestamp::now().as_microsecond();
    for token in tokens {
        let meaning = serde_json::to_string(&token.meaning)?;
        let place = serde_json::to_string(&token.place)?;
        statement.execute(params![token.token, meaning, place, now])?;
    }
    Ok(())
}

pub(super) fn token(connection: &Connection, token: &str) -> Worked<Option<Token>> {
    let row: Option<(String, String)> = connection
        .prepare_cached("SELECT meaning, place FROM tokens WHERE token = ?1")?
        .query_row([token], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((meaning, place)) = row else { return Ok(None) };
    let (meaning, place) = (serde_json::from_str(&meaning)?, serde_json::from_str(&place)?);
    Ok(Some(Token { token: token.to_owned(), meaning, place }))
}

pub(super) fn add_copy(
    transaction: &Transaction<'_>,
    run: RunId,
    (place, kind): (&Place, CopyKind),
) -> Worked<i64> {
    let (place, kind) = (serde_json::to_string(place)?, word(&kind)?);
    let sql = "INSERT INTO copies (run, place, kind) VALUES (?1, ?2, ?3)";
    transaction.execute(sql, params![run, place, kind])?;
    Ok(transaction.last_insert_rowid())
}

pub(super) fn update_copy(transaction: &Transaction<'_>, copy: &CardCopy) -> Worked<()> {
    let changed = transaction.execute(
        "UPDATE copies SET place = ?3, message = ?4, shown = ?5, lost = ?6, claimed = 0
          WHERE id = ?1 AND run = ?2",
        params![copy.id, copy.run, serde_json::to_string(&copy.place)?, copy.message, copy.shown, copy.lost],
    )?;
    match changed {
        0 => Err(Fault::Said(format!("there is no copy {} of run {}", copy.id, copy.run))),
        _ => Ok(()),
    }
}

pub(super) fn copy(connection: &Connection, id: i64) -> Worked<Option<CardCopy>> {
    Ok(copies(connection, "copies.id = ?1", &[&id])?.pop())
}

pub(super) fn copies_of(connection: &Connection, run: RunId) -> Worked<Vec<CardCopy>> {
    copies(connection, "run = ?1", &[&run])
}

/// True if nobody else has the copy: it is this instance's until then.
pub(super) fn claim_copy(
    connection: &Connection,
    id: i64,
    until: Timestamp,
    instance: &Instance,
) -> Worked<bool> {
    let claim: Option<(i64, String)> = connection
        .prepare_cached("SELECT claimed, claimer FROM copies WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((claimed, claimer)) = claim else { return Ok(false) };
    if holds(claimed, &claimer, instance)? {
        return Ok(false);
    }
    let claim = "UPDATE copies SET claimed = ?2, claimer = ?3 WHERE id = ?1";
    connection.execute(claim, params![id, until.as_microsecond(), instance.id])?;
    Ok(true)
}

/// Ends a claim of that instance's.
pub(super) fn give_back(connection: &Connection, id: i64, claimer: &str) -> Worked<()> {
    let claim = "UPDATE copies SET claimed = 0 WHERE id = ?1 AND claimer = ?2";
    connection.execute(claim, params![id, claimer])?;
    Ok(())
}

/// Whether a claim still counts: its time isn't over, and its instance lives.
fn holds(claimed: i64, claimer: &str, instance: &Instance) -> Worked<bool> {
    let unreadable = |_| Fault::Said("its instances' locks can't be read".into());
    Ok(claimed > Timestamp::now().as_microsecond() && instance.lives(claimer).map_err(unreadable)?)
}

pub(super) fn copies_behind(connection: &Connection, instance: &Instance) -> Worked<Vec<CardCopy>> {
    let mut free = Vec::new();
    for copy in copies(connection, "lost = 0 AND shown < version", &[])? {
        let sql = "SELECT claimed, claimer FROM copies WHERE id = ?1";
        let (claimed, claimer): (i64, String) =
            connection.prepare_cached(sql)?.query_row([copy.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if !holds(claimed, &claimer, instance)? {
            free.push(copy);
        }
    }
    Ok(free)
}

/// Copies by id. `condition` is one of the three above, never a value.
fn copies(
    connection: &Connection,
    condition: &'static str,
    values: &[&dyn rusqlite::ToSql],
) -> Worked<Vec<CardCopy>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT copies.id, run, place, message, shown, lost, kind
           FROM copies JOIN runs ON runs.id = run WHERE {condition} ORDER BY copies.id"
    ))?;
    let mut rows = statement.query(values)?;
    let mut copies = Vec::new();
    while let Some(row) = rows.next()? {
        copies.push(copy_row(row)?);
    }
    Ok(copies)
}

fn copy_row(row: &Row<'_>) -> Worked<CardCopy> {
    let place: String = row.get(2)?;
    Ok(CardCopy {
        id: row.get(0)?,
        run: row.get(1)?,
        place: serde_json::from_str(&place)?,
        message: row.get(3)?,
        shown: row.get(4)?,
        lost: row.get(5)?,
        kind: from_word(row.get(6)?)?,
    })
}

pub(super) fn bind(transaction: &Transaction<'_>, place: &Place, environment: &str) -> Worked<()> {
    transaction.execute(
        "INSERT INTO bindings (platform, workspace, conversation, environment) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET environment = excluded.environment",
        params![word(&place.platform)?, place.workspace, place.conversation, environment],
    )?;
    Ok(())
}

pub(super) fn binding(connection: &Connection, place: &Place) -> Worked<Option<String>> {
    let environment = connection
        .prepare_cached(
            "SELECT environment FROM bindings WHERE platform = ?1 AND workspace = ?2 AND conversation = ?3",
        )?
        .query_row(params![word(&place.platform)?, place.workspace, place.conversation], |row| row.get(0))
        .optional()?;
    Ok(environment)
}
