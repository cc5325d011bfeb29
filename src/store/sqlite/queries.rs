//! Reading runs: one, a list, the orphans, the overdue, and the audit of them all. Nothing here writes.

use super::connection::{DbError, DbResult};
use super::process_lock::Instance;
use crate::model::{Run, RunEvent, RunId, RunRequest};
use crate::store::hash_chain::{ChainAudit, Entry, EventRow, RunRow, TextRow};
use crate::store::{ChainReport, Filter, RunPage};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Default length of a list.
const PAGE: usize = 50;

/// A value that JSON writes as one word: a state, a platform's name.
pub(super) fn word(value: &impl Serialize) -> DbResult<String> {
    let value = serde_json::to_value(value)?;
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| DbError::Message("a value in it has an unexpected form".into()))
}

pub(super) fn from_word<T: DeserializeOwned>(word: String) -> DbResult<T> {
    Ok(serde_json::from_value(serde_json::Value::String(word))?)
}

pub(super) fn get(connection: &Connection, id: RunId) -> DbResult<Option<Run>> {
    let row = connection
        .prepare_cached(
            "SELECT id, version, state, request, opened_at, changed_at, deadline FROM runs WHERE id = ?1",
        )?
        .query_row([id], raw_run)
        .optional()?;
    let Some(row) = row.map(run_row).transpose()? else { return Ok(None) };
    let request: RunRequest = serde_json::from_str(&row.request)?;
    let events = events_of(connection, id)?;
    Ok(Some(Run {
        id: row.id,
        version: row.version,
        state: row.state,
        request,
        opened_at: row.opened_at,
        changed_at: row.changed_at,
        deadline: row.deadline,
        events,
    }))
}

type RawRun = (i64, i64, String, String, i64, i64, Option<i64>);

fn raw_run(row: &Row<'_>) -> rusqlite::Result<RawRun> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn run_row((id, version, state, request, opened_at, changed_at, deadline): RawRun) -> DbResult<RunRow> {
    Ok(RunRow {
        id,
        version,
        state: from_word(state)?,
        request,
        opened_at: Timestamp::from_microsecond(opened_at)?,
        changed_at: Timestamp::from_microsecond(changed_at)?,
        deadline: deadline.map(Timestamp::from_microsecond).transpose()?,
    })
}

