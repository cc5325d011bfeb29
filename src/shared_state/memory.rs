//! The state of one process, shared with no other: the default.

use super::{Changes, SharedState};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Turns in this process' memory. There is nobody to announce a change.
#[derive(Debug, Default)]
pub struct MemoryState {
    /// The time from which each key has a free turn; keys with one at once are removed.
    free_from: Mutex<HashMap<String, Instant>>,
    changes: watch::Sender<()>,
}

impl MemoryState {
    /// Reserves the key's first free turn that is a wait from now or later, and returns the whole wait.
    pub(super) fn reserve_after(&self, key: &str, interval: Duration, wait: Duration) -> Duration {
        self.reserve_at(key, interval, wait, Instant::now())
    }

    fn reserve_at(&self, key: &str, interval: Duration, wait: Duration, now: Instant) -> Duration {
        let mut free_from = self.free_from.lock();
        free_from.retain(|_, free| *free > now);
        let earliest = now + wait;
        let turn = free_from.get(key).map_or(earliest, |free| earliest.max(*free));
        free_from.insert(key.to_owned(), turn + interval);
        turn - now
    }

    /// Makes [`Changes`] return, as an announcement of another replica does.
    pub(super) fn note_change(&self) {
        self.changes.send_replace(());
    }
}

#[async_trait]
impl SharedState for MemoryState {
    async fn reserve_turn(&self, key: &str, interval: Duration) -> Duration {
        self.reserve_after(key, interval, Duration::ZERO)
    }

    fn announce_change(&self) {}

    fn changes(&self) -> Changes {
        Changes(self.changes.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn turns_of_a_key_lie_an_interval_apart_and_keys_do_not_wait_for_each_other() {
        let (state, now) = (MemoryState::default(), Instant::now());
        for (key, wait) in [("C1", 0), ("C1", 1), ("C2", 0), ("C1", 2)] {
            assert_eq!(state.reserve_at(key, SECOND, Duration::ZERO, now), wait * SECOND, "{key}");
        }
        assert_eq!(state.reserve_at("C1", SECOND, Duration::ZERO, now + 10 * SECOND), Duration::ZERO);
        assert_eq!(state.free_from.lock().len(), 1, "C2's turn is long past");
    }

    #[test]
    fn a_turn_taken_elsewhere_counts_here() {
        let (state, now) = (MemoryState::default(), Instant::now());
        assert_eq!(state.reserve_at("C1", SECOND, 5 * SECOND, now), 5 * SECOND);
        assert_eq!(state.reserve_at("C1", SECOND, Duration::ZERO, now), 6 * SECOND);
    }
}
