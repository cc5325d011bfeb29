//! Reading runs: by number, the orphans, the overdue, and the audit of them all. Nothing here writes.

use super::connection::{DbError, DbResult};
use super::process_lock::Instance;
use super::rows;
use crate::model::{Run, RunEvent, RunId};
use crate::store::ChainReport;
use crate::store::hash_chain::{AuditedEvent, ChainAudit, ChainedEvent, EventRow, RunRow, TextRow};
use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;

const RUNS: &str = "SELECT id, version, state, request, opened_at, changed_at, deadline FROM runs";

pub(super) fn get(connection: &Connection, id: RunId) -> DbResult<Option<Run>> {
    Ok(runs_of(connection, &[id])?.pop())
}

/// The runs of these numbers that exist, in the order of the numbers: in three statements, whatever their count.
pub(super) fn runs_of(connection: &Connection, ids: &[RunId]) -> DbResult<Vec<Run>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = serde_json::to_string(ids)?;
    let mut events = events_of(connection, &numbers)?;
    let mut runs = BTreeMap::new();
    let sql = format!("{RUNS} WHERE id IN (SELECT value FROM json_each(?1))");
    rows::for_each(connection, &sql, [&numbers], |row| {
        let RunRow { id, version, state, request, opened_at, changed_at, deadline } = run_row(row)?;
        let request = serde_json::from_str(&request)?;
        let events = events.remove(&id).unwrap_or_default();
        runs.insert(id, Run { id, version, state, request, opened_at, changed_at, deadline, events });
        Ok(())
    })?;
    Ok(ids.iter().filter_map(|id| runs.remove(id)).collect())
}

/// The events of runs, by run, oldest first. `numbers` is a JSON array.
fn events_of(connection: &Connection, numbers: &str) -> DbResult<BTreeMap<RunId, Vec<RunEvent>>> {
    let mut texts: BTreeMap<i64, BTreeMap<String, String>> = BTreeMap::new();
    let sql = "SELECT seq, name, text FROM event_texts
                WHERE seq IN (SELECT seq FROM events WHERE run IN (SELECT value FROM json_each(?1)))";
    rows::for_each(connection, sql, [numbers], |row| {
        texts.entry(row.get(0)?).or_default().insert(row.get(1)?, row.get(2)?);
        Ok(())
    })?;
    let mut events: BTreeMap<RunId, Vec<RunEvent>> = BTreeMap::new();
    let sql = "SELECT seq, run, bytes FROM events
                WHERE run IN (SELECT value FROM json_each(?1)) ORDER BY run, seq";
    rows::for_each(connection, sql, [numbers], |row| {
        let (seq, run) = (row.get(0)?, row.get(1)?);
        let ChainedEvent { at, kind, by, facts, state, .. } = rows::json(row, 2)?;
        let texts = texts.remove(&seq).unwrap_or_default();
        events.entry(run).or_default().push(RunEvent { seq, at, kind, by, facts, texts, state });
        Ok(())
    })?;
    Ok(events)
}

fn run_row(row: &Row<'_>) -> DbResult<RunRow> {
    Ok(RunRow {
        id: row.get(0)?,
        version: row.get(1)?,
        state: rows::from_json_word(row, 2)?,
        request: row.get(3)?,
        opened_at: Timestamp::from_microsecond(row.get(4)?)?,
        changed_at: Timestamp::from_microsecond(row.get(5)?)?,
        deadline: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_microsecond).transpose()?,
    })
}

fn texts_of(connection: &Connection, seq: i64) -> DbResult<Vec<TextRow>> {
    let sql = "SELECT seq, name, key, text FROM event_texts WHERE seq = ?1 ORDER BY name";
    rows::all(connection, sql, [seq], text_row)
}

fn text_row(row: &Row<'_>) -> DbResult<TextRow> {
    Ok(TextRow { name: row.get(1)?, key: row.get(2)?, text: row.get(3)? })
}

/// The condition of the index `runs_active`, letter for letter.
pub(super) const ACTIVE: &str = "state IN ('pending', 'approved', 'running', 'interrupted')";