fn events_of(connection: &Connection, run: RunId) -> DbResult<Vec<RunEvent>> {
    let mut statement =
        connection.prepare_cached("SELECT seq, bytes FROM events WHERE run = ?1 ORDER BY seq")?;
    let rows = statement.query_map([run], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut events = Vec::new();
    for row in rows {
        let (seq, bytes) = row?;
        let entry: Entry = serde_json::from_str(&bytes)?;
        let texts = texts_of(connection, seq)?.into_iter().map(|text| (text.name, text.text)).collect();
        events.push(RunEvent {
            seq,
            at: entry.at,
            kind: entry.kind,
            by: entry.by,
            facts: entry.facts,
            texts,
            state: entry.state,
        });
    }
    Ok(events)
}

fn texts_of(connection: &Connection, seq: i64) -> DbResult<Vec<TextRow>> {
    let mut statement =
        connection.prepare_cached("SELECT name, key, text FROM event_texts WHERE seq = ?1")?;
    let texts = statement
        .query_map([seq], |row| Ok(TextRow { name: row.get(0)?, key: row.get(1)?, text: row.get(2)? }))?;
    Ok(texts.collect::<Result<_, _>>()?)
}

fn all(connection: &Connection, ids: Vec<RunId>) -> DbResult<Vec<Run>> {
    let runs = ids.into_iter().filter_map(|id| get(connection, id).transpose());
    runs.collect()
}

/// Newest first. What SQL can filter it filters; `find` is compared here, since SQLite knows only ASCII's capitals.
pub(super) fn list(connection: &Connection, filter: &Filter) -> DbResult<RunPage> {
    let states = filter.states.iter().map(word).collect::<DbResult<Vec<_>>>()?;
    let find = filter.find.as_ref().map(|find| find.to_lowercase());
    let limit = if filter.limit == 0 { PAGE } else { filter.limit };
    let mut statement = connection.prepare_cached(
        "SELECT id, CASE WHEN :find THEN request END FROM runs
          WHERE (:environment IS NULL OR environment = :environment)
            AND (:who IS NULL OR requester = :who)
            AND (:command IS NULL OR command = :command)
            AND (:since IS NULL OR opened_at >= :since)
            AND (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
            AND (:reads OR risk <> 'read')
            AND (NOT :break_glass OR break_glass)
          ORDER BY id DESC",
    )?;
    let mut rows = statement.query(named_params! {
        ":environment": filter.environment,
        ":who": filter.who,
        ":command": filter.command,
        ":since": filter.since.map(Timestamp::as_microsecond),
        ":states": serde_json::to_string(&states)?,
        ":reads": filter.reads,
        ":break_glass": filter.break_glass,
        ":find": find.is_some(),
    })?;
    let (mut ids, mut total) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let id: RunId = row.get(0)?;
        if let Some(find) = &find
            && !mentions(connection, id, row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?, find)?
        {
            continue;
        }
        total += 1;
        if ids.len() < limit {
            ids.push(id);
        }
    }
    Ok(RunPage { runs: all(connection, ids)?, total })
}

/// True if the run's command, arguments or texts contain `find`, which is in lower case. "kill 4711" matches as typed.
fn mentions(connection: &Connection, run: RunId, json: &str, find: &str) -> DbResult<bool> {
    #[derive(serde::Deserialize)]
    struct SearchedRequest {
        command: String,
        arguments: BTreeMap<String, String>,
    }
    let request: SearchedRequest = serde_json::from_str(json)?;
    let words: Vec<String> =
        std::iter::once(request.command).chain(request.arguments.into_values()).collect();
    if words.join(" ").to_lowercase().contains(find) {
        return Ok(true);
    }
    let mut statement = connection.prepare_cached(
        "SELECT text FROM events JOIN event_texts ON event_texts.seq = events.seq WHERE events.run = ?1",
    )?;
    let mut rows = statement.query([run])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text.to_lowercase().contains(find) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Approved and running runs whose process is gone, oldest first.
pub(super) fn orphans(connection: &Connection, instance: &Instance) -> DbResult<Vec<Run>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, coalesce(owner, '') FROM runs WHERE state IN ('approved', 'running') ORDER BY id",
    )?;
    let owned = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let owned = owned.collect::<Result<Vec<(RunId, String)>, _>>()?;
    let mut living = BTreeMap::new();
    let mut orphans = Vec::new();
    for (id, owner) in owned {
        let lives = match living.get(&owner) {
            Some(lives) => *lives,
            None => {
                let unreadable = |_| DbError::Message("its instances' locks can't be read".into());
                let lives = instance.lives(&owner).map_err(unreadable)?;
                living.insert(owner, lives);
                lives
            }
        };
        if !lives {
            orphans.push(id);
        }
    }
    all(connection, orphans)
}

/// Runs whose deadline has passed, oldest first.
pub(super) fn overdue(connection: &Connection, now: Timestamp) -> DbResult<Vec<Run>> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM runs WHERE state IN ('pending', 'approved') AND deadline <= ?1 ORDER BY id",
    )?;
    let ids = statement.query_map([now.as_microsecond()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    all(connection, ids)
}

/// True if an open run names that owner.
pub(super) fn owns_open_run(connection: &Connection, owner: &str) -> DbResult<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM runs
                WHERE state IN ('pending', 'approved', 'running') AND owner = ?1)";
    Ok(connection.query_row(sql, [owner], |row| row.get(0))?)
}

/// Checks all events and runs against each other.
pub(super) fn verify(connection: &Connection) -> DbResult<ChainReport> {
    let mut audit = ChainAudit::default();
    let mut text_count = 0;
    let mut statement = connection.prepare("SELECT seq, run, bytes, hash FROM events ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        let texts = texts_of(connection, seq)?;
        text_count += texts.len() as i64;
        audit.event(EventRow { seq, run: row.get(1)?, bytes: row.get(2)?, hash: row.get(3)?, texts });
    }
    let texts: i64 = connection.query_row("SELECT count(*) FROM event_texts", [], |row| row.get(0))?;
    if texts != text_count {
        audit.fault("there are texts of events that don't exist");
    }
    let mut statement = connection.prepare(
        "SELECT id, version, state, request, opened_at, changed_at, deadline FROM runs ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let raw = raw_run(row)?;
        let id = raw.0;
        match run_row(raw) {
            Ok(row) => audit.run(row),
            Err(_) => audit.fault(format!("run {id}: its row can't be read")),
        }
    }
    Ok(audit.finish())
}
