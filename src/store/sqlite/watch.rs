//! The state of each watching window.

use super::connection::DbResult;
use super::rows;
use crate::store::{MAX_LOOK_CLOCK_ERROR, WatchState};
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};

const MAX_AHEAD: i64 = MAX_LOOK_CLOCK_ERROR.as_micros() as i64;

pub(super) fn begin_look(
    transaction: &Transaction<'_>,
    environment: &str,
    name: &str,
    due: Timestamp,
) -> DbResult<Option<WatchState>> {
    let sql = "INSERT INTO watch_states (environment, name, newest_look) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET newest_look = excluded.newest_look, previous_look = newest_look
               WHERE newest_look < excluded.newest_look OR newest_look > excluded.newest_look + ?4
               RETURNING environment, name, newest_look, previous_look, content_look, stored_at, content";
    rows::first(transaction, sql, params![environment, name, due.as_microsecond(), MAX_AHEAD], state)
}

pub(super) fn end_look(
    transaction: &Transaction<'_>,
    environment: &str,
    name: &str,
    due: Timestamp,
    content: &str,
) -> DbResult<bool> {
    let sql = "UPDATE watch_states SET content_look = ?3, stored_at = ?4, content = ?5
               WHERE environment = ?1 AND name = ?2
                 AND (content_look IS NULL OR content_look <= ?3 OR content_look > ?3 + ?6)";
    let (due, now) = (due.as_microsecond(), Timestamp::now().as_microsecond());
    Ok(rows::execute(transaction, sql, params![environment, name, due, now, content, MAX_AHEAD])? > 0)
}

pub(super) fn all(connection: &Connection) -> DbResult<Vec<WatchState>> {
    let sql = "SELECT environment, name, newest_look, previous_look, content_look, stored_at, content FROM watch_states";
    rows::all(connection, sql, [], state)
}

fn state(row: &Row<'_>) -> DbResult<WatchState> {
    let time = |column| -> DbResult<Option<Timestamp>> {
        let at = row.get::<_, Option<i64>>(column)?;
        Ok(at.map(Timestamp::from_microsecond).transpose()?)
    };
    Ok(WatchState {
        environment: row.get(0)?,
        name: row.get(1)?,
        newest_look: Timestamp::from_microsecond(row.get(2)?)?,
        previous_look: time(3)?,
        content_look: time(4)?,
        stored_at: time(5)?,
        content: row.get(6)?,
    })
}
