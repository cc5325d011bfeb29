//! Mechanics that several commands share. No command lives here.

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
pub mod tolerance;
