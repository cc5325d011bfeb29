//! `analyze`: planner statistics of a table, of a database or of all. It is `vacuum` with another statement.

use super::support::each_database::EachDatabase;
use super::vacuum::Operation;

/// The command `analyze`.
pub const COMMAND: EachDatabase<Operation> =
    EachDatabase { action: Operation::Analyze, verb: "Analyzes", participle: "analyzed" };
