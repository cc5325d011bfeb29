//! Figures of the servers.

use super::session::{CallResult, SessionSlot};
use crate::store::Figure;
use jiff::Timestamp;
use std::time::Duration;

pub(super) async fn put(slot: &SessionSlot, figures: &[Figure], period: Duration) -> CallResult<()> {
    let sql =
        "INSERT INTO countersign.figures (environment, server, name, at, value) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (environment, server, name, at) DO NOTHING";
    for Figure { environment, server, name, at, value } in figures {
        slot.query(sql, &[environment, server, name, at, value]).await?;
    }
    let old = "DELETE FROM countersign.figures WHERE at < clock_timestamp() - make_interval(secs => $1)";
    slot.query(old, &[&period.as_secs_f64()]).await.map(drop)
}

pub(super) async fn of_server(
    slot: &SessionSlot,
    environment: &str,
    server: &str,
    name: &str,
) -> CallResult<Vec<(Timestamp, f64)>> {
    let sql = "SELECT at, value FROM countersign.figures WHERE environment = $1 AND server = $2 AND name = $3 ORDER BY at";
    let rows = slot.query(sql, &[&environment, &server, &name]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}
