//! Pacing of calls to a platform.

use super::{MemoryState, SharedState};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Limits each key to one call an interval, in the order of asking, over all replicas that share a state.
pub struct RateLimiter {
    /// Distinguishes its keys from those of other limiters.
    scope: &'static str,
    interval: Duration,
    shared: OnceLock<Arc<dyn SharedState>>,
    /// Those who wait for a turn of each key. Only the first of a queue reserves one, so that no replica holds turns far ahead.
    queues: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl RateLimiter {
    /// `interval` is the shortest time between two turns of one key. `scope` names what is limited: "slack-messages".
    pub fn new(scope: &'static str, interval: Duration) -> Self {
        RateLimiter { scope, interval, shared: OnceLock::new(), queues: Mutex::default() }
    }

    /// Counts the turns that other replicas take, from now on.
    pub fn share(&self, shared: &Arc<dyn SharedState>) {
        self.shared.get_or_init(|| Arc::clone(shared));
    }

    /// Waits for this key's next turn.
    pub async fn wait_turn(&self, key: &str) {
        let queue = Arc::clone(self.queues.lock().entry(key.to_owned()).or_default());
        let first = queue.lock_owned().await;
        let shared = self.shared.get_or_init(|| Arc::new(MemoryState::default()));
        let wait = shared.reserve_turn(&format!("{}:{key}", self.scope), self.interval).await;
        tokio::time::sleep(wait).await;
        drop(first);
        self.queues.lock().retain(|_, queue| Arc::strong_count(queue) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const INTERVAL: Duration = Duration::from_millis(30);

    /// Time from the beginning to each caller's turn.
    async fn turns(limiters: &[&RateLimiter], callers: usize) -> Vec<Duration> {
        let began = Instant::now();
        let turns = (0..callers).map(|caller| async move {
            limiters[caller % limiters.len()].wait_turn("C1").await;
            began.elapsed()
        });
        futures::future::join_all(turns).await
    }

    fn lie_apart(turns: &[Duration]) -> bool {
        let places = turns.iter().zip(0_u32..);
        places.into_iter().all(|(turn, place)| *turn >= place * INTERVAL)
    }

    #[tokio::test]
    async fn callers_have_their_turns_in_the_order_of_asking() {
        let limiter = RateLimiter::new("test", INTERVAL);
        let turns = turns(&[&limiter], 4).await;
        assert!(turns.is_sorted() && lie_apart(&turns), "{turns:?}");
        assert!(limiter.queues.lock().is_empty(), "nothing is kept of a queue that is empty");
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_leaves_the_queue() {
        let limiter = RateLimiter::new("test", Duration::from_secs(600));
        limiter.wait_turn("C1").await;
        let gives_up = tokio::time::timeout(INTERVAL, limiter.wait_turn("C1")).await;
        assert!(gives_up.is_err());
        let queue = Arc::clone(&limiter.queues.lock()["C1"]);
        assert!(queue.try_lock().is_ok(), "it holds up the next");
    }

    #[tokio::test]
    async fn two_limiters_with_one_state_keep_one_pace() {
        let shared: Arc<dyn SharedState> = Arc::new(MemoryState::default());
        let limiters = [RateLimiter::new("test", INTERVAL), RateLimiter::new("test", INTERVAL)];
        limiters.iter().for_each(|limiter| limiter.share(&shared));
        let mut turns = turns(&limiters.each_ref(), 4).await;
        turns.sort();
        assert!(lie_apart(&turns), "{turns:?}");
    }
}
