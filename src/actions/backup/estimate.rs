//! Estimated progress of a backup: a dump's size is known only when it is done. The database's last backup shows how well its
//! tables compress; without one, a usual ratio is taken.

use super::BackupError;
use super::execute::DumpProgress;
use super::manifest::{Manifest, newest, prefix};
use super::plan::{BackupContext, BackupTarget, DatabaseInfo};
use crate::sql::bytes;

/// Size of a quickly compressed dump of typical business data, as a share of its tables.
const USUAL_RATIO: f64 = 0.3;

/// A backup is not finished before it was read back.
const MAX_PERCENT: u64 = 99;

/// The expected bytes of each dump of a run.
#[derive(Debug, Clone)]
pub struct Estimate {
    expected: Vec<u64>,
    /// Number of finished databases; the next one is being dumped.
    pub done: usize,
}

impl Estimate {
    pub async fn new(
        context: &BackupContext<'_>,
        targets: &[BackupTarget],
        checks: &[Result<DatabaseInfo, BackupError>],
    ) -> Estimate {
        let mut expected = Vec::new();
        for (target, check) in targets.iter().zip(checks) {
            let table_bytes = check.as_ref().map_or(0, |info| info.table_bytes) as f64;
            let past = newest(&context.app.storage, &prefix(context.environment, &target.database), 1).await;
            let past = past.unwrap_or_default().backups;
            let ratio = past.first().and_then(|backup| compression_ratio(&backup.manifest));
            // A dump has at least its table of contents.
            expected.push((table_bytes * ratio.unwrap_or(USUAL_RATIO)) as u64 + 1);
        }
        Estimate { expected, done: 0 }
    }

    /// The share of the whole run, at most 99 %, and its label: "asset_service_db: 120 MiB, 14.2 MiB/s, 3 of 10 databases".
    pub fn progress(&self, database: &str, transferred: &DumpProgress) -> (Option<u8>, String) {
        let before: u64 = self.expected.iter().take(self.done).sum();
        let this = self.expected.get(self.done).copied().unwrap_or_default();
        let total = self.expected.iter().sum::<u64>().max(1);
        let share = ((before + transferred.bytes.min(this)) * 100 / total).min(MAX_PERCENT);
        let mut label = format!("{database}: {}", bytes(transferred.bytes as f64));
        let seconds = transferred.elapsed.as_secs_f64();
        if transferred.checking {
            label.push_str(" written, being read back");
        } else if seconds > 0.0 {
            label.push_str(&format!(", {}/s", bytes(transferred.bytes as f64 / seconds)));
        }
        if self.expected.len() > 1 {
            label.push_str(&format!(", {} of {} databases", self.done + 1, self.expected.len()));
        }
        label.push_str(" (estimated)");
        (u8::try_from(share).ok(), label)
    }
}

fn compression_ratio(manifest: &Manifest) -> Option<f64> {
    (manifest.table_bytes > 0).then(|| manifest.bytes as f64 / manifest.table_bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tells_the_share_of_all_databases_and_never_the_whole() {
        let mut estimate = Estimate { expected: vec![100 << 20, 300 << 20], done: 0 };
        let transferred =
            |mib: u64| DumpProgress { bytes: mib << 20, elapsed: Duration::from_secs(10), checking: false };
        let (percent, label) = estimate.progress("asset_service_db", &transferred(50));
        assert_eq!(percent, Some(12));
        assert_eq!(label, "asset_service_db: 50.0 MiB, 5.0 MiB/s, 1 of 2 databases (estimated)");
        assert_eq!(estimate.progress("a", &transferred(500)).0, Some(25), "no more than its own share");
        estimate.done = 1;
        assert_eq!(estimate.progress("b", &transferred(150)).0, Some(62));
        assert_eq!(estimate.progress("b", &transferred(900)).0, Some(99));
    }
}
