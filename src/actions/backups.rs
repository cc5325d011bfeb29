//! `backups [service]`: the dumps in the storage, newest first, and the services without a recent one. Queries no server. The
//! age limits are in the command's header.

use super::Call;
use super::backup::{NewestBackups, StoredBackup, newest as newest_backups, prefix};
use super::support::blocks::{answer, between, count, note, table, verdict};
use crate::app::App;
use crate::error::Result;
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Cell, Coverage, Severity, Table, Text};
use crate::sql::{Answer, bytes, minute, severity_of};
use crate::storage::{Key, Storage, StorageResult};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// Backups listed for one service. For all services, the newest of each is listed.
const MAX_BACKUPS: usize = 10;

/// Characters of a SHA-256 in the list; the manifest has all of it.
const SHORT_HASH_CHARS: usize = 12;

/// A check waits this long for the storage.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

struct ServiceBackups {
    service: String,
    newest: NewestBackups,
}

impl ServiceBackups {
    /// The newest backup that can be restored.
    fn newest_usable(&self) -> Option<&StoredBackup> {
        self.newest.backups.iter().find(|backup| backup.is_complete)
    }
}

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let targets = call.targets(call.command.header.scope)?;
    let most = if targets.len() == 1 { MAX_BACKUPS } else { 1 };
    let all = targets.into_iter().map(|target| async move {
        let database = target.database.as_deref().unwrap_or_default();
        let newest = newest_of(&call.app.storage, &prefix(call.environment_name(), database), most).await?;
        StorageResult::Ok(ServiceBackups { service: target.label().to_owned(), newest })
    });
    Ok(match futures::future::try_join_all(all).await {
        Ok(services) => present(call, &services),
        Err(error) => {
            tracing::warn!(?error, "listing backups failed");
            let words = "The backup storage can't be read, so the backups are unknown.";
            let next = note("`countersign check`, typed on Countersign's machine, tests the storage.");
            Answer { coverage: Coverage::None, ..answer(vec![verdict(Severity::Critical, words), next]) }
        }
    })
}

/// The newest backups below a prefix, and all where none of the newest can be restored.
async fn newest_of(storage: &Storage, prefix: &Key, most: usize) -> StorageResult<NewestBackups> {
    let newest = newest_backups(storage, prefix, most).await?;
    if newest.total > most && !newest.backups.iter().any(|backup| backup.is_complete) {
        return newest_backups(storage, prefix, newest.total).await;
    }
    Ok(newest)
}

/// The start of a database's newest restorable backup; `None` if there is none.
///
/// # Errors
/// The storage can't be read.
pub async fn newest_started_at(
    app: &App,
    environment: &str,
    database: &str,
) -> StorageResult<Option<Timestamp>> {
    let newest = newest_of(&app.storage, &prefix(environment, database), 1).await?;
    let newest = newest.backups.into_iter().find(|backup| backup.is_complete);
    Ok(newest.map(|backup| backup.manifest.started_at))
}

/// The age of the newest restorable backup of each database, in seconds, as the value of [`BACKUP_AGES`](crate::catalog::BACKUP_AGES).
pub(super) async fn ages(app: &App, environment: &str) -> String {
    let now = Timestamp::now();
    let ages = app.environments.services().iter().map(|service| async move {
        let started_at = newest_started_at(app, environment, &service.database).await?;
        let age_s = started_at.map(|started_at| now.duration_since(started_at).as_secs_f64());
        StorageResult::Ok(json!({ "database": service.database, "age_s": age_s }))
    });
    let ages = tokio::time::timeout(READ_TIMEOUT, futures::future::try_join_all(ages)).await;
    let ages = match ages {
        Ok(Ok(ages)) => serde_json::Value::from(ages),
        Ok(Err(error)) => {
            tracing::warn!(?error, "listing backups failed");
            json!("has its backups in a storage that can't be read: `backups` tells more")
        }
        Err(_) => json!("has its backups in a storage that didn't answer in time: `backups` tells more"),
    };
    ages.to_string()
}

