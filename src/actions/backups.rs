//! `backups [service]`: the dumps that lie in the storage, newest first, and above all which service has none of late. Asks
//! no server. How old is too old stands in the command's header.

use super::backup::{NewestBackups, StoredBackup, newest, prefix};
use super::support::blocks::{answer, between, count, table, verdict};
use super::{Call, Query};
use crate::error::Result;
use crate::model::{Block, Cell, Severity, Shape, Text};
use crate::sql::{Answer, QueryRequest, bytes, fill, minute, scope_targets, tone};
use crate::storage::StorageResult;
use async_trait::async_trait;
use jiff::Timestamp;

pub struct Backups;

/// Of one service; of all of them, the newest alone.
const MOST: usize = 10;

/// So much of a SHA-256 tells two dumps apart; all of it stands in the manifest.
const SHORT_HASH: usize = 12;

/// A service and what the storage has of its database.
struct ServiceBackups {
    service: String,
    newest: NewestBackups,
}

#[async_trait]
impl Query for Backups {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let environment = call.environment.unwrap_or_default();
        let question =
            QueryRequest { command: call.command, environment, values: call.values, asker: &call.asker };
        let targets = scope_targets(&call.app.environments, &question, call.command.header.scope)?;
        let most = if targets.len() == 1 { MOST } else { 1 };
        let all = targets.into_iter().map(|target| async move {
            let place = prefix(environment, target.database.as_deref().unwrap_or_default());
            let mut found = newest(&call.app.storage, &place, most).await?;
            if found.total > most && !found.backups.iter().any(|kept| kept.whole) {
                found = newest(&call.app.storage, &place, found.total).await?;
            }
            StorageResult::Ok(ServiceBackups { service: target.label().to_owned(), newest: found })
        });
        Ok(match futures::future::try_join_all(all).await {
            Ok(shelves) => present(call, &shelves),
            Err(error) => {
                tracing::warn!(?error, "the backups can't be listed");
                let words = "The backup storage can't be read: which backups there are, nobody knows now.";
                answer(vec![verdict(Severity::Critical, words)])
            }
        })
    }
}

fn present(call: &Call<'_>, shelves: &[ServiceBackups]) -> Answer {
    let now = Timestamp::now();
    let mut blocks = vec![judgement(call, shelves, now)];
    for shelf in shelves {
        blocks.extend(flaws(shelf).into_iter().map(Block::Text));
    }
    let one = shelves.len() == 1;
    let titles = [
        (if one { "made" } else { "service" }, Shape::Left),
        ("age", Shape::Right),
        ("size", Shape::Right),
        ("SHA-256", Shape::Left),
        ("PostgreSQL", Shape::Left),
        ("verified", Shape::Left),
        ("by", Shape::Left),
    ];
    let rows = shelves.iter().flat_map(|shelf| {
        let all = &shelf.newest.backups;
        match usable(shelf).or(all.first()) {
            Some(kept) if !one => vec![row(call, (shelf, kept, one), now)],
            None if !one => vec![none(&shelf.service)],
            _ => all.iter().take(MOST).map(|kept| row(call, (shelf, kept, one), now)).collect(),
        }
    });
    let mut shown = table(&titles, rows.collect());
    if let (true, [shelf]) = (one, shelves) {
        shown.total = shelf.newest.total - shelf.newest.unreadable;
    }
    blocks.push(Block::Table(shown));
    blocks.push(Block::Note(fill(
        "`backup <service>` makes one now. Only Countersign's own dumps are listed here.",
        &|_| None,
    )));
    answer(blocks)
}

/// The newest that can be restored.
fn usable(shelf: &ServiceBackups) -> Option<&StoredBackup> {
    shelf.newest.backups.iter().find(|kept| kept.whole)
}

fn age(kept: &StoredBackup, now: Timestamp) -> f64 {
    now.duration_since(kept.manifest.started_at).as_secs_f64()
}

fn age_tone(call: &Call<'_>, kept: &StoredBackup, now: Timestamp) -> Severity {
    let threshold = call.command.header.thresholds.get("age_s");
    threshold.map_or(Severity::Neutral, |threshold| tone(threshold, age(kept, now)))
}

/// Who has none comes first, then whose newest is too old.
fn judgement(call: &Call<'_>, shelves: &[ServiceBackups], now: Timestamp) -> Block {
    if shelves.is_empty() {
        return verdict(Severity::Neutral, "No service of the configuration is on this environment.");
    }
    let without = shelves.iter().filter(|shelf| usable(shelf).is_none());
    let without: Vec<&str> = without.map(|shelf| shelf.service.as_str()).collect();
    let late = shelves.iter().filter_map(|shelf| Some((shelf, usable(shelf)?)));
    let late: Vec<(&ServiceBackups, &StoredBackup)> =
        late.filter(|(_, kept)| age_tone(call, kept, now) > Severity::Ok).collect();
    let mut parts = Vec::new();
    match without.as_slice() {
        [] => {}
        [only] => parts.push(format!("{only} has no backup here")),
        many => parts.push(format!("{} services have no backup here: {}", many.len(), many.join(", "))),
    }
    for (shelf, kept) in &late {
        let old = between(kept.manifest.started_at, now);
        parts.push(format!("the newest backup of {} is {old} old", shelf.service));
    }
    if parts.is_empty() {
        let oldest = shelves.iter().filter_map(usable).min_by_key(|kept| kept.manifest.started_at);
        let old = oldest.map(|kept| between(kept.manifest.started_at, now)).unwrap_or_default();
        let words = match shelves {
            [only] => format!("The newest backup of {} is {old} old.", only.service),
            all => {
                format!("All {} services have a backup; the oldest of their newest is {old} old.", all.len())
            }
        };
        return verdict(Severity::Ok, words);
    }
    let worst = late.iter().map(|(_, kept)| age_tone(call, kept, now)).max().unwrap_or(Severity::Neutral);
    let tone = if without.is_empty() { worst } else { Severity::Critical };
    let mut words = parts.join("; ");
    if let Some(first) = words.get(..1).map(str::to_uppercase).filter(|_| without.is_empty()) {
        words.replace_range(..1, &first);
    }
    verdict(tone, format!("{words}."))
}

/// What lies there and is no backup, though it looks like one.
fn flaws(shelf: &ServiceBackups) -> Vec<Text> {
    let gone = shelf.newest.backups.iter().filter(|kept| !kept.whole).count();
    let mut found = Vec::new();
    if gone > 0 {
        let files = count(gone, "dump is", "dumps are");
        found.push(format!(" {files} gone from the storage, or of another size than when verified."));
    }
    if shelf.newest.unreadable > 0 {
        let manifests = count(shelf.newest.unreadable, "manifest", "manifests");
        found.push(format!(" {manifests} can't be read: what lies there is not counted."));
    }
    found.into_iter().map(|words| Text::new().strong(shelf.service.clone()).plain(words)).collect()
}

fn row(
    call: &Call<'_>,
    (shelf, kept, one): (&ServiceBackups, &StoredBackup, bool),
    now: Timestamp,
) -> Vec<Cell> {
    let manifest = &kept.manifest;
    let first = if one { minute(manifest.started_at) } else { shelf.service.clone() };
    let size = match kept.whole {
        true => Cell::from(bytes(manifest.bytes as f64)),
        false => Cell { text: "gone".to_owned(), tone: Severity::Critical },
    };
    vec![
        first.into(),
        Cell { text: between(manifest.started_at, now), tone: age_tone(call, kept, now) },
        size,
        manifest.sha256.chars().take(SHORT_HASH).collect::<String>().into(),
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
