//! The composition root: configuration, commands and access rules are checked whole and become an [`App`]. The only file that
//! chooses the implementations of the store and of the shared state.

use crate::access::Access;
use crate::actions;
use crate::app::App;
use crate::audit::AuditLog;
use crate::catalog::{Catalog, sql_files};
use crate::config::{Config, StoreSettings, StoreTimeouts};
use crate::metrics::Metrics;
use crate::postgres::Environments;
use crate::schedule::{self, EnvironmentWindow, Waits};
use crate::shared_state::{MemoryState, Progress, RedisState, SharedState};
use crate::storage::Storage;
use crate::store::postgres::{PostgresHistory, PostgresStore};
use crate::store::sqlite::{SqliteHistory, SqliteStore, StoreLimits};
use crate::store::{History, MeasuredStore, Store};
use crate::toml_reader::Problems;
use crate::webhook::Webhook;
use anyhow::Context;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Builds the app: commands and access rules are checked, the store is opened.
///
/// # Errors
/// Every mistake in the commands or the access rules, or a store that can't be opened.
pub async fn assemble(config: Config) -> anyhow::Result<App> {
    let Rules { catalog, access, schedule } = rules(&config)?;
    let environments = Environments::new(&config)?;
    let store = open_store(&config).await?;
    if let Some(server) = store.postgres_server() {
        environments.exclude(server.to_owned());
    }
    let metrics = Arc::new(Metrics::default());
    let store = Arc::new(MeasuredStore::new(store, Arc::clone(&metrics)));
    let progress = Arc::new(Progress::default());
    let shared: Arc<dyn SharedState> = match &config.redis {
        Some(settings) => {
            Arc::new(RedisState::start(settings, Arc::clone(&progress)).context("setting up Redis")?)
        }
        None => Arc::new(MemoryState::default()),
    };
    Ok(App {
        catalog,
        access,
        schedule,
        waits: Waits::default(),
        environments,
        storage: Storage::open(&config.backups).context("opening the backups' directory")?,
        audit: AuditLog { store, approval: config.approval.clone() },
        webhook: config.webhook.as_ref().map(Webhook::new).transpose()?,
        progress,
        shared,
        metrics,
        shutdown: CancellationToken::new(),
        config,
    })
}

/// Opens the store of the audit log.
///
/// # Errors
/// The obstacle.
pub async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let context = "opening the audit log";
    Ok(match &config.store {
        StoreSettings::File(path) => {
            Arc::new(SqliteStore::open(path, store_limits(config)).context(context)?)
        }
        StoreSettings::Postgres(settings) => {
            let opened = PostgresStore::open((**settings).clone(), config.store_timeouts.call_timeout).await;
            Arc::new(opened.context(context)?)
        }
    })
}

/// The audit log of the configuration, to copy it from or to. It is not opened yet.
///
/// # Errors
/// A certificate file can't be read.
pub fn history(config: &Config) -> anyhow::Result<Box<dyn History>> {
    Ok(match &config.store {
        StoreSettings::File(path) => Box::new(SqliteHistory::new(path.clone(), store_limits(config))),
        StoreSettings::Postgres(settings) => Box::new(PostgresHistory::new((**settings).clone())?),
    })
}

fn store_limits(config: &Config) -> StoreLimits {
    let StoreTimeouts { call_timeout, lock_timeout } = config.store_timeouts;
    StoreLimits { call_timeout, lock_timeout }
}

/// The configuration and the command files, checked against each other.
pub struct Rules {
    /// Built-in and custom commands.
    pub catalog: Catalog,
    pub access: Access,
    pub schedule: Vec<EnvironmentWindow>,
}

/// Reads the commands, and checks the configuration's access rules and windows against them.
///
/// # Errors
/// Every mistake in either.
pub fn rules(config: &Config) -> anyhow::Result<Rules> {
    let mut catalog = Catalog::built_in().map_err(command_errors)?;
    if let Some(directory) = &config.commands {
        catalog = catalog.with_directory(directory).map_err(command_errors)?;
    }
    let catalog = catalog.with_limits(&config.environments).map_err(config_errors)?;
    if let (Some(directory), Some(like)) = (&config.sql, catalog.find("run-sql")) {
        sql_files::check(directory, like).map_err(command_errors)?;
    }
    let missing = actions::missing(&catalog);
    anyhow::ensure!(missing.is_empty(), "commands without code: {}", missing.join(", "));
    let access = Access::new(config, &catalog).map_err(config_errors)?;
    let schedule = schedule::windows(config, &catalog).map_err(config_errors)?;
    Ok(Rules { catalog, access, schedule })
}

fn config_errors(errors: Vec<String>) -> anyhow::Error {
    anyhow::anyhow!(errors.join("\n"))
}

/// Joins the mistakes of command files into one error, a line each.
pub fn command_errors(problems: Problems) -> anyhow::Error {
    anyhow::anyhow!("the commands have mistakes:\n{problems}")
}
