//! The connection to Redis, kept up in the background, and what goes over it.

use super::connect::{RedisConnector, check_writable};
use super::obstacle::RedisObstacle;
use super::{LONGEST_WAIT, MemoryState, Progress};
use crate::shared_state::progress::SharedProgress;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, PushInfo, PushKind, RedisResult};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

/// Limit of every call: what is shared is not worth a longer wait.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(250);

/// Time between a failure and the next attempt to connect.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Progress is told this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The server is asked for a write this often: a connection that nothing is sent over can be dead for hours.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of a message of another replica: more than a hundred runs with the longest labels need.
const MAX_MESSAGE: usize = 128 * 1024;

/// Takes the turn KEYS[1] that is next, ARGV[1] ms after the one before, and returns the wait until then in ms. The key lives until the
/// turn after that is free, so that the server's own clock decides. A wait of more than ARGV[2] ms, or a key that never expires, is not
/// ours. One key, so that it runs on any node of a cluster.
const RESERVE_TURN: &str = "local wait = math.max(redis.call('PTTL', KEYS[1]), 0)
if wait > tonumber(ARGV[2]) then wait = 0 end
redis.call('SET', KEYS[1], '', 'PX', wait + ARGV[1])
return wait";

/// The channels of the replicas.
pub(super) struct Channels {
    /// A change of the audit log: the replica that made it.
    pub change: String,
    /// A [`ProgressMessage`].
    pub progress: String,
}

impl Channels {
    pub fn new(prefix: &str) -> Channels {
        Channels { change: format!("{prefix}:change"), progress: format!("{prefix}:progress") }
    }
}

/// The progress of all runs that a replica executes.
#[derive(Serialize, Deserialize)]
struct ProgressMessage {
    replica: String,
    runs: Vec<SharedProgress>,
}

/// The result of a call, or that it took too long.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = RedisResult<T>>,
) -> Result<T, RedisObstacle> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(RedisObstacle::TimedOut),
    }
}

/// Takes the next turn of a key, and returns the wait until then.
pub(super) async fn reserve(
    mut connection: MultiplexedConnection,
    key: &str,
    interval: Duration,
) -> Result<Duration, RedisObstacle> {
    let mut script = redis::cmd("EVAL");
    script
        .arg(RESERVE_TURN)
        .arg(1)
        .arg(key)
        .arg(interval.as_millis() as u64)
        .arg(LONGEST_WAIT.as_millis() as u64);
    let wait: u64 = within(CALL_TIMEOUT, script.query_async(&mut connection)).await?;
    Ok(Duration::from_millis(wait).min(LONGEST_WAIT))
}

/// A connection, and where its failure is reported.
#[derive(Clone)]
struct OpenConnection {
    connection: MultiplexedConnection,
    failure: mpsc::Sender<RedisObstacle>,
}

/// The connection of this process, and both ends of what goes over it.
pub(super) struct RedisLink {
    /// Names this process in its messages, whose own it ignores.
    replica: String,
    prefix: String,
    /// `None` while the server can't be used: callers continue without it at once.
    connection: Mutex<Option<OpenConnection>>,
    announced: Notify,
    memory: Arc<MemoryState>,
    progress: Arc<Progress>,
}

impl RedisLink {
    pub fn new(
        replica: String,
        prefix: String,
        memory: Arc<MemoryState>,
        progress: Arc<Progress>,
    ) -> RedisLink {
        let (connection, announced) = Default::default();
        RedisLink { replica, prefix, connection, announced, memory, progress }
    }

    /// The wait until the key's next turn; `None` while the server can't be used.
    pub async fn reserve_turn(&self, key: &str, interval: Duration) -> Option<Duration> {
        let OpenConnection { connection, failure } = self.connection.lock().clone()?;
        match reserve(connection, &format!("{}:turn:{key}", self.prefix), interval).await {
            Ok(wait) => Some(wait),
            Err(obstacle) => {
                // The next caller doesn't wait for it as well.
                *self.connection.lock() = None;
                // Full: another caller has reported it.
                let _ = failure.try_send(obstacle);
                None
            }
        }
    }

