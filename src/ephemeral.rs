//! What replicas share and may lose: pacing, duplicate deliveries, short-lived answers. In memory, bounded. Nothing here may
//! be the only copy of something that matters.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Lets one through per key and interval, in the order of asking.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    /// The turn given out last, per key; a turn that lies an interval back is as good as none.
    last: Mutex<HashMap<String, Instant>>,
}

impl RateLimiter {
    pub fn new(interval: Duration) -> Self {
        RateLimiter { interval, last: Mutex::default() }
    }

    /// Waits for this key's next turn.
    pub async fn turn(&self, key: &str) {
        tokio::time::sleep_until(self.reserve(key, Instant::now())).await;
    }

    /// When the next turn is; it counts as taken.
    fn reserve(&self, key: &str, now: Instant) -> Instant {
        let mut last = self.last.lock();
        last.retain(|_, turn| *turn + self.interval > now);
        let turn = last.get(key).map_or(now, |turn| *turn + self.interval);
        last.insert(key.to_owned(), turn);
        turn
    }
}

/// The deliveries of the last while: a platform that sends one twice is heard once.
#[derive(Debug)]
pub struct DuplicateFilter {
    keep: Duration,
    capacity: usize,
    seen: Mutex<SeenIds>,
}

#[derive(Debug, Default)]
struct SeenIds {
    until: HashMap<String, Instant>,
    order: VecDeque<String>,
}

impl DuplicateFilter {
    /// Remembers an id for `keep`, and `capacity` ids at most: the oldest goes first.
    pub fn new(keep: Duration, capacity: usize) -> Self {
        DuplicateFilter { keep, capacity, seen: Mutex::default() }
    }

    /// Whether this id is new; from now on it isn't.
    pub fn first_time(&self, id: &str) -> bool {
        self.first_time_at(id, Instant::now())
    }

    fn first_time_at(&self, id: &str, now: Instant) -> bool {
        let seen = &mut *self.seen.lock();
        let over = |id: &String| seen.until.get(id).is_none_or(|until| *until <= now);
        let gone = seen.order.iter().take_while(|id| over(id)).count();
        for id in seen.order.drain(..gone) {
            seen.until.remove(&id);
        }
        if seen.until.contains_key(id) {
            return false;
        }
        if seen.order.len() >= self.capacity
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.until.remove(&oldest);
        }
        seen.until.insert(id.to_owned(), now + self.keep);
        seen.order.push_back(id.to_owned());
        true
    }
}

/// Values that are good for a while.
#[derive(Debug)]
pub struct TtlCache<V> {
    capacity: usize,
    entries: Mutex<HashMap<String, (Instant, V)>>,
}

impl<V: Clone> TtlCache<V> {
    /// Holds `capacity` values at most: when full of fresh ones it starts anew.
    pub fn new(capacity: usize) -> Self {
        TtlCache { capacity, entries: Mutex::default() }
    }

    pub fn get(&self, key: &str) -> Option<V> {
        self.get_at(key, Instant::now())
    }

    /// Keeps a value until then.
    pub fn put(&self, key: &str, value: V, until: Instant) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity {
            let now = Instant::now();
            entries.retain(|_, (until, _)| *until > now);
            if entries.len() >= self.capacity {
                entries.clear();
            }
        }
        entries.insert(key.to_owned(), (until, value));
    }

    fn get_at(&self, key: &str, now: Instant) -> Option<V> {
        let entries = self.entries.lock();
        entries.get(key).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn turns_of_a_key_lie_an_interval_apart_and_keys_do_not_wait_for_each_other() {
        let pacer = RateLimiter::new(SECOND);
        let now = Instant::now();
        assert_eq!(pacer.reserve("C1", now), now);
        assert_eq!(pacer.reserve("C1", now), now + SECOND);
        assert_eq!(pacer.reserve("C1", now), now + 2 * SECOND);
        assert_eq!(pacer.reserve("C2", now), now);
        assert_eq!(pacer.reserve("C1", now + 10 * SECOND), now + 10 * SECOND);
        assert_eq!(pacer.last.lock().len(), 1, "C2's turn is long past");
    }

    #[test]
    fn an_id_is_new_once_within_its_time() {
        let recent = DuplicateFilter::new(10 * SECOND, 100);
        let now = Instant::now();
        assert!(recent.first_time_at("a", now));
        assert!(!recent.first_time_at("a", now + 9 * SECOND));
        assert!(recent.first_time_at("a", now + 10 * SECOND));
    }

    #[test]
    fn the_set_is_bounded_and_forgets_the_oldest() {
        let recent = DuplicateFilter::new(10 * SECOND, 2);
        let now = Instant::now();
        assert!(recent.first_time_at("a", now));
        assert!(recent.first_time_at("b", now));
        assert!(recent.first_time_at("c", now));
        assert!(!recent.first_time_at("b", now), "a full set still knows its oldest");
        assert!(recent.seen.lock().until.len() <= 2);
    }

    #[test]
    fn a_value_is_good_until_its_time_and_the_cache_is_bounded() {
        let cache = TtlCache::new(2);
        let now = Instant::now();
        cache.put("a", 1, now + 5 * SECOND);
        assert_eq!(cache.get_at("a", now + 4 * SECOND), Some(1));
        assert_eq!(cache.get_at("a", now + 5 * SECOND), None);
        for key in ["b", "c", "d"] {
            cache.put(key, 2, now + 500 * SECOND);
        }
        assert!(cache.entries.lock().len() <= 2);
        assert_eq!(cache.get("d"), Some(2));
    }
}
