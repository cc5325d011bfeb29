//! `analyze`: planner statistics of a table or of a whole database. It is `vacuum` with another statement.

/// The command `analyze`.
pub const ANALYZE: super::vacuum::Operation = super::vacuum::Operation::Analyze;
