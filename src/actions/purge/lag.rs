//! The replicas' lag, as the reader sees it.

use crate::app::App;
use crate::model::Login;
use crate::postgres::Address;
use crate::sql::{bytes, duration};
use crate::suggest::shown;
use std::time::Duration;

/// 16 segments of WAL. A replica whose replay is paused still answers, and its time doesn't advance: only bytes show its lag.
const MAX_BYTES: i64 = 256 << 20;

#[derive(Debug, Clone)]
pub(super) struct ReplicaLag {
    pub name: String,
    seconds: f64,
    bytes: i64,
}

impl ReplicaLag {
    pub fn exceeds(&self, max_lag: Duration) -> bool {
        self.seconds > max_lag.as_secs_f64() || self.bytes > MAX_BYTES
    }

    /// "replica-1 is 42 s and 180 MiB behind"
    pub fn text(&self) -> String {
        let (seconds, bytes) = (duration(self.seconds), bytes(self.bytes as f64));
        format!("{} is {seconds} and {bytes} behind", shown(&self.name))
    }
}

/// The lag that ends a purge, for the card.
pub(super) fn limit(max_lag: Duration) -> String {
    format!("{} or {} behind", duration(max_lag.as_secs_f64()), bytes(MAX_BYTES as f64))
}

/// Finds one of those names that no replica has any more. Several replicas may have the same name.
pub(super) fn missing<'a>(names: &'a [String], replicas: &[ReplicaLag]) -> Option<&'a String> {
    let mut present: Vec<&str> = replicas.iter().map(|replica| replica.name.as_str()).collect();
    names.iter().find(|name| match present.iter().position(|other| other == name) {
        Some(index) => {
            present.swap_remove(index);
            false
        }
        None => true,
    })
}

/// Lists a server's replicas, the one furthest behind first; an error follows "the server".
pub(super) async fn replicas(app: &App, server: &Address, asker: &str) -> Result<Vec<ReplicaLag>, String> {
    let address = Address::new(&server.environment, &server.server, Login::Reader);
    let client = app.environments.acquire(&address, asker).await.map_err(|error| error.to_string())?;
    let rows = client.query(include_str!("lag.sql"), &[]).await.map_err(|error| error.to_string())?;
    if rows.iter().any(|row| !row.get::<_, bool>("visible")) {
        return Err("may not show its replicas: grant pg_monitor to Countersign's reader".to_owned());
    }
    let replicas = rows.iter().map(|row| ReplicaLag {
        name: row.get::<_, Option<String>>("name").unwrap_or_default(),
        seconds: row.get::<_, Option<f64>>("lag_s").unwrap_or_default(),
        bytes: row.get::<_, Option<i64>>("behind_bytes").unwrap_or_default(),
    });
    Ok(replicas.collect())
}
