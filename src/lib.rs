//! Countersign: a team's PostgreSQL runbook, run from chat, with a second person for everything that destroys.

pub mod access;
pub mod actions;
pub mod args;
pub mod catalog;
pub mod config;
pub mod demo;
pub mod error;
pub mod message;
pub mod plan;
pub mod redact;
pub mod runs;
pub mod sql;
pub mod store;
pub mod targets;
pub mod toml_reader;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What a command may use.
pub struct App {
    pub config: config::Config,
    pub catalog: catalog::Catalog,
    pub access: access::Access,
    pub targets: targets::Targets,
    pub runs: runs::Runs,
    pub progress: Progress,
}

/// How far running work is: for the cards, and lost with the process.
#[derive(Debug, Default)]
pub struct Progress(Mutex<HashMap<store::RunId, Share>>);

/// A share done, if one can be told, and what is going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// 0 to 100.
    pub percent: Option<u8>,
    pub label: String,
}

impl Progress {
    pub fn set(&self, run: store::RunId, percent: Option<u8>, label: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, Share { percent, label });
    }
    pub fn get(&self, run: store::RunId) -> Option<Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }
    pub fn clear(&self, run: store::RunId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}
