//! Helpers that several commands share; no commands.

use crate::sql::grouped;

pub mod backends;
pub mod blocks;
pub mod choices;
pub mod database;
pub mod decision;
pub mod each_database;
pub mod effect_guard;
pub mod figures;
pub mod maintenance;
pub mod needs;
pub mod pg_stat_statements;
pub mod recovery;
pub mod relations;
pub mod servers;
pub mod session_info;
pub mod signal;
pub mod subprocess;
mod unblocked;

/// "1 row", "12,000 rows".
pub fn row_count_text(rows: i64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{} rows", grouped(rows)) }
}

/// The most that may be changed when a card showed `shown`: a fifth more, rounded down.
pub fn max_change(shown: i64) -> i64 {
    shown.saturating_add(shown / 5)
}