/// Approved and running runs whose process is gone, oldest first.
pub(super) fn orphans(connection: &Connection, instance: &Instance) -> DbResult<Vec<Run>> {
    let sql = format!(
        "SELECT id, coalesce(owner, '') FROM runs
          WHERE {ACTIVE} AND state IN ('approved', 'running') ORDER BY id"
    );
    let mut orphans = Vec::new();
    rows::for_each(connection, &sql, [], |row| {
        if !instance.is_alive(&row.get::<_, String>(1)?)? {
            orphans.push(row.get(0)?);
        }
        Ok(())
    })?;
    runs_of(connection, &orphans)
}

/// Runs whose deadline has passed, oldest first.
pub(super) fn overdue(connection: &Connection) -> DbResult<Vec<Run>> {
    let sql = format!(
        "SELECT id FROM runs WHERE {ACTIVE} AND state IN ('pending', 'approved') AND deadline <= ?1 ORDER BY id"
    );
    let ids: Vec<RunId> = rows::all(connection, &sql, [Timestamp::now().as_microsecond()], rows::value)?;
    runs_of(connection, &ids)
}

pub(super) fn owns_open_run(connection: &Connection, owner: &str) -> DbResult<bool> {
    let sql = format!("SELECT 1 FROM runs WHERE {ACTIVE} AND state <> 'interrupted' AND owner = ?1");
    Ok(rows::first(connection, &sql, [owner], |_| Ok(()))?.is_some())
}

/// Events after that position, oldest first.
pub(super) fn events(connection: &Connection, after: i64, limit: usize) -> DbResult<Vec<EventRow>> {
    let sql = "SELECT seq, run, bytes, hash FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    rows::all(connection, sql, [after, limit], |row| {
        let seq = row.get(0)?;
        let texts = texts_of(connection, seq)?;
        Ok(EventRow { seq, run: row.get(1)?, bytes: row.get(2)?, hash: row.get(3)?, texts })
    })
}

/// Checks the whole chain: events, texts and runs are read side by side, by the order of the events.
pub(super) fn verify(connection: &Connection) -> DbResult<ChainReport> {
    let mut audit = ChainAudit::default();
    let mut events = rows::prepare(
        connection,
        "SELECT id, version, state, request, opened_at, changed_at, deadline, seq, run, bytes, hash
           FROM events LEFT JOIN runs ON runs.id = run ORDER BY seq",
    )?;
    let mut texts = rows::prepare(connection, "SELECT seq, name, key, text FROM event_texts ORDER BY seq")?;
    let (mut events, mut texts) = (events.query([])?, texts.query([])?);
    let mut next_text = texts.next()?;
    let mut has_lost_texts = false;
    while let Some(event) = events.next()? {
        let (seq, run) = (event.get(7)?, event.get(8)?);
        let mut event_texts = Vec::new();
        while let Some(text) = next_text {
            match text.get::<_, i64>(0)? {
                its if its > seq => break,
                its if its == seq => event_texts.push(text_row(text)?),
                _ => has_lost_texts = true,
            }
            next_text = texts.next()?;
        }
        let (bytes, hash) = (as_text(event, 9)?, event.get_ref(10)?.as_blob().unwrap_or_default());
        audit.event(AuditedEvent { seq, run, bytes, hash, texts: &event_texts }, || {
            let is_missing = event.get_ref(0).is_ok_and(|id| id == ValueRef::Null);
            let row = (!is_missing).then(|| run_row(event)).transpose();
            row.map_err(|_| format!("run {run}: its row can't be read"))
        });
    }
    if has_lost_texts || next_text.is_some() {
        audit.report_error("there are texts of events that don't exist");
    }
    report_lost_runs(connection, &mut audit)?;
    Ok(audit.finish())
}

/// A row without events.
fn report_lost_runs(connection: &Connection, audit: &mut ChainAudit) -> DbResult<()> {
    if rows::first(connection, "SELECT count(*) FROM runs", [], rows::value)? == Some(audit.runs()) {
        return Ok(());
    }
    let sql = "SELECT id FROM runs WHERE NOT EXISTS (SELECT 1 FROM events WHERE run = runs.id) LIMIT 1";
    audit.report_error(match rows::first(connection, sql, [], rows::value::<RunId>)? {
        Some(run) => format!("run {run} has no events"),
        None => "a run begins twice".to_owned(),
    });
    Ok(())
}

fn as_text<'a>(row: &'a Row<'_>, column: usize) -> DbResult<&'a str> {
    row.get_ref(column)?
        .as_str()
        .map_err(|_| DbError::Message("an event in it has an unexpected form".into()))
}
