//! Reading runs: one, a list, the orphans, the overdue, and the audit of them all. Nothing here writes.

use super::connection::{DbError, DbResult};
use super::process_lock::Instance;
use super::rows::{self, to_json_word};
use crate::model::{Run, RunEvent, RunId};
use crate::store::hash_chain::{ChainAudit, ChainedEvent, EventRow, RunRow, TextRow};
use crate::store::{ChainReport, Filter, RunPage};
use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};
use std::collections::BTreeMap;

const RUNS: &str = "SELECT id, version, state, request, opened_at, changed_at, deadline FROM runs";

pub(super) fn get(connection: &Connection, id: RunId) -> DbResult<Option<Run>> {
    let row = rows::first(connection, &format!("{RUNS} WHERE id = ?1"), [id], run_row)?;
    let Some(row) = row else { return Ok(None) };
    let RunRow { version, state, request, opened_at, changed_at, deadline, .. } = row;
    let request = serde_json::from_str(&request)?;
    let events = events_of(connection, id)?;
    Ok(Some(Run { id, version, state, request, opened_at, changed_at, deadline, events }))
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

fn events_of(connection: &Connection, run: RunId) -> DbResult<Vec<RunEvent>> {
    rows::all(connection, "SELECT seq, bytes FROM events WHERE run = ?1 ORDER BY seq", [run], |row| {
        let seq = row.get(0)?;
        let ChainedEvent { at, kind, by, facts, state, .. } = rows::json(row, 1)?;
        let texts = texts_of(connection, seq)?.into_iter().map(|text| (text.name, text.text)).collect();
        Ok(RunEvent { seq, at, kind, by, facts, texts, state })
    })
}

fn texts_of(connection: &Connection, seq: i64) -> DbResult<Vec<TextRow>> {
    rows::all(connection, "SELECT name, key, text FROM event_texts WHERE seq = ?1", [seq], |row| {
        Ok(TextRow { name: row.get(0)?, key: row.get(1)?, text: row.get(2)? })
    })
}

fn runs_of(connection: &Connection, ids: Vec<RunId>) -> DbResult<Vec<Run>> {
    ids.into_iter().filter_map(|id| get(connection, id).transpose()).collect()
}

/// Newest first. What SQL can filter it filters; the text is compared here, since SQLite knows only ASCII's capitals.
pub(super) fn list(connection: &Connection, filter: &Filter) -> DbResult<RunPage> {
    let states = filter.states.iter().map(to_json_word).collect::<DbResult<Vec<_>>>()?;
    let text = filter.text.as_ref().map(|text| text.to_lowercase());
    let page_size = filter.page_size();
    let counted = page_size.saturating_add(Filter::COUNT_BEYOND_PAGE);
    let sql = "SELECT id, CASE WHEN :has_text THEN request END FROM runs
                WHERE (:environment IS NULL OR environment = :environment)
                  AND (:requester IS NULL OR requester = :requester)
                  AND (:command IS NULL OR command = :command)
                  AND (:since IS NULL OR opened_at >= :since)
                  AND (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
                  AND (:include_reads OR risk <> 'read')
                  AND (NOT :break_glass OR break_glass)
                  AND (:before IS NULL OR id < :before)
                ORDER BY id DESC";
    let values = named_params! {
        ":environment": filter.environment,
        ":requester": filter.requester,
        ":command": filter.command,
        ":since": filter.since.map(Timestamp::as_microsecond),
        ":states": serde_json::to_string(&states)?,
        ":include_reads": filter.include_reads,
        ":break_glass": filter.break_glass,
        ":before": filter.before,
        ":has_text": text.is_some(),
    };
    let (mut ids, mut total, mut has_more) = (Vec::new(), 0, false);
    let mut statement = connection.prepare_cached(sql)?;
    let mut matches = statement.query(values)?;
    while let Some(row) = matches.next()? {
        let id: RunId = row.get(0)?;
        if let Some(text) = &text
            && !mentions(connection, id, &rows::json(row, 1)?, text)?
        {
            continue;
        }
        if total == counted {
            has_more = true;
            break;
        }
        total += 1;
        if ids.len() < page_size {
            ids.push(id);
        }
    }
    Ok(RunPage { runs: runs_of(connection, ids)?, total, has_more })
}

/// The part of a request that a list searches.
#[derive(serde::Deserialize)]
struct SearchedRequest {
    command: String,
    arguments: BTreeMap<String, String>,
}

/// True if the run's command, arguments or texts contain `text`, which is in lower case. "kill 4711" matches as typed.
fn mentions(connection: &Connection, run: RunId, request: &SearchedRequest, text: &str) -> DbResult<bool> {
    let words: Vec<&str> =
        std::iter::once(&request.command).chain(request.arguments.values()).map(String::as_str).collect();
    if words.join(" ").to_lowercase().contains(text) {
        return Ok(true);
    }
    let sql = "SELECT text FROM events JOIN event_texts USING (seq) WHERE run = ?1";
    let texts: Vec<String> = rows::all(connection, sql, [run], rows::value)?;
    Ok(texts.iter().any(|stored| stored.to_lowercase().contains(text)))
}

/// Approved and running runs whose process is gone, oldest first.
pub(super) fn orphans(connection: &Connection, instance: &Instance) -> DbResult<Vec<Run>> {
    let sql = "SELECT id, coalesce(owner, '') FROM runs WHERE state IN ('approved', 'running') ORDER BY id";
    let mut orphans = Vec::new();
    rows::for_each(connection, sql, [], |row| {
        if !instance.is_alive(&row.get::<_, String>(1)?)? {
            orphans.push(row.get(0)?);
        }
        Ok(())
    })?;
    runs_of(connection, orphans)
}

/// Runs whose deadline has passed, oldest first.
pub(super) fn overdue(connection: &Connection) -> DbResult<Vec<Run>> {
    let sql = "SELECT id FROM runs WHERE state IN ('pending', 'approved') AND deadline <= ?1 ORDER BY id";
    runs_of(connection, rows::all(connection, sql, [Timestamp::now().as_microsecond()], rows::value)?)
}

pub(super) fn owns_open_run(connection: &Connection, owner: &str) -> DbResult<bool> {
    let sql = "SELECT 1 FROM runs WHERE state IN ('pending', 'approved', 'running') AND owner = ?1";
    Ok(rows::first(connection, sql, [owner], |_| Ok(()))?.is_some())
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

pub(super) fn verify(connection: &Connection) -> DbResult<ChainReport> {
    let mut audit = ChainAudit::default();
    let mut text_count = 0;
    rows::for_each(connection, "SELECT seq, run, bytes, hash FROM events ORDER BY seq", [], |row| {
        let seq = row.get(0)?;
        let texts = texts_of(connection, seq)?;
        text_count += texts.len() as i64;
        audit.event(EventRow { seq, run: row.get(1)?, bytes: row.get(2)?, hash: row.get(3)?, texts });
        Ok(())
    })?;
    if rows::first(connection, "SELECT count(*) FROM event_texts", [], rows::value)? != Some(text_count) {
        audit.report_error("there are texts of events that don't exist");
    }
    rows::for_each(connection, &format!("{RUNS} ORDER BY id"), [], |row| {
        match run_row(row) {
            Ok(row) => audit.run(row),
            Err(DbError::Message(_)) => {
                audit.report_error(format!("run {}: its row can't be read", row.get::<_, RunId>(0)?));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok(audit.finish())
}
