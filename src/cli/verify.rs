//! `countersign verify`: the check of the audit log's hash chain.

use super::{EXIT_MISSING, Variables, print};
use crate::clock::duration;
use crate::config::{Config, ConfigPart};
use crate::sql::grouped;
use crate::store::{self, ChainReport};
use anyhow::Context;
use std::path::Path;
use std::time::{Duration, Instant};

/// Checks the whole chain, prints the verdict, and returns the exit status.
///
/// # Errors
/// The audit log can't be read, or there is none yet.
pub async fn verify(path: &Path, variables: &Variables<'_>) -> anyhow::Result<u8> {
    let config = Config::load_for(path, variables, Some(ConfigPart::Host)).context("configuring")?;
    if let Some(path) = config.store.file() {
        let exists = store::check_writable(path).context("opening the audit log")?;
        anyhow::ensure!(exists, "there is no audit log yet: {} doesn't exist", path.display());
    }
    let store = crate::bootstrap::open_store(&config).await?;
    let start = Instant::now();
    let report = store.verify().await.context("reading the audit log")?;
    print(&text(&report, start.elapsed()))?;
    Ok(if report.first_error.is_none() { 0 } else { EXIT_MISSING })
}

fn text(report: &ChainReport, took: Duration) -> String {
    let verdict = match &report.first_error {
        None => "OK: the hash chain has no gap, and every run's state follows from its events.".to_owned(),
        Some(error) => format!("CRITICAL: the audit log was changed or is damaged: {error}."),
    };
    let seconds = took.as_secs_f64();
    // Whole numbers of events, far below 2^53.
    let rate = (report.events as f64 / seconds.max(0.001)) as i64;
    let noun = if report.events == 1 { "event" } else { "events" };
    format!(
        "{verdict}\nChecked: {} {noun} in {} ({} a second).\nLast hash: {}\n\
         Events that were cut off at the end can't be seen: compare the last hash with one that was kept elsewhere.\n",
        grouped(report.events),
        duration(seconds),
        grouped(rate),
        report.head,
    )
}
