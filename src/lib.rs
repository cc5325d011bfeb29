//! Countersign: a team's PostgreSQL runbook, run from chat, with a second person for everything that destroys.
//!
//! # The map, from the ground up
//!
//! Each module imports only what stands above it in this list.
//!
//! | module | what lives there |
//! |---|---|
//! | [`error`] | the two kinds of error: the person's, which says what to type instead, and ours |
//! | [`toml_reader`] | TOML with the place of every value, so that all mistakes are told at once |
//! | [`config`] | the only reader of files and environment variables |
//! | [`message`] | neutral values: event, person, place, reply; the trait that a platform implements |
//! | [`store`] | the record's keeper: a trait, and SQLite behind it |
//! | [`shared`] | what replicas share and may lose: pacing, duplicate deliveries |
//! | [`pager`] | a team's webhook, told of what waits |
//! | [`storage`] | backups as objects: a directory now, a blob container later |
//! | [`azure`] | tokens of Entra; the only user of the Azure crates |
//! | [`redact`] | query text fit for a chat |
//! | [`prisma`] | a directory of migrations, to compare a ledger with |
//! | [`catalog`], [`args`] | command files → commands; words → values |
//! | [`targets`] | environments, servers, logins, connections |
//! | [`access`] | who may run what where, and who may approve |
//! | [`schedule`] | the maintenance windows of the configuration, and when each is due |
//! | [`plan`] | identity, guards, context, digest |
//! | [`sql`] | runs a SQL command, and presents what it found |
//! | [`runs`] | the one transition table of a run's record |
//! | [`actions`] | name → code of the coded commands |
//! | [`flow`] | the straight line from event to reply; the only caller of send |
//! | [`chat`] | Slack and Teams: verify, parse, render, send; the terminal: render |
//! | [`http`] | routes; acknowledges at once |
//! | [`demo`] | the pretend workspace and the sample servers, for `make demo` and the tests |
//! | [`cli`] | the command line: serve, demo, run, check |
//!
//! # Invariants
//!
//! - Only `chat/slack` knows Block Kit, only `chat/teams` Adaptive Cards, and no platform imports another.
//! - Only `config` reads the environment. Only `flow` sends. Only `sql`, `actions` and `targets` touch a target.
//! - A run's record exists before anything runs, and is closed in every case. If it can't be written, reads still answer with
//!   a warning, and everything else is refused.
//! - A button carries an opaque 128-bit token and nothing else; it counts only from the place it was posted in.
//! - Nothing that matters lives only in process memory.
//! - Identity and guards are tested in the statement that acts, or in its transaction, never before.
//! - A team's own SQL is of a few kinds, calls functions on a checked list only, and runs with PostgreSQL's own names alone on its path.
//! - No secret, token or literal of a customer's data reaches a chat, a log, a process list or the history.
//! - Text from a database or a person can never ping, link or format.

pub mod access;
pub mod actions;
pub mod args;
pub mod azure;
pub mod catalog;
pub mod chat;
pub mod cli;
pub mod config;
pub mod demo;
pub mod error;
pub mod flow;
pub mod http;
pub mod message;
pub mod pager;
pub mod plan;
pub mod prisma;
pub mod redact;
pub mod runs;
pub mod schedule;
pub mod shared;
pub mod sql;
pub mod storage;
pub mod store;
pub mod targets;
pub mod toml_reader;

use anyhow::Context;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What a command may use.
pub struct App {
    pub config: config::Config,
    pub catalog: catalog::Catalog,
    pub access: access::Access,
    pub schedule: Vec<schedule::Window>,
    pub targets: targets::Targets,
    pub runs: runs::Runs,
    pub storage: storage::Storage,
    pub pager: Option<pager::Pager>,
    pub progress: Progress,
    /// Cancelled a moment before the process ends: what can't outlive it ends itself, and says so.
    pub ending: tokio_util::sync::CancellationToken,
}

impl App {
    /// Puts the house together: commands and access rules checked whole, the store opened.
    ///
    /// # Errors
    /// Every mistake in the commands or the access rules, or a store that can't be opened.
    pub fn assemble(config: config::Config) -> anyhow::Result<App> {
        let Rules { catalog, access, schedule } = rules(&config)?;
        let waits = config.store_waits;
        let limits = store::sqlite::Limits { answer: waits.answer, busy: waits.lock };
        let store = store::sqlite::SqliteStore::open(&config.store, limits);
        let store = std::sync::Arc::new(store.context("opening the record")?);
        let runs = runs::Runs { store, approval: config.approval.clone() };
        let targets = targets::Targets::new(&config)?;
        let storage = storage::Storage::open(&config.backups).context("opening the backups' directory")?;
        let pager = config.pager.as_ref().map(pager::Pager::new).transpose()?;
        let (progress, ending) = (Progress::default(), tokio_util::sync::CancellationToken::new());
        Ok(App { config, catalog, access, schedule, targets, storage, runs, pager, progress, ending })
    }
}

/// What the configuration and the command files say together.
pub struct Rules {
    /// Built in, and the team's.
    pub catalog: catalog::Catalog,
    pub access: access::Access,
    pub schedule: Vec<schedule::Window>,
}

/// Reads the commands, and checks what the configuration says of them.
///
/// # Errors
/// Every mistake in either.
pub fn rules(config: &config::Config) -> anyhow::Result<Rules> {
    let in_words = |wrong: Vec<String>| anyhow::anyhow!(wrong.join("\n"));
    let mut catalog = catalog::Catalog::built_in().map_err(in_lines)?;
    if let Some(directory) = &config.commands {
        catalog = catalog.with_directory(directory).map_err(in_lines)?;
    }
    let catalog = catalog.with_limits(&config.environments).map_err(in_words)?;
    if let (Some(directory), Some(like)) = (&config.sql, catalog.find("run-sql")) {
        catalog::reviewed::check(directory, like).map_err(in_lines)?;
    }
    let missing = actions::missing(&catalog);
    anyhow::ensure!(missing.is_empty(), "commands without code: {}", missing.join(", "));
    let access = access::Access::new(config, &catalog).map_err(in_words)?;
    let schedule = schedule::windows(config, &catalog).map_err(in_words)?;
    Ok(Rules { catalog, access, schedule })
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
    /// Any, for a process that runs one thing only.
    pub fn any(&self) -> Option<Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }
    pub fn clear(&self, run: store::RunId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}

/// All mistakes of the commands as one error, a line each.
pub fn in_lines(mistakes: Vec<catalog::Mistake>) -> anyhow::Error {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the commands have mistakes:\n{}", lines.join("\n"))
}

/// JSON lines on standard error: `usual`, unless `RUST_LOG` chooses otherwise. TLS gets its provider here too: once in a process, and first.
pub fn start_logging(usual: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| usual.into());
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// Done when somebody presses Ctrl-C or the process is asked to end.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
