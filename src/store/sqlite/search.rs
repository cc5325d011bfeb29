//! The index of the search: the trigrams of each event's texts, and of a run's command and arguments, in lower case as Rust has
//! it. A candidate is compared with the texts themselves by whoever asked (`lists`).

use super::connection::DbResult;
use super::rows;
use crate::model::{RunId, RunRequest};
use rusqlite::{Connection, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};

/// Bits of an event's position in its run; the run's number is above them.
const POSITION_BITS: u32 = 20;

/// Characters of a search that the index can answer.
pub(super) const SHORTEST: usize = 3;

/// Trigrams of a search that are looked up; the comparison with the texts decides anyway.
const MOST_TRIGRAMS: usize = 32;

/// An event in the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub run: RunId,
    /// From 1.
    pub version: i64,
}

impl Position {
    fn rowid(self) -> i64 {
        first_rowid(self.run).saturating_add(self.version)
    }
}

/// The smallest rowid of a run's events.
pub(super) fn first_rowid(run: RunId) -> i64 {
    run.saturating_mul(1 << POSITION_BITS)
}

/// The searched words of a request, as they were typed: "kill 4711".
pub(super) fn request_words(command: &str, arguments: &BTreeMap<String, String>) -> String {
    let words: Vec<&str> = std::iter::once(command).chain(arguments.values().map(String::as_str)).collect();
    words.join(" ")
}

/// Everything of an event that is searched, in lower case. The same texts give the same result, so that they can be taken out again.
fn document<'a>(request: Option<&RunRequest>, texts: impl Iterator<Item = &'a String>) -> String {
    let request = request.map(|request| request_words(&request.command, &request.arguments).to_lowercase());
    let all: Vec<String> = request.into_iter().chain(texts.map(|text| text.to_lowercase())).collect();
    all.join("\n")
}

/// Adds an event to the index; a run's first one with its request.
pub(super) fn add(
    transaction: &Transaction<'_>,
    position: Position,
    request: Option<&RunRequest>,
    texts: &BTreeMap<String, String>,
) -> DbResult<()> {
    let document = document(request, texts.values());
    if !document.is_empty() {
        let sql = "INSERT INTO search (rowid, text) VALUES (?1, ?2)";
        rows::execute(transaction, sql, params![position.rowid(), document])?;
    }
    Ok(())
}

/// Takes an event out of the index, whose texts are still the ones that were added. An event of a program from before the index isn't
/// in it, and SQLite takes out nothing that isn't there.
fn remove(
    transaction: &Transaction<'_>,
    position: Position,
    request: Option<&RunRequest>,
    texts: &BTreeMap<String, String>,
) -> DbResult<()> {
    let document = document(request, texts.values());
    let known = "SELECT rowid FROM search WHERE rowid = ?1";
    if rows::first(transaction, known, [position.rowid()], rows::value::<i64>)?.is_some() {
        let sql = "INSERT INTO search (search, rowid, text) VALUES ('delete', ?1, ?2)";
        rows::execute(transaction, sql, params![position.rowid(), document])?;
    }
    Ok(())
}

/// Takes the texts of that name of a run out of the index. Their rows are still there.
pub(super) fn remove_texts(transaction: &Transaction<'_>, run: RunId, name: &str) -> DbResult<()> {
    let request = rows::first(transaction, "SELECT request FROM runs WHERE id = ?1", [run], |row| {
        rows::json::<RunRequest>(row, 0)
    })?;
    for (index, mut texts) in texts_of_events(transaction, run)?.into_iter().enumerate() {
        let position = Position { run, version: index as i64 + 1 };
        let request = request.as_ref().filter(|_| index == 0);
        if texts.contains_key(name) {
            remove(transaction, position, request, &texts)?;
            texts.remove(name);
            add(transaction, position, request, &texts)?;
        }
    }
    Ok(())
}

/// The texts of each event of a run, oldest event first.
fn texts_of_events(connection: &Connection, run: RunId) -> DbResult<Vec<BTreeMap<String, String>>> {
    let sql = "SELECT seq, name, text FROM events LEFT JOIN event_texts USING (seq)
                WHERE run = ?1 ORDER BY seq, name";
    let (mut events, mut last) = (Vec::new(), None);
    rows::for_each(connection, sql, [run], |row| {
        let seq: i64 = row.get(0)?;
        if last.replace(seq) != Some(seq) {
            events.push(BTreeMap::new());
        }
        if let (Some(texts), Some(name)) = (events.last_mut(), row.get::<_, Option<String>>(1)?) {
            texts.insert(name, row.get(2)?);
        }
        Ok(())
    })?;
    Ok(events)
}

/// Adds every run, for a file from before the index.
pub(super) fn add_all(transaction: &Transaction<'_>) -> DbResult<()> {
    rows::for_each(transaction, "SELECT id, request FROM runs ORDER BY id", [], |row| {
        let (run, request): (RunId, RunRequest) = (row.get(0)?, rows::json(row, 1)?);
        for (index, texts) in texts_of_events(transaction, run)?.into_iter().enumerate() {
            let position = Position { run, version: index as i64 + 1 };
            add(transaction, position, Some(&request).filter(|_| index == 0), &texts)?;
        }
        Ok(())
    })
}

/// The index's expression for a text in lower case; `None` if it is shorter than a trigram.
pub(super) fn expression(text: &str) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    let trigrams: BTreeSet<String> =
        characters.windows(SHORTEST).take(MOST_TRIGRAMS).map(|trigram| trigram.iter().collect()).collect();
    let quoted: Vec<String> =
        trigrams.iter().map(|trigram| format!("\"{}\"", trigram.replace('"', "\"\""))).collect();
    (!quoted.is_empty()).then(|| quoted.join(" "))
}