    pub fn announce_change(&self) {
        self.announced.notify_one();
    }

    /// Connects, again and again, until it is dropped. Logs once that the server is lost, and once that it is back.
    pub async fn keep_up(self: Arc<Self>, connector: RedisConnector) {
        let mut lost = None;
        loop {
            let (failure, failed) = mpsc::channel(1);
            let obstacle = match connector.open(&self.prefix, self.receiver(failure.clone())).await {
                Ok(connection) => {
                    tracing::info!(lost = ?lost.take(), "connected to Redis");
                    *self.connection.lock() =
                        Some(OpenConnection { connection: connection.clone(), failure });
                    let Err(obstacle) = self.exchange(connection, failed).await;
                    *self.connection.lock() = None;
                    obstacle
                }
                Err(obstacle) => obstacle,
            };
            if lost.is_none() {
                tracing::warn!(error = %obstacle, "using Redis failed; this replica keeps its own pace until Redis answers");
            }
            lost.get_or_insert(obstacle);
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Sends what this process has to tell, until the connection fails.
    async fn exchange(
        &self,
        mut connection: MultiplexedConnection,
        mut failed: mpsc::Receiver<RedisObstacle>,
    ) -> Result<Infallible, RedisObstacle> {
        let channels = Channels::new(&self.prefix);
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        let mut has_told_progress = false;
        let mut beat = tokio::time::interval(PROGRESS_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Changes may have been missed meanwhile, here and at the others.
        self.memory.note_change();
        self.announce_change();
        loop {
            tokio::select! {
                Some(obstacle) = failed.recv() => return Err(obstacle),
                () = self.announced.notified() => {
                    publish(&mut connection, &channels.change, &self.replica).await?;
                }
                _ = beat.tick() => {
                    let runs = self.progress.to_share();
                    let has_progress = !runs.is_empty();
                    // An empty list, once, takes back the last progress.
                    if has_progress || has_told_progress {
                        let message = ProgressMessage { replica: self.replica.clone(), runs };
                        let message = serde_json::to_string(&message).unwrap_or_default();
                        publish(&mut connection, &channels.progress, &message).await?;
                    }
                    has_told_progress = has_progress;
                    if Instant::now() >= next_check {
                        check_writable(&mut connection, &self.prefix).await?;
                        next_check = Instant::now() + CHECK_INTERVAL;
                    }
                }
            }
        }
    }

    /// Receives what the server pushes.
    fn receiver(
        self: &Arc<Self>,
        failure: mpsc::Sender<RedisObstacle>,
    ) -> impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + use<> {
        let link = Arc::downgrade(self);
        let channels = Channels::new(&self.prefix);
        move |push: PushInfo| {
            let Some(link) = link.upgrade() else { return Ok(()) };
            match push.kind {
                PushKind::Disconnection => {
                    let _ = failure.try_send(RedisObstacle::Network("the connection was closed".to_owned()));
                }
                PushKind::Message => link.receive(&channels, push.data),
                _ => {}
            }
            Ok(())
        }
    }

    fn receive(&self, channels: &Channels, data: Vec<redis::Value>) {
        let texts = data.into_iter().map(String::from_redis_value);
        let Ok([channel, message]) = <[String; 2]>::try_from(texts.flatten().collect::<Vec<_>>()) else {
            return;
        };
        if channel == channels.change && message != self.replica {
            self.memory.note_change();
        }
        if channel != channels.progress || message.len() > MAX_MESSAGE {
            return;
        }
        match serde_json::from_str(&message) {
            Ok(ProgressMessage { replica, runs }) if replica != self.replica => {
                self.progress.receive(replica, runs);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a message on Redis isn't a replica's"),
        }
    }
}

async fn publish(
    connection: &mut MultiplexedConnection,
    channel: &str,
    message: &str,
) -> Result<(), RedisObstacle> {
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(channel).arg(message);
    within(CALL_TIMEOUT, publish.exec_async(connection)).await
}
