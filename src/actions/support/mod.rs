//! Mechanics that several commands share. No command lives here.

pub mod backends;
pub mod blocks;
pub mod database;
pub mod recovery;
pub mod subprocess;
