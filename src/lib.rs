//! Countersign: a team's PostgreSQL runbook, run from chat, with a second person for everything that destroys.

pub mod config;
pub mod error;
pub mod message;
pub mod store;
pub mod toml_reader;
