//! This process among those that share the store: it registers, beats, and marks another as dead whose counter stood still for a
//! while on this machine's own clock, as leader elections do. No clock of another machine is compared.

use super::schema;
use super::session::{CallError, CallResult, SessionSlot};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Time between two beats.
const BEAT_INTERVAL: Duration = Duration::from_secs(2);

/// An instance whose counter stands still for this long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(20);

/// Two looks that lie further apart than this don't belong together: this process was paused, or the store was away.
const LONGEST_GAP: Duration = Duration::from_secs(7);

/// Time since the machine was started, its sleep included: CLOCK_BOOTTIME, in hundredths of a second (proc_uptime(5)).
fn boot_time() -> CallResult<Duration> {
    let unreadable = || CallError::Message("the machine's clock can't be read".to_owned());
    let text = std::fs::read_to_string("/proc/uptime").map_err(|_| unreadable())?;
    let seconds = text.split(' ').next().and_then(|seconds| seconds.parse().ok()).ok_or_else(unreadable)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| unreadable())
}

/// The counters of other instances, as this one sees them over time. Times are the boot clock's.
#[derive(Debug, Default)]
struct BeatWatch {
    /// Counter, and the time at which it was first seen so.
    counters: HashMap<String, (i64, Duration)>,
    /// Start of the looks that follow each other without a gap.
    since: Duration,
    last: Option<Duration>,
}

impl BeatWatch {
    /// Takes the others' counters in, and returns those that stood still for too long.
    fn observe(&mut self, now: Duration, others: Vec<(String, i64)>) -> Vec<(String, i64)> {
        if self.last.is_none_or(|last| now.saturating_sub(last) > LONGEST_GAP) {
            self.since = now;
        }
        self.last = Some(now);
        let mut counters = HashMap::new();
        let mut dead = Vec::new();
        for (id, beat) in others {
            let first_seen = match self.counters.get(&id) {
                Some((known, first_seen)) if *known == beat => *first_seen,
                _ => now,
            };
            if now.saturating_sub(first_seen.max(self.since)) >= DEAD_AFTER {
                dead.push((id.clone(), beat));
            }
            counters.insert(id, (beat, first_seen));
        }
        self.counters = counters;
        dead
    }
}

/// This process.
pub(super) struct RegisteredInstance {
    id: RwLock<String>,
    slot: Arc<SessionSlot>,
    /// The version of the schema that this program knows.
    known_version: i32,
}

