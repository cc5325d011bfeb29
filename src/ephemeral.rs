//! State in memory that may be lost: duplicate deliveries, cached answers. All of it is bounded, and none of it may be the
//! only copy of something that matters.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The ids of recent deliveries, so that one that a platform sends twice counts once.
#[derive(Debug)]
pub struct DuplicateFilter {
    retention: Duration,
    capacity: usize,
    recent: Mutex<RecentIds>,
}

#[derive(Debug, Default)]
struct RecentIds {
    ids: HashSet<String>,
    /// Each with its expiry, oldest first.
    order: VecDeque<(String, Instant)>,
}

impl DuplicateFilter {
    /// Remembers an id for `retention`, and `capacity` ids at most: the oldest goes first.
    pub fn new(retention: Duration, capacity: usize) -> Self {
        DuplicateFilter { retention, capacity, recent: Mutex::default() }
    }

    /// Remembers an id; `false` if it was remembered already.
    pub fn is_first(&self, id: &str) -> bool {
        self.is_first_at(id, Instant::now())
    }

    fn is_first_at(&self, id: &str, now: Instant) -> bool {
        let RecentIds { ids, order } = &mut *self.recent.lock();
        while let Some((expired, _)) = order.pop_front_if(|(_, until)| *until <= now) {
            ids.remove(&expired);
        }
        if ids.contains(id) {
            return false;
        }
        if order.len() >= self.capacity
            && let Some((oldest, _)) = order.pop_front()
        {
            ids.remove(&oldest);
        }
        ids.insert(id.to_owned());
        order.push_back((id.to_owned(), now + self.retention));
        true
    }
}

/// A value, and the time that it may be kept.
type Fetch<V, E> = Result<(V, Duration), E>;

/// Values that expire.
#[derive(Debug)]
pub struct TtlCache<V> {
    capacity: usize,
    entries: Mutex<HashMap<String, (Instant, V)>>,
    /// The fetches in flight of each key.
    fetches: Mutex<HashMap<String, Arc<FetchTurn<V>>>>,
}

/// The turn to fetch a key's value. Within it: the time at which the last fetch began, and its value, `None` after a failure.
type FetchTurn<V> = tokio::sync::Mutex<Option<(Instant, Option<V>)>>;

impl<V: Clone> TtlCache<V> {
    /// Holds `capacity` values at most.
    pub fn new(capacity: usize) -> Self {
        TtlCache { capacity, entries: Mutex::default(), fetches: Mutex::default() }
    }

    /// A value that has not expired.
    pub fn get(&self, key: &str) -> Option<V> {
        self.get_at(key, Instant::now())
    }

