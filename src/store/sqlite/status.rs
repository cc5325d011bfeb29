//! The number and the age of what is open. Nothing here writes.

use super::connection::DbResult;
use super::queries::ACTIVE;
use super::rows;
use crate::metrics::Waiting;
use crate::model::RunState;
use crate::store::StoreStatus;
use jiff::Timestamp;
use rusqlite::{Connection, Row};
use std::time::Duration;

pub(super) fn status(connection: &Connection) -> DbResult<StoreStatus> {
    let sql = format!("SELECT count(*), min(opened_at) FROM runs WHERE {ACTIVE} AND state = ?1");
    let open = |state: RunState| {
        let word = rows::to_json_word(&state)?;
        DbResult::Ok(rows::first(connection, &sql, [word], waiting)?.unwrap_or_default())
    };
    let outdated =
        "SELECT count(*), min(changed_at) FROM cards JOIN runs ON runs.id = run WHERE is_outdated <> 0";
    Ok(StoreStatus {
        schema_version: connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
        pending: open(RunState::Pending)?,
        approved: open(RunState::Approved)?,
        running: open(RunState::Running)?,
        undelivered_cards: rows::first(connection, outdated, [], waiting)?.unwrap_or_default(),
    })
}

/// A count, and the time of the oldest in microseconds.
fn waiting(row: &Row<'_>) -> DbResult<Waiting> {
    let oldest: Option<i64> = row.get(1)?;
    let age = oldest.map(|oldest| Timestamp::now().as_microsecond().saturating_sub(oldest));
    Ok(Waiting {
        count: u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default(),
        oldest_age: Duration::from_micros(age.and_then(|age| u64::try_from(age).ok()).unwrap_or_default()),
    })
}