fn present(call: &Call<'_>, services: &[ServiceBackups]) -> Answer {
    let now = Timestamp::now();
    let mut blocks = vec![overall_verdict(call, services, now)];
    blocks.extend(services.iter().flat_map(problems).map(Block::Text));
    let mut rows = Vec::new();
    let mut total = services.len();
    if let [entry] = services {
        let listed = entry.newest.backups.iter().take(MAX_BACKUPS);
        rows.extend(listed.map(|backup| row(call, minute(backup.manifest.started_at), backup, now)));
        total = entry.newest.total - entry.newest.unreadable;
    } else {
        for entry in services {
            rows.push(match entry.newest_usable().or(entry.newest.backups.first()) {
                Some(backup) => row(call, entry.service.clone(), backup, now),
                None => row_without_backup(&entry.service),
            });
        }
    }
    let first = if services.len() == 1 { "made" } else { "service" };
    let mut titles = vec![(first, Left), ("age", Right), ("size", Right)];
    titles.extend(["SHA-256", "PostgreSQL", "verified", "by"].map(|title| (title, Left)));
    blocks.push(Block::Table(Table { total, ..table(&titles, rows) }));
    blocks.push(note("`backup <service>` makes one now. Only Countersign's own dumps are listed here."));
    answer(blocks)
}

fn age_tone(call: &Call<'_>, backup: &StoredBackup, now: Timestamp) -> Severity {
    let age = now.duration_since(backup.manifest.started_at).as_secs_f64();
    let threshold = call.command.header.thresholds.get("age_s");
    threshold.map_or(Severity::Neutral, |threshold| severity_of(threshold, age))
}

/// Services without a backup first, then those whose newest backup is too old.
fn overall_verdict(call: &Call<'_>, services: &[ServiceBackups], now: Timestamp) -> Block {
    if services.is_empty() {
        return verdict(Severity::Neutral, "No service of the configuration is on this environment.");
    }
    let without = services.iter().filter(|entry| entry.newest_usable().is_none());
    let without: Vec<&str> = without.map(|entry| entry.service.as_str()).collect();
    let mut outdated: Vec<_> =
        services.iter().filter_map(|entry| Some((entry, entry.newest_usable()?))).collect();
    outdated.retain(|(_, backup)| age_tone(call, backup, now) > Severity::Ok);
    let mut parts = Vec::new();
    match without.as_slice() {
        [] => {}
        [only] => parts.push(format!("{only} has no backup here")),
        many => parts.push(format!("{} services have no backup here: {}", many.len(), many.join(", "))),
    }
    for (entry, backup) in &outdated {
        let old = between(backup.manifest.started_at, now);
        parts.push(format!("the newest backup of {} is {old} old", entry.service));
    }
    if parts.is_empty() {
        let newest = services.iter().filter_map(ServiceBackups::newest_usable);
        let oldest = newest.map(|backup| backup.manifest.started_at).min();
        let old = oldest.map(|started_at| between(started_at, now)).unwrap_or_default();
        let words = match services {
            [only] => format!("The newest backup of {} is {old} old.", only.service),
            all => format!("All {} services have a backup; the least recent one is {old} old.", all.len()),
        };
        return verdict(Severity::Ok, words);
    }
    let worst = outdated.iter().map(|(_, backup)| age_tone(call, backup, now)).max();
    let severity = worst.filter(|_| without.is_empty()).unwrap_or(Severity::Critical);
    let mut words = parts.join("; ");
    if let Some(first) = words.get(..1).map(str::to_uppercase).filter(|_| without.is_empty()) {
        words.replace_range(..1, &first);
    }
    verdict(severity, format!("{words}."))
}

fn problems(entry: &ServiceBackups) -> Vec<Text> {
    let gone = entry.newest.backups.iter().filter(|backup| !backup.is_complete).count();
    let mut problems = Vec::new();
    if gone > 0 {
        let files = count(gone, "dump is", "dumps are");
        problems.push(format!(" {files} gone from the storage, or of another size than verified."));
    }
    if entry.newest.unreadable > 0 {
        let manifests = count(entry.newest.unreadable, "manifest", "manifests");
        problems.push(format!(" {manifests} can't be read; not counted as a backup."));
    }
    problems.into_iter().map(|words| Text::new().strong(entry.service.clone()).plain(words)).collect()
}

fn row(call: &Call<'_>, first: String, backup: &StoredBackup, now: Timestamp) -> Vec<Cell> {
    let manifest = &backup.manifest;
    let size = if backup.is_complete {
        Cell::from(bytes(manifest.bytes as f64))
    } else {
        Cell { text: "gone".to_owned(), severity: Severity::Critical }
    };
    vec![
        first.into(),
        Cell { text: between(manifest.started_at, now), severity: age_tone(call, backup, now) },
        size,
        manifest.sha256.chars().take(SHORT_HASH_CHARS).collect::<String>().into(),
        manifest.server_version.as_str().into(),
        minute(manifest.verified_at).into(),
        format!("{}, #{}", manifest.requested_by, manifest.run).into(),
    ]
}

fn row_without_backup(service: &str) -> Vec<Cell> {
    let mut cells = vec![service.into(), Cell { text: "no backup".to_owned(), severity: Severity::Critical }];
    cells.resize(7, "-".into());
    cells
}