    /// Keeps a value until then. A full cache drops the value that expires first.
    pub fn put(&self, key: &str, value: V, until: Instant) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity
            && !entries.contains_key(key)
            && let Some(first) =
                entries.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone())
        {
            entries.remove(&first);
        }
        entries.insert(key.to_owned(), (until, value));
    }

    /// The cached value, or a fetched one, which is kept for the time beside it. Its lifetime counts from before the fetch.
    pub async fn get_or_fetch<E>(&self, key: &str, fetch: impl Future<Output = Fetch<V, E>>) -> Result<V, E> {
        match self.get(key) {
            Some(value) => Ok(value),
            None => self.share_fetch(key, None, fetch).await,
        }
    }

    /// Fetches a value and keeps it, even if one is cached.
    pub async fn refresh<E>(&self, key: &str, fetch: impl Future<Output = Fetch<V, E>>) -> Result<V, E> {
        self.share_fetch(key, Some(Instant::now()), fetch).await
    }

    /// Callers at the same time share one fetch, since platforms limit how often they are asked; a caller with `since` only one
    /// that began after it. Where the shared fetch fails, each fetches for itself.
    async fn share_fetch<E>(
        &self,
        key: &str,
        since: Option<Instant>,
        fetch: impl Future<Output = Fetch<V, E>>,
    ) -> Result<V, E> {
        let turn = Arc::clone(self.fetches.lock().entry(key.to_owned()).or_default());
        let mut last = Arc::clone(&turn).lock_owned().await;
        let is_fresh = |began_at: Instant| since.is_none_or(|since| began_at >= since);
        let shared = last.clone().filter(|(began_at, _)| is_fresh(*began_at));
        let result = match shared {
            Some((_, Some(value))) => {
                drop(last);
                Ok(value)
            }
            Some((_, None)) => {
                drop(last);
                self.fetch_and_put(key, fetch).await
            }
            None => {
                let began_at = Instant::now();
                *last = Some((began_at, None));
                let result = self.fetch_and_put(key, fetch).await;
                *last = Some((began_at, result.as_ref().ok().cloned()));
                drop(last);
                result
            }
        };
        drop(turn);
        self.fetches.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
        result
    }

    async fn fetch_and_put<E>(&self, key: &str, fetch: impl Future<Output = Fetch<V, E>>) -> Result<V, E> {
        let began_at = Instant::now();
        let (value, lifetime) = fetch.await?;
        self.put(key, value.clone(), began_at + lifetime);
        Ok(value)
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
    fn an_id_is_new_once_within_its_time() {
        let filter = DuplicateFilter::new(10 * SECOND, 100);
        let now = Instant::now();
        assert!(filter.is_first_at("a", now));
        assert!(!filter.is_first_at("a", now + 9 * SECOND));
        assert!(filter.is_first_at("a", now + 10 * SECOND));
    }

    #[test]
    fn the_set_is_bounded_and_forgets_the_oldest() {
        let filter = DuplicateFilter::new(10 * SECOND, 2);
        let now = Instant::now();
        assert!(filter.is_first_at("a", now));
        assert!(filter.is_first_at("b", now));
        assert!(filter.is_first_at("c", now));
        assert!(!filter.is_first_at("b", now), "a full set still knows its oldest");
        assert!(filter.recent.lock().ids.len() <= 2);
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

    #[test]
    fn a_full_cache_drops_one_value_and_that_one_expires_first() {
        let cache = TtlCache::new(3);
        let now = Instant::now();
        cache.put("a", 1, now + 600 * SECOND);
        cache.put("b", 1, now + 500 * SECOND);
        cache.put("expired", 1, now);
        cache.put("a", 2, now + 600 * SECOND);
        assert_eq!(cache.entries.lock().len(), 3, "a value that is replaced needs no room");
        cache.put("c", 1, now + 700 * SECOND);
        assert_eq!(["a", "b", "c", "expired"].map(|key| cache.get(key)), [Some(2), Some(1), Some(1), None]);
        cache.put("d", 1, now + 800 * SECOND);
        assert_eq!(["a", "b", "c", "d"].map(|key| cache.get(key)), [Some(2), None, Some(1), Some(1)]);
    }

    #[tokio::test]
    async fn a_value_is_fetched_only_if_none_is_cached() {
        let cache = TtlCache::new(3);
        let fetch = async |value| Ok::<_, ()>((value, SECOND));
        assert_eq!(cache.get_or_fetch("a", fetch(1)).await, Ok(1));
        assert_eq!(cache.get_or_fetch("a", fetch(2)).await, Ok(1));
        assert_eq!(cache.refresh("a", fetch(3)).await, Ok(3));
        assert_eq!(cache.get_or_fetch("b", async { Err("refused") }).await, Err("refused"));
        assert_eq!(cache.get("b"), None);
    }

    /// How often a value is fetched by callers that ask at the same time.
    async fn fetches(cache: &TtlCache<u8>, refresh: bool, result: Result<u8, &'static str>) -> usize {
        let count = std::cell::Cell::new(0);
        let callers = (0..5).map(|_| async {
            let fetch = async {
                count.set(count.get() + 1);
                tokio::task::yield_now().await;
                result.map(|value| (value, SECOND))
            };
            let fetched =
                if refresh { cache.refresh("a", fetch).await } else { cache.get_or_fetch("a", fetch).await };
            assert_eq!(fetched, result);
        });
        futures::future::join_all(callers).await;
        assert!(cache.fetches.lock().is_empty(), "nothing is kept of a fetch that is over");
        count.get()
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_a_fetch_that_began_after_they_asked() {
        let cache = TtlCache::new(3);
        assert_eq!(fetches(&cache, false, Err("refused")).await, 5, "an error is nobody else's");
        assert_eq!(fetches(&cache, false, Ok(1)).await, 1);
        assert_eq!(fetches(&cache, false, Ok(1)).await, 0, "it is cached");
        assert_eq!(fetches(&cache, true, Ok(2)).await, 2, "the first began before the others asked");
        assert_eq!(cache.get("a"), Some(2));
    }

    #[tokio::test]
    async fn a_fetch_that_began_before_the_question_is_not_current() {
        let cache = TtlCache::new(3);
        let (answer, answered) = tokio::sync::oneshot::channel();
        let old = cache.refresh("a", async {
            answered.await.unwrap();
            Ok::<_, ()>((1, SECOND))
        });
        let new = cache.refresh("a", async { Ok::<_, ()>((2, SECOND)) });
        let (old, new, ()) = futures::join!(old, new, async { answer.send(()).unwrap() });
        assert_eq!((old, new), (Ok(1), Ok(2)));
        assert_eq!(cache.get("a"), Some(2));
    }
}
