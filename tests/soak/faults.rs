//! The faults: replicas are killed and paused, the audit log's primary is lost, Redis is flushed, stopped and failed over, and the target
//! keeps runs waiting.

use crate::dice::Dice;
use crate::scene::{REPLICAS, Scene};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Replicas that may be away at the same time.
const MOST_AWAY: usize = REPLICAS - 1;

#[derive(Debug, Default)]
pub struct Counts {
    pub kills: AtomicUsize,
    pub pauses: AtomicUsize,
    pub failovers: AtomicUsize,
    pub redis_flushes: AtomicUsize,
    pub redis_stops: AtomicUsize,
    pub redis_failovers: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub struct Faults {
    scene: Arc<Scene>,
    away: Semaphore,
    pub counts: Counts,
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Faults {
    pub fn new(scene: &Arc<Scene>) -> Faults {
        Faults { scene: Arc::clone(scene), away: Semaphore::new(MOST_AWAY), counts: Counts::default() }
    }

    /// Kills a replica and starts it again after that time.
    pub async fn kill(&self, replica: usize, away: Duration) {
        let mut replica = self.scene.replicas[replica].lock().await;
        replica.kill().await;
        count(&self.counts.kills);
        sleep(away).await;
        replica.start().await;
    }

    pub async fn pause(&self, replica: usize, away: Duration) {
        let replica = self.scene.replicas[replica].lock().await;
        replica.pause();
        count(&self.counts.pauses);
        sleep(away).await;
        replica.resume();
    }

    /// Loses the primary of the audit log and promotes its replica. Until the new primary has one, after that time, no commit is
    /// answered.
    pub async fn fail_over(&self, without_replica: Duration) {
        let mut record = self.scene.record.lock().await;
        record.fail_over().await;
        count(&self.counts.failovers);
        sleep(without_replica).await;
        record.add_replica().await;
    }

    async fn flush_redis(&self) {
        let redis = self.scene.redis.lock().await;
        let _: String = redis.primary().await.command(&["FLUSHALL"]).await;
        count(&self.counts.redis_flushes);
    }

    /// Stops both servers of Redis, and starts them after that time.
    async fn stop_redis(&self, away: Duration) {
        let mut redis = self.scene.redis.lock().await;
        redis.stop();
        count(&self.counts.redis_stops);
        sleep(away).await;
        redis.start_again().await;
    }

    /// Loses the primary of Redis, whose replica is promoted, and starts it again.
    async fn fail_redis_over(&self) {
        let mut redis = self.scene.redis.lock().await;
        redis.lose_primary().await;
        count(&self.counts.redis_failovers);
        redis.start_again().await;
    }

    /// Keeps whoever counts waiting for that long.
    async fn hold_table(&self, period: Duration) {
        let holder = self.scene.superuser().await;
        holder.batch_execute("BEGIN; LOCK TABLE counted IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
        sleep(period).await;
        holder.batch_execute("COMMIT").await.expect("the lock's end");
    }

    /// The faults of `make test`: a replica that is killed, one that is paused until it is taken for dead, and the failovers.
    pub async fn few(&self) {
        let kill = async {
            sleep(seconds(2)).await;
            self.kill(1, seconds(1)).await;
        };
        let fail_over = async {
            sleep(seconds(6)).await;
            self.fail_over(Duration::ZERO).await;
        };
        let redis = async {
            sleep(seconds(4)).await;
            self.fail_redis_over().await;
        };
        let hold = async {
            for _ in 0..6 {
                sleep(seconds(2)).await;
                self.hold_table(seconds(1)).await;
            }
        };
        tokio::join!(self.pause(2, seconds(24)), kill, fail_over, redis, hold);
    }

    /// Random faults of every kind until then.
    pub async fn many(&self, until: Instant, seed: u64) {
        let replicas =
            (0..REPLICAS).map(|replica| self.disturb(replica, until, Dice::new(seed + replica as u64)));
        let hold = async {
            let mut dice = Dice::new(seed + 10);
            while Instant::now() < until {
                sleep(dice.between(seconds(2), seconds(10))).await;
                self.hold_table(dice.between(Duration::ZERO, seconds(1))).await;
            }
        };
        tokio::join!(
            futures::future::join_all(replicas),
            hold,
            self.fail_over_again(until, Dice::new(seed + 20)),
            self.disturb_redis(until, Dice::new(seed + 30)),
        );
    }

    async fn disturb(&self, replica: usize, until: Instant, mut dice: Dice) {
        loop {
            let wait = dice.between(seconds(5), seconds(30));
            if Instant::now() + wait > until {
                return;
            }
            sleep(wait).await;
            let _permit = self.away.acquire().await.expect("never closed");
            if dice.percent(50) {
                self.kill(replica, dice.between(Duration::ZERO, seconds(5))).await;
            } else {
                self.pause(replica, dice.between(seconds(5), seconds(60))).await;
            }
        }
    }

    /// Loses one primary after the other. The new one gets a replica, for which it is restarted.
    async fn fail_over_again(&self, until: Instant, mut dice: Dice) {
        loop {
            let wait = dice.between(seconds(45), seconds(90));
            if Instant::now() + wait > until {
                return;
            }
            sleep(wait).await;
            self.fail_over(dice.between(Duration::ZERO, seconds(5))).await;
        }
    }
    async fn disturb_redis(&self, until: Instant, mut dice: Dice) {
        loop {
            let wait = dice.between(seconds(10), seconds(40));
            if Instant::now() + wait > until {
                return;
            }
            sleep(wait).await;
            match dice.below(3) {
                0 => self.flush_redis().await,
                1 => self.stop_redis(dice.between(seconds(1), seconds(15))).await,
                _ => self.fail_redis_over().await,
            }
        }
    }
}
