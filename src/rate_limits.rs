//! The times before which a platform asked not to be called. They hold for every call of the process, and, kept in the store, for the
//! process that follows it.

use crate::store::Store;
use jiff::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Shorter waits are over before another process has started.
const SHORTEST_KEPT: Duration = Duration::from_secs(3);

/// Limit for reading the kept times: a store that hangs must not hold up the chat.
const LOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// The waits that one platform asked for, by method, or by method and place: "POST activities", "POST activities in 19:…".
pub struct RateLimits {
    /// Platform and workspace.
    scope: String,
    until: Mutex<HashMap<String, Timestamp>>,
    store: OnceLock<Arc<dyn Store>>,
    loaded: OnceCell<()>,
}

impl RateLimits {
    /// `scope` names the platform and the workspace that the limits are for.
    pub fn new(scope: String) -> Arc<RateLimits> {
        let (until, store, loaded) = Default::default();
        Arc::new(RateLimits { scope, until, store, loaded })
    }

    /// Keeps the limits in the store from now on, and reads those of an earlier process before the first call.
    pub fn keep_in(&self, store: &Arc<dyn Store>) {
        self.store.get_or_init(|| Arc::clone(store));
    }

    /// The time for which a method must not be called yet.
    pub async fn remaining(&self, method: &str) -> Duration {
        if let Some(store) = self.store.get() {
            // A failure is ignored: the next call reads them again.
            let _ = self.loaded.get_or_try_init(|| self.load(store)).await;
        }
        let now = Timestamp::now();
        let until = self.until.lock().get(method).copied().filter(|until| *until > now);
        until.map_or(Duration::ZERO, |until| until.duration_since(now).unsigned_abs())
    }

    /// Notes that the platform asked to wait for so long.
    pub fn note(&self, method: &str, wait: Duration) {
        let now = Timestamp::now();
        let Ok(until) = now.checked_add(wait) else { return };
        let is_later = {
            let mut limits = self.until.lock();
            limits.retain(|_, until| *until > now);
            let is_later = limits.get(method).is_none_or(|known| *known < until);
            if is_later {
                limits.insert(method.to_owned(), until);
            }
            is_later
        };
        let kept = self.store.get().filter(|_| is_later && wait >= SHORTEST_KEPT);
        if let Some(store) = kept.cloned() {
            let name = format!("{}/{method}", self.scope);
            tracing::warn!(limit = name, seconds = wait.as_secs(), "chat platform asks to wait");
            tokio::spawn(async move {
                if let Err(error) = store.set_rate_limit(name, until).await {
                    tracing::warn!(%error, "keeping rate limit failed");
                }
            });
        }
    }

    /// As [`RateLimits::remaining`], where a platform limits a method in each place, such as a conversation, and in all together.
    pub async fn remaining_in(&self, place: &str, method: &str) -> Duration {
        self.remaining(method).await.max(self.remaining(&in_place(method, place)).await)
    }

    /// As [`RateLimits::note`], for one place. The platform doesn't say which limit it is: if a second place has to wait at the same
    /// time, it is taken for that of all.
    pub fn note_in(&self, place: &str, method: &str, wait: Duration) {
        let (name, prefix) = (in_place(method, place), in_place(method, ""));
        let now = Timestamp::now();
        let is_other = |(known, until): (&String, &Timestamp)| {
            known.starts_with(&prefix) && *known != name && *until > now
        };
        let are_others_limited = self.until.lock().iter().any(is_other);
        self.note(if are_others_limited { method } else { &name }, wait);
    }

    async fn load(&self, store: &Arc<dyn Store>) -> anyhow::Result<()> {
        let kept = tokio::time::timeout(LOAD_TIMEOUT, store.rate_limits()).await??;
        let mut limits = self.until.lock();
        for (name, until) in kept {
            let method = name.strip_prefix(&self.scope).and_then(|rest| rest.strip_prefix('/'));
            if let Some(method) = method {
                let known = limits.entry(method.to_owned()).or_insert(until);
                *known = until.max(*known);
            }
        }
        Ok(())
    }
}

fn in_place(method: &str, place: &str) -> String {
    format!("{method} in {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_waits_alone_and_two_at_the_same_time_make_all_wait() {
        let limits = RateLimits::new("teams".to_owned());
        let minute = Duration::from_secs(60);
        let waits = async |place: &str| !limits.remaining_in(place, "POST activities").await.is_zero();
        limits.note_in("19:a", "POST activities", minute);
        limits.note_in("19:a", "POST activities", 2 * minute);
        assert!(waits("19:a").await && !waits("19:b").await && !waits("19:").await);
        limits.note_in("19:b", "PUT activities", minute);
        assert!(!waits("19:b").await, "another method");
        limits.note_in("19:c", "POST activities", minute);
        assert!(waits("19:c").await && waits("19:b").await);
        assert!(!limits.remaining_in("19:b", "PUT activities").await.is_zero());
        assert!(limits.remaining_in("19:c", "PUT activities").await.is_zero());
    }
}
