//! `backups [service]`: the dumps in the storage, newest first, and the services without a recent one. Queries no server. The
//! age limits are in the command's header.

use super::backup::{NewestBackups, StoredBackup, newest as newest_backups, prefix};
use super::support::blocks::{answer, between, count, table, verdict};
use super::{Call, Query};
use crate::error::Result;
use crate::model::{Block, Cell, Severity, Shape, Text};
use crate::sql::{Answer, QueryRequest, bytes, fill, minute, scope_targets, tone};
use crate::storage::StorageResult;
use async_trait::async_trait;
use jiff::Timestamp;

pub struct Backups;

/// Backups listed for one service. For all services, the newest of each is listed.
const MAX_BACKUPS: usize = 10;

/// Characters of a SHA-256 in the list; the manifest has all of it.
const SHORT_HASH_CHARS: usize = 12;

/// A service and its database's backups in the storage.
struct ServiceBackups {
    service: String,
    newest: NewestBackups,
}

#[async_trait]
impl Query for Backups {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let environment = call.environment.unwrap_or_default();
        let query =
            QueryRequest { command: call.command, environment, values: call.values, asker: &call.asker };
        let targets = scope_targets(&call.app.environments, &query, call.command.header.scope)?;
        let most = if targets.len() == 1 { MAX_BACKUPS } else { 1 };
        let all = targets.into_iter().map(|target| async move {
            let prefix = prefix(environment, target.database.as_deref().unwrap_or_default());
            let mut newest = newest_backups(&call.app.storage, &prefix, most).await?;
            if newest.total > most && !newest.backups.iter().any(|backup| backup.whole) {
                newest = newest_backups(&call.app.storage, &prefix, newest.total).await?;
            }
            StorageResult::Ok(ServiceBackups { service: target.label().to_owned(), newest })
        });
        Ok(match futures::future::try_join_all(all).await {
            Ok(services) => present(call, &services),
            Err(error) => {
                tracing::warn!(?error, "listing backups failed");
                let words = "The backup storage can't be read, so the backups are unknown.";
                answer(vec![verdict(Severity::Critical, words)])
            }
        })
    }
}

fn present(call: &Call<'_>, services: &[ServiceBackups]) -> Answer {
    let now = Timestamp::now();
    let mut blocks = vec![overall_verdict(call, services, now)];
    for entry in services {
        blocks.extend(problems(entry).into_iter().map(Block::Text));
    }
    let one = services.len() == 1;
    let titles = [
        (if one { "made" } else { "service" }, Shape::Left),
        ("age", Shape::Right),
        ("size", Shape::Right),
        ("SHA-256", Shape::Left),
        ("PostgreSQL", Shape::Left),
        ("verified", Shape::Left),
        ("by", Shape::Left),
    ];
    let rows = services.iter().flat_map(|entry| {
        let all = &entry.newest.backups;
        match newest_usable(entry).or(all.first()) {
            Some(backup) if !one => vec![row(call, entry, backup, one, now)],
            None if !one => vec![none(&entry.service)],
            _ => all.iter().take(MAX_BACKUPS).map(|backup| row(call, entry, backup, one, now)).collect(),
        }
    });
    let mut shown = table(&titles, rows.collect());
    if let [entry] = services {
        shown.total = entry.newest.total - entry.newest.unreadable;
    }
    blocks.push(Block::Table(shown));
    blocks.push(Block::Note(fill(
        "`backup <service>` makes one now. Only Countersign's own dumps are listed here.",
        &|_| None,
    )));
    answer(blocks)
}

/// The newest backup that can be restored.
fn newest_usable(entry: &ServiceBackups) -> Option<&StoredBackup> {
    entry.newest.backups.iter().find(|backup| backup.whole)
}

fn age(backup: &StoredBackup, now: Timestamp) -> f64 {
    now.duration_since(backup.manifest.started_at).as_secs_f64()
}

fn age_tone(call: &Call<'_>, backup: &StoredBackup, now: Timestamp) -> Severity {
    let threshold = call.command.header.thresholds.get("age_s");
    threshold.map_or(Severity::Neutral, |threshold| tone(threshold, age(backup, now)))
}

/// Services without a backup first, then those whose newest backup is too old.
fn overall_verdict(call: &Call<'_>, services: &[ServiceBackups], now: Timestamp) -> Block {
    if services.is_empty() {
        return verdict(Severity::Neutral, "No service of the configuration is on this environment.");
    }
    let without = services.iter().filter(|entry| newest_usable(entry).is_none());
    let without: Vec<&str> = without.map(|entry| entry.service.as_str()).collect();
    let outdated = services.iter().filter_map(|entry| Some((entry, newest_usable(entry)?)));
    let outdated: Vec<(&ServiceBackups, &StoredBackup)> =
        outdated.filter(|(_, backup)| age_tone(call, backup, now) > Severity::Ok).collect();
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
        let oldest =
            services.iter().filter_map(newest_usable).min_by_key(|backup| backup.manifest.started_at);
        let old = oldest.map(|backup| between(backup.manifest.started_at, now)).unwrap_or_default();
        let words = match services {
            [only] => format!("The newest backup of {} is {old} old.", only.service),
            all => {
                format!("All {} services have a backup; the least recent one is {old} old.", all.len())
            }
        };
        return verdict(Severity::Ok, words);
    }
    let worst =
        outdated.iter().map(|(_, backup)| age_tone(call, backup, now)).max().unwrap_or(Severity::Neutral);
    let tone = if without.is_empty() { worst } else { Severity::Critical };
    let mut words = parts.join("; ");
    if let Some(first) = words.get(..1).map(str::to_uppercase).filter(|_| without.is_empty()) {
        words.replace_range(..1, &first);
    }
    verdict(tone, format!("{words}."))
}

/// Dumps and manifests that can't be used.
fn problems(entry: &ServiceBackups) -> Vec<Text> {
    let gone = entry.newest.backups.iter().filter(|backup| !backup.whole).count();
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

fn row(
    call: &Call<'_>,
    entry: &ServiceBackups,
    backup: &StoredBackup,
    one: bool,
    now: Timestamp,
) -> Vec<Cell> {
    let manifest = &backup.manifest;
    let first = if one { minute(manifest.started_at) } else { entry.service.clone() };
    let size = if backup.whole {
        Cell::from(bytes(manifest.bytes as f64))
    } else {
        Cell { text: "gone".to_owned(), tone: Severity::Critical }
    };
    vec![
        first.into(),
        Cell { text: between(manifest.started_at, now), tone: age_tone(call, backup, now) },
        size,
        manifest.sha256.chars().take(SHORT_HASH_CHARS).collect::<String>().into(),
        manifest.server_version.as_str().into(),
        minute(manifest.verified_at).into(),
        format!("{}, #{}", manifest.asked_by, manifest.run).into(),
    ]
}

fn none(service: &str) -> Vec<Cell> {
    let mut cells =
        vec![Cell::from(service), Cell { text: "no backup".to_owned(), tone: Severity::Critical }];
    cells.resize_with(7, || Cell::from("-"));
    cells
}
