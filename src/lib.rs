//! Countersign: a team's PostgreSQL runbook, run from chat, with a second person for everything that destroys.
//!
//! # Glossary
//!
//! | word | means |
//! |---|---|
//! | request | a command that waits for approval |
//! | run | one execution of a command, from the request to its end |
//! | event | one entry of a run's audit log |
//! | record | what the audit log holds of a run |
//! | audit log | the hash-chained events of all runs; `history` is a view of it |
//! | approver, approval, decision | who approves; the act; approve, deny or withdraw |
//! | quorum | how many approvers a request needs |
//! | card | a run's message in chat: primary, direct, outcome or reminder |
//! | outbox | the cards that still have to be sent |
//! | claim | one process' exclusive right to send a card or to execute a run |
//! | resource lock | what an open run reserves, so that no other run takes it |
//! | reconciler | finds out the outcome of runs whose process died |
//! | supervisor | the periodic background tasks |
//! | window, start | a command of the schedule in an environment; one run of it at a due time |
//! | pool, pooled client, dedicated session | connections to a target: shared for short queries, or one run's own |
//! | backend | a PostgreSQL server process: the server's side of a session |
//! | break-glass | acting without a second person |
//! | custom command | a team's own `.sql` command |
//! | allowlist | what custom SQL may contain |
//! | analysis | what custom SQL would execute, as the server understands it |
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
//! | [`telemetry`] | logging, and the TLS provider of the process |
//! | [`tls`] | the system's certificates, and the configuration of TLS clients |
//! | [`clock`] | durations and times as people type and read them |
//! | [`suggest`] | the nearest name to a misspelt word, and the word quoted back |
//! | [`files`] | the modes of files and directories, and checks that change none |
//! | [`model`] | values that every module shares: runs, events, plans, people, replies, the transition table; no I/O |
//! | [`metrics`] | what Prometheus scrapes: counters, gauges and histograms |
//! | [`sql_lexer`] | PostgreSQL's SQL in tokens: strictly for what will run, leniently for what will be shown |
//! | [`toml_reader`] | TOML with the place of every value, so that all mistakes are reported at once |
//! | [`config`] | the only reader of files and environment variables |
//! | [`redact`] | query text fit for a chat |
//! | [`retry`] | repeats of calls over the network |
//! | [`http_client`] | the HTTP clients of the webhook, of Entra and of Teams |
//! | [`azure`] | Entra tokens; the only user of the Azure crates |
//! | [`pg_connect`] | one connection to a PostgreSQL server: TLS verified, settings pinned |
//! | [`store`] | the audit log's storage: a trait, SQLite and PostgreSQL behind it, and the copy from one place to another |
//! | [`storage`] | backups as objects: a directory now, a blob container later |
//! | [`ephemeral`] | duplicate deliveries and caches of one process: may be lost |
//! | [`shared_state`] | pace, wake-ups and progress that replicas share, in memory or on Redis: may be lost |
//! | [`rate_limits`] | the times before which a platform asked not to be called |
//! | [`webhook`] | a team's webhook, notified of pending requests |
//! | [`prisma`] | a directory of migrations, to compare a migration history with |
//! | [`catalog`], [`command_line`] | command files → commands; typed words → values |
//! | [`access`] | who may run what where, and who may approve |
//! | [`schedule`] | the maintenance windows of the configuration, when each is due, and what the audit log has of it |
//! | [`postgres`] | environments, servers, logins, connections |
//! | [`privileges`] | what a login is missing of a command's needs, in the words of `check` and of every refusal |
//! | [`sql`] | runs a SQL command, and presents its result |
//! | [`incident`] | incidents of the windows that report changes, and what is told of them |
//! | [`platform`] | the trait that a chat platform implements |
//! | [`audit`] | the service over the store: opens runs and appends events |
//! | [`app`] | the parts that commands and the workflow use; fields only |
//! | [`actions`] | name → code of the coded commands |
//! | [`preflight`] | the checks of `countersign check` |
//! | [`workflow`] | one line from event to reply; the only caller of send |
//! | [`chat`] | the register of chat platforms; each verifies, parses, renders, sends and brings its routes; the terminal: renders |
//! | [`bootstrap`] | the composition root: configuration → app |
//! | [`http`] | the server of the platforms' routes, and the end of the process |
//! | [`demo`] | the fake Slack, the fake Teams and the sample servers, for `make demo` and the tests |
//! | [`cli`] | the command line: serve, demo, run, check, init |
//!
//! # Invariants
//!
//! - Only `chat/slack` knows Block Kit, only `chat/teams` Adaptive Cards, and no platform imports another.
//! - Only `config` reads the environment. Only `workflow` sends. Only `sql`, `actions`, `preflight` and `postgres`, by `pg_connect`,
//!   touch a target.
//! - A run's record exists before anything runs, and is closed in every case. If it can't be written, reads still answer with
//!   a warning, and everything else is refused.
//! - A button carries an opaque 128-bit token and nothing else; it counts only from the place it was posted in.
//! - Nothing that matters lives only in process memory.
//! - Identity and guards are tested in the statement that acts, or in its transaction, never before.
//! - A team's own SQL is of a few kinds, calls functions on a checked list only, and runs with PostgreSQL's own names alone on its path.
//! - No secret, token or literal of a customer's data reaches a chat, a log, a process list or the history.
//! - Text from a database or a person can never ping, link or format: links come from the configuration and the chat platform alone.

pub mod access;
pub mod actions;
pub mod app;
pub mod audit;
pub mod azure;
pub mod bootstrap;
pub mod catalog;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod command_line;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod ephemeral;
pub mod error;
pub mod files;
pub mod http;
pub mod http_client;
pub mod incident;
pub mod metrics;
pub mod model;
pub mod pg_connect;
pub mod platform;
pub mod postgres;
pub mod preflight;
pub mod prisma;
pub mod privileges;
pub mod rate_limits;
pub mod redact;
pub mod retry;
pub mod schedule;
pub mod shared_state;
pub mod sql;
pub mod sql_lexer;
pub mod storage;
pub mod store;
pub mod suggest;
pub mod telemetry;
pub mod tls;
pub mod toml_reader;
pub mod webhook;
pub mod workflow;
