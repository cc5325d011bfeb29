//! The progress of runs, as cards and `jobs` show it. It is lost with the process.

use crate::model::RunId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Progress that another replica hasn't repeated for this long is forgotten: it tells it every second.
const REPLICA_LIFETIME: Duration = Duration::from_secs(5);

/// Replicas whose progress is kept, and runs of each: no message makes this process hold more.
const MAX_REPLICAS: usize = 32;
const MAX_RUNS: usize = 100;
/// Characters of a label of another replica.
const MAX_LABEL: usize = 200;

/// The share that is done, if it is known, and the current step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// 0 to 100.
    pub percent: Option<u8>,
    pub label: String,
}

/// Progress of the runs that this process executes or observes, and of those that other replicas execute.
#[derive(Debug, Default)]
pub struct Progress {
    own: Mutex<HashMap<RunId, OwnProgress>>,
    /// By replica.
    others: Mutex<HashMap<String, ReplicaProgress>>,
}

#[derive(Debug)]
struct OwnProgress {
    progress: RunProgress,
    /// Observed of a run that has no process. Each replica observes for itself.
    is_observed: bool,
}

#[derive(Debug)]
struct ReplicaProgress {
    received_at: Instant,
    runs: HashMap<RunId, RunProgress>,
}

impl ReplicaProgress {
    fn is_current(&self, now: Instant) -> bool {
        now < self.received_at + REPLICA_LIFETIME
    }
}

/// One run in a message to other replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SharedProgress {
    pub run: RunId,
    #[serde(flatten)]
    pub progress: RunProgress,
}

impl Progress {
    /// Sets the progress of a run that this process executes.
    pub fn set(&self, run: RunId, percent: Option<u8>, label: String) {
        self.put(run, RunProgress { percent, label }, false);
    }

    /// Sets what this process observes of an interrupted run.
    pub fn set_observed(&self, run: RunId, progress: RunProgress) {
        self.put(run, progress, true);
    }

    fn put(&self, run: RunId, progress: RunProgress, is_observed: bool) {
        self.own.lock().insert(run, OwnProgress { progress, is_observed });
    }

    /// The progress of a run, by this process or by the replica that executes it.
    pub fn get(&self, run: RunId) -> Option<RunProgress> {
        self.get_at(run, Instant::now())
    }

    fn get_at(&self, run: RunId, now: Instant) -> Option<RunProgress> {
        if let Some(own) = self.own.lock().get(&run) {
            return Some(own.progress.clone());
        }
        let others = self.others.lock();
        let current = others.values().filter(|replica| replica.is_current(now));
        let newest = current
            .filter(|replica| replica.runs.contains_key(&run))
            .max_by_key(|replica| replica.received_at);
        newest.and_then(|replica| replica.runs.get(&run)).cloned()
    }

    /// The progress of the only run, for a process with one run.
    pub fn current(&self) -> Option<RunProgress> {
        self.own.lock().values().next().map(|own| own.progress.clone())
    }

    pub fn clear(&self, run: RunId) {
        self.own.lock().remove(&run);
    }

    /// What other replicas are told: the runs that this process executes.
    pub(super) fn to_share(&self) -> Vec<SharedProgress> {
        let own = self.own.lock();
        let executed = own.iter().filter(|(_, own)| !own.is_observed).take(MAX_RUNS);
        executed
            .map(|(run, own)| SharedProgress { run: *run, progress: bounded(own.progress.clone()) })
            .collect()
    }

    /// Replaces what is known of a replica's runs. Whoever can write to the shared server may have sent it: it is only shown.
    pub(super) fn receive(&self, replica: String, runs: Vec<SharedProgress>) {
        let now = Instant::now();
        let mut others = self.others.lock();
        others.retain(|_, known| known.is_current(now));
        if others.len() >= MAX_REPLICAS && !others.contains_key(&replica) {
            return;
        }
        let runs =
            runs.into_iter().take(MAX_RUNS).map(|shared| (shared.run, bounded(shared.progress))).collect();
        others.insert(replica, ReplicaProgress { received_at: now, runs });
    }
}

fn bounded(RunProgress { percent, label }: RunProgress) -> RunProgress {
    let is_shown = |character: &char| !character.is_control();
    RunProgress {
        percent: percent.map(|percent| percent.min(100)),
        label: label.chars().filter(is_shown).take(MAX_LABEL).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(run: RunId, percent: u8, label: &str) -> SharedProgress {
        SharedProgress { run, progress: RunProgress { percent: Some(percent), label: label.to_owned() } }
    }

    #[test]
    fn another_replicas_progress_is_shown_until_it_is_no_longer_repeated() {
        let progress = Progress::default();
        progress.receive("b".into(), vec![shared(7, 40, "copying")]);
        assert_eq!(progress.get(7), Some(shared(7, 40, "copying").progress));
        assert_eq!(progress.current(), None, "it is not this process' run");
        progress.set(7, Some(50), "checking".into());
        assert_eq!(progress.get(7), Some(shared(7, 50, "checking").progress), "its own goes first");
        progress.clear(7);
        assert_eq!(progress.get_at(7, Instant::now() + REPLICA_LIFETIME), None);
    }

    #[test]
    fn only_executed_runs_are_told_and_observed_ones_are_not() {
        let progress = Progress::default();
        progress.set(1, None, "copying".into());
        progress
            .set_observed(2, RunProgress { percent: None, label: "resumes after the freeze by ana".into() });
        let told: Vec<RunId> = progress.to_share().iter().map(|shared| shared.run).collect();
        assert_eq!(told, [1]);
    }

    #[test]
    fn a_forged_message_is_bounded() {
        let progress = Progress::default();
        progress.receive("b".into(), vec![shared(7, 255, &format!("a\n\u{1b}[2J{}", "x".repeat(1_000)))]);
        let shown = progress.get(7).expect("progress");
        assert_eq!((shown.percent, shown.label.chars().count()), (Some(100), MAX_LABEL));
        assert!(shown.label.starts_with("a[2Jxx"), "{}", shown.label);
        for replica in 0..100 {
            progress.receive(format!("r{replica}"), (0..1_000).map(|run| shared(run, 1, "")).collect());
        }
        let others = progress.others.lock();
        assert!(
            others.len() <= MAX_REPLICAS && others.values().all(|replica| replica.runs.len() <= MAX_RUNS)
        );
    }
}
