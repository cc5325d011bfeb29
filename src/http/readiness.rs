//! Readiness: true while a balancer should send requests to this replica. The store is looked at beside the requests, and an answer
//! waits for nothing: no probe keeps a place from a signed request.

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use axum::http::StatusCode;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// A look that is older than this was made before the process was paused.
const LONGEST_VALIDITY: Duration = Duration::from_secs(5);

/// The reason for which a replica is not ready, without names of hosts: whoever reaches the port reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum NotReady {
    #[error("it is shutting down")]
    ShuttingDown,
    #[error("the audit log has not answered yet")]
    Unknown,
    #[error("the audit log does not answer")]
    StoreSilent,
    #[error("the audit log can't be used")]
    StoreBroken,
    #[error("the other replicas have taken this one for dead")]
    InstanceLost,
}

/// The last look at the store.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    result: Result<(), NotReady>,
}

/// The readiness of this replica. The commands are loaded before it listens.
pub(super) struct Readiness {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// `None` before the first.
    last_look: Mutex<Option<Look>>,
    is_shutting_down: AtomicBool,
}

impl Readiness {
    pub fn new(store: &Arc<dyn Store>, metrics: &Arc<Metrics>) -> Arc<Readiness> {
        let (last_look, is_shutting_down) = Default::default();
        let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
        Arc::new(Readiness { store, metrics, last_look, is_shutting_down })
    }

    /// Looks at the store until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let result = self.look().await;
            self.metrics.set_store_available(result.is_ok());
            self.last_look.lock().replace(Look { at: Instant::now(), result });
        }
    }

    async fn look(&self) -> Result<(), NotReady> {
        match tokio::time::timeout(LOOK_TIMEOUT, self.store.check_instance()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(StoreError::InstanceLost)) => Err(NotReady::InstanceLost),
            Ok(Err(StoreError::TooLate)) | Err(_) => Err(NotReady::StoreSilent),
            Ok(Err(StoreError::Broken(_) | StoreError::NulCharacter)) => Err(NotReady::StoreBroken),
        }
    }

    /// Makes the replica not ready until its end.
    pub fn shut_down(&self) {
        self.is_shutting_down.store(true, Ordering::Relaxed);
    }

    fn current(&self) -> Result<(), NotReady> {
        if self.is_shutting_down.load(Ordering::Relaxed) {
            return Err(NotReady::ShuttingDown);
        }
        let last = *self.last_look.lock();
        last.filter(|look| look.at.elapsed() <= LONGEST_VALIDITY)
            .map_or(Err(NotReady::Unknown), |look| look.result)
    }

    /// The answer to a probe.
    pub fn answer(&self) -> (StatusCode, String) {
        match self.current() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        }
    }
}
