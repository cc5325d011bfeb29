//! The state of each watching window.

use super::session::{CallResult, SessionSlot};
use crate::pg_connect::PgRow;
use crate::store::{MAX_LOOK_CLOCK_ERROR, WatchState};
use jiff::Timestamp;

const MAX_AHEAD_S: f64 = MAX_LOOK_CLOCK_ERROR.as_secs() as f64;

pub(super) async fn begin_look(
    slot: &SessionSlot,
    environment: &str,
    name: &str,
    due: Timestamp,
) -> CallResult<Option<WatchState>> {
    let sql = "INSERT INTO countersign.watch_states AS w (environment, name, newest_look) VALUES ($1, $2, $3)
               ON CONFLICT (environment, name) DO UPDATE SET newest_look = excluded.newest_look, previous_look = w.newest_look
               WHERE w.newest_look < excluded.newest_look
                  OR w.newest_look > excluded.newest_look + make_interval(secs => $4)
               RETURNING environment, name, newest_look, previous_look, content_look, stored_at, content";
    let rows = slot.query_once(sql, &[&environment, &name, &due, &MAX_AHEAD_S]).await?;
    rows.first().map(state).transpose()
}

pub(super) async fn end_look(
    slot: &SessionSlot,
    environment: &str,
    name: &str,
    due: Timestamp,
    content: &str,
) -> CallResult<bool> {
    let sql = "UPDATE countersign.watch_states SET content_look = $3, stored_at = clock_timestamp(), content = $4
                WHERE environment = $1 AND name = $2
                  AND (content_look IS NULL OR content_look <= $3 OR content_look > $3 + make_interval(secs => $5))
               RETURNING 1";
    Ok(!slot.query(sql, &[&environment, &name, &due, &content, &MAX_AHEAD_S]).await?.is_empty())
}

pub(super) async fn all(slot: &SessionSlot) -> CallResult<Vec<WatchState>> {
    let sql = "SELECT environment, name, newest_look, previous_look, content_look, stored_at, content
                 FROM countersign.watch_states";
    slot.query(sql, &[]).await?.iter().map(state).collect()
}

fn state(row: &PgRow) -> CallResult<WatchState> {
    Ok(WatchState {
        environment: row.get(0)?,
        name: row.get(1)?,
        newest_look: row.get(2)?,
        previous_look: row.get(3)?,
        content_look: row.get(4)?,
        stored_at: row.get(5)?,
        content: row.get(6)?,
    })
}
