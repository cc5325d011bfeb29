//! How far a backup is, and it is a guess: a dump's size is known only when it is done. The database's last backup tells how
//! small its tables became then; without one, a usual share is taken.

use super::execute::Transferred;
use super::manifest;
use super::plan::{BackupTarget, DatabaseInfo, PreflightError};
use crate::sql::bytes;
use crate::storage::Storage;

/// What business-like rows come to in a quickly compressed dump, as a share of their tables.
const USUAL_SHARE: f64 = 0.3;

/// Nothing is finished before it was read back.
const MOST: u64 = 99;

/// The expected bytes of each dump of a run.
#[derive(Debug, Clone)]
pub struct Estimate {
    expected: Vec<u64>,
    done: usize,
}

impl Estimate {
    pub async fn of(
        storage: &Storage,
        environment: &str,
        aims: &[BackupTarget],
        found: &[Result<DatabaseInfo, PreflightError>],
    ) -> Estimate {
        let mut expected = Vec::new();
        for (aim, found) in aims.iter().zip(found) {
            let table_bytes = found.as_ref().map_or(0, |facts| facts.table_bytes) as f64;
            let past = manifest::all(storage, &manifest::prefix(environment, &aim.database)).await;
            let share = past.unwrap_or_default().last().and_then(share).unwrap_or(USUAL_SHARE);
            // A dump has at least its table of contents.
            expected.push((table_bytes * share) as u64 + 1);
        }
        Estimate { expected, done: 0 }
    }

    pub fn done(&mut self, at: usize) {
        self.done = at + 1;
    }

    /// The share of the whole run, at most 99 %, and its label: "asset_service_db: 120 MiB, 14.2 MiB/s, 3 of 10 databases".
    pub fn told(&self, database: &str, at: usize, moved: &Transferred) -> (Option<u8>, String) {
        let before: u64 = self.expected.iter().take(self.done).sum();
        let this = self.expected.get(at).copied().unwrap_or_default();
        let total = self.expected.iter().sum::<u64>().max(1);
        let share = ((before + moved.bytes.min(this)) * 100 / total).min(MOST);
        let mut label = format!("{database}: {}", bytes(moved.bytes as f64));
        let seconds = moved.elapsed.as_secs_f64();
        if moved.checking {
            label.push_str(" written, being read back");
        } else if seconds > 0.0 {
            label.push_str(&format!(", {}/s", bytes(moved.bytes as f64 / seconds)));
        }
        if self.expected.len() > 1 {
            label.push_str(&format!(", {} of {} databases", at + 1, self.expected.len()));
        }
        label.push_str(" (the share is an estimate)");
        (u8::try_from(share).ok(), label)
    }
}

fn share(manifest: &manifest::Manifest) -> Option<f64> {
    (manifest.table_bytes > 0).then(|| manifest.bytes as f64 / manifest.table_bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tells_the_share_of_all_databases_and_never_the_whole() {
        let mut estimate = Estimate { expected: vec![100 << 20, 300 << 20], done: 0 };
        let moved =
            |mib: u64| Transferred { bytes: mib << 20, elapsed: Duration::from_secs(10), checking: false };
        let (percent, label) = estimate.told("asset_service_db", 0, &moved(50));
        assert_eq!(percent, Some(12));
        assert_eq!(
            label,
            "asset_service_db: 50.0 MiB, 5.0 MiB/s, 1 of 2 databases (the share is an estimate)"
        );
        assert_eq!(estimate.told("a", 0, &moved(500)).0, Some(25), "no more than its own share");
        estimate.done(0);
        assert_eq!(estimate.told("b", 1, &moved(150)).0, Some(62));
        assert_eq!(estimate.told("b", 1, &moved(900)).0, Some(99));
    }
}
