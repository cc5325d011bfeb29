//! The parts of a running bot. Fields only: they are put together in `bootstrap`.

use crate::access::Access;
use crate::audit::AuditLog;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::postgres::Environments;
use crate::schedule::{EnvironmentWindow, Waits};
use crate::shared_state::{Progress, SharedState};
use crate::storage::Storage;
use crate::webhook::Webhook;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The parts that commands and the workflow use.
pub struct App {
    pub config: Config,
    pub catalog: Catalog,
    pub access: Access,
    pub schedule: Vec<EnvironmentWindow>,
    /// The windows that wait for another run.
    pub waits: Waits,
    pub environments: Environments,
    pub audit: AuditLog,
    pub storage: Storage,
    pub webhook: Option<Webhook>,
    pub progress: Arc<Progress>,
    pub shared: Arc<dyn SharedState>,
    pub metrics: Arc<Metrics>,
    /// Cancelled a moment before the process ends: runs that can't outlive it stop, and record it.
    pub shutdown: CancellationToken,
}
