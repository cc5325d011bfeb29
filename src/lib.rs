//! Countersign: a team's PostgreSQL runbook, run from chat, with a second person for everything that destroys.

pub mod chat;
pub mod config;
pub mod error;
pub mod message;
pub mod shared;
pub mod store;
