//! Helpers that several commands share; no commands.

pub mod backends;
pub mod blocks;
pub mod database;
pub mod decision;
pub mod maintenance;
pub mod pg_stat_statements;
pub mod recovery;
pub mod relations;
pub mod servers;
pub mod session_info;
pub mod signal;
pub mod subprocess;

/// The most that may be changed when a card showed `shown`: a fifth more, rounded down.
pub fn max_change(shown: i64) -> i64 {
    shown.saturating_add(shown / 5)
}
