//! The parts of a running bot. Fields only: they are put together in `bootstrap`.

use crate::access::Access;
use crate::audit::AuditLog;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::model::RunId;
use crate::postgres::Environments;
use crate::schedule::EnvironmentWindow;
use crate::storage::Storage;
use crate::webhook::Webhook;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio_util::sync::CancellationToken;

/// The parts that commands and the workflow use.
pub struct App {
    pub config: Config,
    pub catalog: Catalog,
    pub access: Access,
    pub schedule: Vec<EnvironmentWindow>,
    pub environments: Environments,
    pub audit: AuditLog,
    pub storage: Storage,
    pub webhook: Option<Webhook>,
    pub progress: Progress,
    /// Cancelled a moment before the process ends: runs that can't outlive it stop, and record it.
    pub shutdown: CancellationToken,
}

/// The progress of runs, for the cards. It is lost with the process.
#[derive(Debug, Default)]
pub struct Progress(Mutex<HashMap<RunId, RunProgress>>);

/// The share that is done, if it is known, and the current step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunProgress {
    /// 0 to 100.
    pub percent: Option<u8>,
    pub label: String,
}

impl Progress {
    pub fn set(&self, run: RunId, percent: Option<u8>, label: String) {
        self.0.lock().insert(run, RunProgress { percent, label });
    }
    pub fn get(&self, run: RunId) -> Option<RunProgress> {
        self.0.lock().get(&run).cloned()
    }
    /// The progress of the only run, for a process with one run.
    pub fn current(&self) -> Option<RunProgress> {
        self.0.lock().values().next().cloned()
    }
    pub fn clear(&self, run: RunId) {
        self.0.lock().remove(&run);
    }
}
