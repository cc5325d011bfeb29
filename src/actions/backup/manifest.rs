//! The manifest beside every backup. It is written last: a dump without a manifest is no backup.

use super::BackupError;
use crate::storage::{Key, Storage, StorageResult};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const DUMP: &str = ".dump";
const MANIFEST: &str = ".manifest.json";

/// Manifests read in parallel: they are small, and the storage needs a round trip for each.
const PARALLEL_READS: usize = 8;

/// A finished, checked backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The dump's key.
    pub key: String,
    pub environment: String,
    pub server: String,
    pub database: String,
    /// "15.18".
    pub server_version: String,
    pub client_version: String,
    /// pg_dump's option: "--compress=zstd:1".
    pub compression: String,
    /// The dump's size.
    pub bytes: u64,
    /// SHA-256 of the dump, in hex.
    pub sha256: String,
    /// Approximate size of the tables on the server, for the estimate of the next backup's progress.
    pub table_bytes: u64,
    /// UTC. The dump has the database's state of that time.
    pub started_at: Timestamp,
    pub duration_ms: u64,
    /// UTC. Time at which pg_restore had read all of it and the storage had returned the same bytes.
    pub verified_at: Timestamp,
    /// The person's name in the configuration.
    #[serde(rename = "asked_by")]
    pub requested_by: String,
    pub run: i64,
}

impl Manifest {
    /// Writes it beside its dump.
    pub async fn write(&self, storage: &Storage) -> Result<(), BackupError> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| BackupError::Internal(error.into()))?;
        Ok(storage.put(&manifest_key(&self.key)?, Bytes::from(json)).await?)
    }
}

/// The key prefix of a database's backups.
pub fn prefix(environment: &str, database: &str) -> Key {
    Key::from_iter([environment, database])
}

/// `production/asset_service_db/20261122T185703Z-128.dump`: sorted by time; the run's number makes it unique.
pub fn key(prefix: &Key, started_at: Timestamp, run: i64) -> Key {
    prefix.clone().join(format!("{}-{run}{DUMP}", started_at.strftime("%Y%m%dT%H%M%SZ")))
}

fn manifest_key(key: &str) -> Result<Key, BackupError> {
    let name = format!("{}{MANIFEST}", key.strip_suffix(DUMP).unwrap_or(key));
    Key::parse(name).map_err(|error| BackupError::Internal(error.into()))
}

/// A database's newest backups, as the storage has them now.
#[derive(Debug, Clone, Default)]
pub struct NewestBackups {
    /// Newest first.
    pub backups: Vec<StoredBackup>,
    /// Number of manifests.
    pub total: usize,
    /// Manifests among the newest that can't be read.
    pub unreadable: usize,
}

/// A backup as the storage has it now.
#[derive(Debug, Clone)]
pub struct StoredBackup {
    pub manifest: Manifest,
    /// The dump exists and has the verified size.
    pub is_complete: bool,
}

/// The newest backups below a database's prefix. Their keys are sorted by time, so that the older manifests aren't read. A manifest
/// that can't be read is logged.
pub async fn newest(storage: &Storage, prefix: &Key, limit: usize) -> StorageResult<NewestBackups> {
    let objects = storage.list(prefix).await?;
    let keys = objects.iter().rev().map(|object| object.location.clone());
    let keys: Vec<Key> = keys.filter(|key| key.as_ref().ends_with(MANIFEST)).collect();
    let contents = keys.clone().into_iter().take(limit).map(|key| async move { storage.get(&key).await });
    let contents: Vec<Bytes> = futures::stream::iter(contents).buffered(PARALLEL_READS).try_collect().await?;
    let mut newest = NewestBackups { total: keys.len(), ..NewestBackups::default() };
    for (json, key) in contents.iter().zip(&keys) {
        match serde_json::from_slice::<Manifest>(json) {
            Ok(manifest) => {
                let mut dumps = objects.iter().filter(|object| object.location.as_ref() == manifest.key);
                let is_complete = dumps.any(|dump| dump.size == manifest.bytes);
                newest.backups.push(StoredBackup { manifest, is_complete });
            }
            Err(error) => {
                tracing::warn!(%key, %error, "reading a backup's manifest failed");
                newest.unreadable += 1;
            }
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sorted_by_time_and_can_hold_any_name() {
        let started_at: Timestamp = "2026-11-22T18:57:03Z".parse().unwrap();
        assert_eq!(
            key(&prefix("production", "asset_service_db"), started_at, 128).as_ref(),
            "production/asset_service_db/20261122T185703Z-128.dump"
        );
        let odd_key = key(&prefix("production", "../a/b#1"), started_at, 1);
        assert_eq!(odd_key.parts().count(), 3);
        assert_eq!(
            manifest_key(odd_key.as_ref()).unwrap().as_ref(),
            odd_key.as_ref().replace(".dump", ".manifest.json"),
            "and keeps its name"
        );
    }
}
