//! How far the replicas are behind, as the reader sees it.

use crate::actions::Execution;
use crate::postgres::{Address, PooledClient};
use crate::sql::{bytes, duration};
use std::time::Duration;

/// 16 segments of WAL. A replica whose replay is paused answers all the same, and its time stands still: only bytes tell.
const MOST_BYTES: i64 = 256 << 20;

/// A replica.
#[derive(Debug, Clone)]
pub(super) struct ReplicaLag {
    pub name: String,
    seconds: f64,
    bytes: i64,
}

impl ReplicaLag {
    pub fn is_more_than(&self, most: Duration) -> bool {
        self.seconds > most.as_secs_f64() || self.bytes > MOST_BYTES
    }

    /// "replica-1 is 42 s and 180 MiB behind"
    pub fn words(&self) -> String {
        format!(
            "{} is {} and {} behind",
            crate::suggest::shown(&self.name),
            duration(self.seconds),
            bytes(self.bytes as f64)
        )
    }
}

/// What ends a purge, for the card.
pub(super) fn limit(most: Duration) -> String {
    format!("{} or {} behind", duration(most.as_secs_f64()), bytes(MOST_BYTES as f64))
}

/// As [`replicas`], of the server that a purge works on.
///
/// # Errors
/// Why it can't be told, in words.
pub(super) async fn now(doing: &Execution<'_>) -> Result<Vec<ReplicaLag>, String> {
    let address = Address {
        environment: doing.environment().unwrap_or_default().to_owned(),
        server: doing.plan.identity.get("server").cloned().unwrap_or_default(),
        database: None,
        login: "reader".to_owned(),
    };
    let lease = doing.app.environments.lease(&address, &doing.asker).await.map_err(|why| why.to_string())?;
    replicas(&lease).await
}

/// One of those names that no replica has any more. Several may have the same.
pub(super) fn gone<'a>(names: &'a [String], now: &[ReplicaLag]) -> Option<&'a String> {
    let mut there: Vec<&str> = now.iter().map(|replica| replica.name.as_str()).collect();
    names.iter().find(|name| match there.iter().position(|there| there == name) {
        Some(at) => {
            there.swap_remove(at);
            false
        }
        None => true,
    })
}

/// All, the one furthest behind first.
///
/// # Errors
/// As [`now`].
pub(super) async fn replicas(lease: &PooledClient) -> Result<Vec<ReplicaLag>, String> {
    let rows = lease.ask(include_str!("lag.sql"), &[]).await.map_err(|why| why.to_string())?;
    if rows.iter().any(|row| !row.get::<_, bool>("seen")) {
        return Err("may not show its replicas: grant pg_monitor to Countersign's reader".to_owned());
    }
    let behind = rows.iter().map(|row| ReplicaLag {
        name: row.get::<_, Option<String>>("name").unwrap_or_default(),
        seconds: row.get::<_, Option<f64>>("lag_s").unwrap_or_default(),
        bytes: row.get::<_, Option<i64>>("behind_bytes").unwrap_or_default(),
    });
    Ok(behind.collect())
}