impl RegisteredInstance {
    /// Registers under a new id.
    pub async fn register(slot: Arc<SessionSlot>, known_version: i32) -> CallResult<RegisteredInstance> {
        let id = new_id()?;
        let sql = "DELETE FROM countersign.instances i WHERE i.is_dead AND NOT EXISTS (
                       SELECT FROM countersign.runs r WHERE r.owner = i.id AND r.state IN ('pending', 'approved', 'running'))";
        slot.query(sql, &[]).await?;
        slot.query("INSERT INTO countersign.instances (id) VALUES ($1) ON CONFLICT DO NOTHING", &[&id])
            .await?;
        Ok(RegisteredInstance { id: RwLock::new(id), slot, known_version })
    }

    pub fn id(&self) -> String {
        self.id.read().clone()
    }

    /// False once another has marked this instance as dead, until it registers again.
    ///
    /// # Errors
    /// Also if a newer program has made the schema unusable for this one.
    pub async fn is_alive(&self) -> CallResult<bool> {
        let sql = "SELECT v.version, v.usable_from, EXISTS (SELECT FROM countersign.instances WHERE id = $1 AND NOT is_dead)
                     FROM countersign.schema_versions v ORDER BY v.version DESC LIMIT 1";
        let rows = self.slot.query(sql, &[&self.id()]).await?;
        let row = rows.first().ok_or(CallError::Lost)?;
        let (version, usable_from): (i32, i32) = (row.get(0)?, row.get(1)?);
        if usable_from > self.known_version {
            return Err(schema::refusal(version, self.known_version));
        }
        Ok(row.get(2)?)
    }

    /// Beats until it is dropped.
    pub async fn beat(self: Arc<Self>) {
        let mut watch = BeatWatch::default();
        let mut interval = tokio::time::interval(BEAT_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = self.beat_once(&mut watch).await {
                tracing::warn!(?error, "this instance could not tell the store that it is alive");
            }
        }
    }

    async fn beat_once(&self, watch: &mut BeatWatch) -> CallResult<()> {
        let id = self.id();
        let sql =
            "UPDATE countersign.instances SET beat = beat + 1 WHERE id = $1 AND NOT is_dead RETURNING id";
        let is_alive = !self.slot.query(sql, &[&id]).await?.is_empty();
        self.mark_dead(&id, watch).await?;
        if is_alive { Ok(()) } else { self.replace(&id).await }
    }

    /// Marks the others as dead whose counters stood still for too long.
    async fn mark_dead(&self, id: &str, watch: &mut BeatWatch) -> CallResult<()> {
        let sql = "SELECT id, beat FROM countersign.instances WHERE NOT is_dead AND id <> $1";
        let rows = self.slot.query(sql, &[&id]).await?;
        let others: Result<Vec<(String, i64)>, CallError> =
            rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect();
        for (dead, beat) in watch.observe(boot_time()?, others?) {
            tracing::warn!(instance = dead, "an instance is taken for dead");
            self.slot.query("SELECT countersign.mark_dead($1, $2)", &[&dead, &beat]).await?;
        }
        Ok(())
    }

    /// Registers again after another has marked this instance as dead. While others live, they close its runs first: nothing that it
    /// began may continue. If none lives, it closes them itself, as those of a dead instance.
    async fn replace(&self, old: &str) -> CallResult<()> {
        let id = new_id()?;
        let sql = "INSERT INTO countersign.instances (id) SELECT $1 WHERE NOT EXISTS (
                       SELECT FROM countersign.runs WHERE owner = $2 AND state IN ('approved', 'running'))
                       OR NOT EXISTS (SELECT FROM countersign.instances WHERE NOT is_dead) RETURNING id";
        if !self.slot.query(sql, &[&id, &old]).await?.is_empty() {
            tracing::warn!(instance = old, "this instance was taken for dead and registers under a new id");
            *self.id.write() = id;
        }
        Ok(())
    }
}

fn new_id() -> CallResult<String> {
    let no_random = || CallError::Message("the system has no random numbers".to_owned());
    crate::model::random_token().ok_or_else(no_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn observe(watch: &mut BeatWatch, at: u64, beat: i64) -> bool {
        !watch.observe(seconds(at), vec![("other".to_owned(), beat)]).is_empty()
    }

    #[test]
    fn a_counter_that_stands_still_for_twenty_seconds_is_dead() {
        let mut watch = BeatWatch::default();
        assert!(!(100..=120).step_by(2).any(|at| observe(&mut watch, at, i64::from(at < 104))));
        assert!(!observe(&mut watch, 122, 0));
        assert!(observe(&mut watch, 124, 0), "it last changed at 104");
        assert!(!observe(&mut watch, 126, 9), "it beats again");
    }

    #[test]
    fn a_gap_of_this_instances_own_starts_the_time_anew() {
        for gap in [8, 30, 3_600] {
            let mut watch = BeatWatch::default();
            assert!(!(100..=118).step_by(2).any(|at| observe(&mut watch, at, 1)));
            let resumed = 118 + gap;
            assert!(!(resumed..resumed + 20).step_by(2).any(|at| observe(&mut watch, at, 1)), "{gap}");
            assert!(observe(&mut watch, resumed + 20, 1), "{gap}");
        }
    }

    #[test]
    fn the_boot_clock_goes_forward() {
        let before = boot_time().unwrap();
        assert!(before > Duration::ZERO && boot_time().unwrap() >= before);
        assert!(before < seconds(20 * 366 * 86_400), "a wall clock, which others set");
    }
}
