//! The state on a Redis server. Every call has a short time limit. After a failure this process' memory takes over at once, and a task
//! connects again in the background, so that nobody waits for a server that is gone, hangs, is full, or has become a replica.
//!
//! On the server are, below the prefix: a key for each turn taken, which expires with it, the key of the check, and two channels. None of
//! them has query text, a plan or a person in it. Whoever can write there can slow messages down by up to [`LONGEST_WAIT`] each, wake
//! replicas ten times a second, and show false progress: nothing else.

use super::{Changes, MemoryState, Progress, SharedState};
use crate::config::RedisSettings;
use crate::model::random_token;
use anyhow::Context;
use async_trait::async_trait;
use link::RedisLink;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

mod connect;
mod link;
mod obstacle;

use connect::RedisConnector;
pub use obstacle::RedisObstacle;

/// A turn that is further away is not believed: after a failover the new server's clock may differ from the old one's.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The state on a Redis server, with this process' memory in its place while the server doesn't answer.
pub struct RedisState {
    memory: Arc<MemoryState>,
    link: Arc<RedisLink>,
    _task: AbortOnDropHandle<()>,
}

impl RedisState {
    /// Begins to connect, and doesn't wait for it. `progress` is told to the other replicas, and receives theirs.
    ///
    /// # Errors
    /// The certificates can't be used, or the system has no random numbers.
    pub fn start(settings: &RedisSettings, progress: Arc<Progress>) -> anyhow::Result<RedisState> {
        let connector = RedisConnector::new(settings)?;
        let replica = random_token().context("asking the system for randomness")?;
        let memory = Arc::new(MemoryState::default());
        let link =
            Arc::new(RedisLink::new(replica, settings.key_prefix.clone(), Arc::clone(&memory), progress));
        let task = tokio::spawn(Arc::clone(&link).keep_up(connector));
        Ok(RedisState { memory, link, _task: AbortOnDropHandle::new(task) })
    }
}

#[async_trait]
impl SharedState for RedisState {
    async fn reserve_turn(&self, key: &str, interval: Duration) -> Duration {
        let wait = self.link.reserve_turn(key, interval).await.unwrap_or_default();
        // Counted in memory as well, so that the pace holds when the server is lost.
        self.memory.reserve_after(key, interval, wait)
    }

    fn announce_change(&self) {
        self.link.announce_change();
    }

    fn changes(&self) -> Changes {
        self.memory.changes()
    }
}

/// Checks that the server, or the master that a Sentinel names, takes what a bot asks of it. Waits a few seconds at most.
///
/// # Errors
/// The obstacle.
pub async fn check_redis(settings: &RedisSettings) -> Result<(), RedisObstacle> {
    let connector =
        RedisConnector::new(settings).map_err(|error| RedisObstacle::Tls(format!("{error:#}")))?;
    let ignored = |_| Ok::<(), std::convert::Infallible>(());
    let connection = connector.open(&settings.key_prefix, ignored).await?;
    link::reserve(connection, &format!("{}:check-turn", settings.key_prefix), Duration::from_secs(1)).await?;
    Ok(())
}
