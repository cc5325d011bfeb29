//! Countersign: a team's PostgreSQL runbook, run from chat, with a second person for everything that destroys.
//!
//! # Glossary
//!
//! | word | means |
//! |---|---|
//! | request | a command that waits for approval |
//! | run | one execution of a command, from the request to its end |
//! | event | one entry of a run's audit log |
//! | audit log | the hash-chained events of all runs; `history` is a view of it |
//! | approver, approval, decision | who approves; the act; approve, deny or withdraw |
//! | quorum | how many approvers a request needs |
//! | card | a run's message in chat: primary, direct, outcome or reminder |
//! | outbox | the cards that still have to be sent |
//! | claim | one process' exclusive right to send a card or to execute a run |
//! | resource lock | what an open run reserves, so that no other run takes it |
//! | reconciler | finds out the outcome of runs whose process died |
//! | supervisor | the periodic background tasks |
//! | pool, pooled client, dedicated session | connections to a target: shared for short queries, or one run's own |
//! | backend | a PostgreSQL server process: the server's side of a session |
//! | break-glass | acting without a second person |
//! | custom command | a team's own `.sql` command |
//! | allowlist | what custom SQL may contain |
//! | preflight | `countersign check`: checks before an incident |
//! | chat account, conversation | who speaks, and where |
//!
//! # The map, from the ground up
//!
//! Each module imports only what stands above it in this list.
//!
//! | module | contents |
//! |---|---|
//! | [`error`] | the two kinds of error: the person's, which says what to type instead, and ours |
//! | [`sql_lexer`] | PostgreSQL's SQL in tokens: strictly for what will run, leniently for what will be shown |
//! | [`toml_reader`] | TOML with the place of every value, so that all mistakes are reported at once |
//! | [`config`] | the only reader of files and environment variables |
//! | [`message`] | neutral values: event, person, conversation, reply; the trait that a platform implements |
//! | [`store`] | the audit log's storage: a trait, and SQLite behind it |
//! | [`ephemeral`] | pacing, duplicate deliveries and caches: may be lost |
//! | [`webhook`] | a team's webhook, notified of pending requests |
//! | [`storage`] | backups as objects: a directory now, a blob container later |
//! | [`azure`] | Entra tokens; the only user of the Azure crates |
//! | [`redact`] | query text fit for a chat |
//! | [`prisma`] | a directory of migrations, to compare a migration history with |
//! | [`catalog`], [`command_line`] | command files → commands; typed words → values |
//! | [`postgres`] | environments, servers, logins, connections |
//! | [`access`] | who may run what where, and who may approve |
//! | [`schedule`] | the maintenance windows of the configuration, and when each is due |
//! | [`plan`] | identity, guards, context, digest |
//! | [`sql`] | runs a SQL command, and presents its result |
//! | [`audit`] | the one transition table of runs, and the service over the store |
//! | [`actions`] | name → code of the coded commands |
//! | [`preflight`] | the checks of `countersign check` |
//! | [`workflow`] | one line from event to reply; the only caller of send |
//! | [`chat`] | Slack and Teams: verify, parse, render, send; the terminal: render |
//! | [`http`] | routes; acknowledges at once |
//! | [`demo`] | the fake Slack and the sample servers, for `make demo` and the tests |
//! | [`cli`] | the command line: serve, demo, run, check |
//!
//! # Invariants
//!
//! - Only `chat/slack` knows Block Kit, only `chat/teams` Adaptive Cards, and no platform imports another.
//! - Only `config` reads the environment. Only `workflow` sends. Only `sql`, `actions`, `preflight` and `postgres` touch a target.
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
pub mod audit;
pub mod azure;
pub mod catalog;
pub mod chat;
pub mod cli;
pub mod command_line;
pub mod config;
pub mod demo;
pub mod ephemeral;
pub mod error;
pub mod http;
pub mod message;
pub mod plan;
pub mod postgres;
pub mod preflight;
pub mod prisma;
pub mod redact;
pub mod schedule;
pub mod sql;
pub mod sql_lexer;
pub mod storage;
pub mod store;
pub mod toml_reader;
pub mod webhook;
pub mod workflow;

use anyhow::Context;
use parking_lot::Mutex;
use std::collections::HashMap;

/// What a command may use.
pub struct App {
    pub config: config::Config,
    pub catalog: catalog::Catalog,
    pub access: access::Access,
    pub schedule: Vec<schedule::Window>,
    pub targets: postgres::Environments,
    pub runs: audit::Runs,
    pub storage: storage::Storage,
    pub pager: Option<webhook::Webhook>,
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
        let runs = audit::Runs { store, approval: config.approval.clone() };
        let targets = postgres::Environments::new(&config)?;
        let storage = storage::Storage::open(&config.backups).context("opening the backups' directory")?;
        let pager = config.pager.as_ref().map(webhook::Webhook::new).transpose()?;
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
        catalog::sql_files::check(directory, like).map_err(in_lines)?;
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
        self.0.lock().insert(run, Share { percent, label });
    }
    pub fn get(&self, run: store::RunId) -> Option<Share> {
        self.0.lock().get(&run).cloned()
    }
    /// Any, for a process that runs one thing only.
    pub fn any(&self) -> Option<Share> {
        self.0.lock().values().next().cloned()
    }
    pub fn clear(&self, run: store::RunId) {
        self.0.lock().remove(&run);
    }
}

/// All mistakes of the commands as one error, a line each.
pub fn in_lines(mistakes: Vec<catalog::Diagnostic>) -> anyhow::Error {
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
