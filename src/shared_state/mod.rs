//! State that the replicas of one bot share and may lose at any moment: the pace of calls to a platform, announcements that the audit log
//! has changed, and the progress of running work. Losing it costs speed, never correctness: it decides nobody's access, no duplicate, no
//! lock and no run. Accounts, groups and conversations are not in it: whoever could write there would be let in by a forged entry.

use async_trait::async_trait;
use std::future::pending;
use std::time::Duration;
use tokio::sync::watch;

mod memory;
mod progress;
mod rate_limiter;
mod redis;

pub use memory::MemoryState;
pub use progress::{Progress, RunProgress};
pub use rate_limiter::RateLimiter;
pub use redis::{RedisObstacle, RedisState, check_redis};

/// Time between an announced change and the reaction to it: the replica that announced it sends its cards itself, and a burst of
/// announcements counts once.
const SETTLING_PERIOD: Duration = Duration::from_millis(100);

/// What the replicas share, in one process' memory or on a server.
#[async_trait]
pub trait SharedState: Send + Sync {
    /// Reserves the key's next turn, and returns the wait until then. Turns of a key lie `interval` apart, those of other replicas
    /// included. To be called again only after the turn: a reservation far ahead of its time is not believed.
    async fn reserve_turn(&self, key: &str, interval: Duration) -> Duration;

    /// Tells the other replicas that the audit log has changed. Never waits.
    fn announce_change(&self);

    /// The changes that other replicas announce from now on.
    fn changes(&self) -> Changes;
}

/// Announcements by other replicas that the audit log has changed.
#[derive(Debug)]
pub struct Changes(watch::Receiver<()>);

impl Changes {
    /// Waits for the next announcement, and a moment longer. Never ends where nobody announces any.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            return pending().await;
        }
        tokio::time::sleep(SETTLING_PERIOD).await;
        // What is announced meanwhile is acted on as well.
        self.0.mark_unchanged();
    }
}
