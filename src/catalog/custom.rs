//! The rules of custom commands beyond the format: a command reads, or it is danger and counts beforehand what it changes.

use super::allowlist::{self, Columns, Purpose};
use super::bind::Bound;
use super::{Header, Scope, Section};
use crate::model::{LoginKind, Risk};
use crate::sql_lexer::SqlError;
use crate::toml_reader::Reader;

/// A preview's column that says how many rows the command would change.
pub const COUNT_COLUMN: &str = "count";

/// A transaction may hold its locks this long at most, in seconds: an hour.
const LONGEST_S: u64 = 3_600;

/// Checks the header of a custom command.
pub fn check_header(table: &mut Reader<'_>, header: &Header) {
    let danger = header.risk == Risk::Danger;
    let seconds = header.timeout.as_deref().and_then(crate::clock::duration_seconds);
    let is_too_long = seconds.is_some_and(|seconds| seconds > LONGEST_S);
    let reads_as_other = header.risk == Risk::Read && header.login != LoginKind::Reader;
    let acts_as_reader = danger && header.login == LoginKind::Reader;
    let has_no_target = !matches!(header.scope, Scope::Server | Scope::Database);
    let keeps_columns = !danger && !header.preview_columns.is_empty();
    let rules = [
        (header.risk == Risk::Write, "risk", "a custom command is read or danger, not write"),
        (reads_as_other, "login", "a command that reads has the login reader"),
        (acts_as_reader, "login", "a command that acts needs another login: `login = \"operator\"`"),
        (has_no_target, "scope", "SQL runs on each server or database: `scope = \"database\"`"),
        (header.allowed_while_frozen, "while_frozen", "a freeze stops every custom command"),
        (header.allow_any_operator, "allow_any_operator", "the configuration says who may run it"),
        (header.posts_progress, "posts_progress", "only built-in code posts its progress"),
        (keeps_columns, "preview_columns", "`preview_columns` go with a preview, and a preview with danger"),
        (
            danger && !header.plain_columns.is_empty(),
            "plain_columns",
            "`plain_columns` go with a command that reads",
        ),
        (danger && is_too_long, "timeout", "an hour at most, since it holds locks meanwhile"),
    ];
    for (_, key, reason) in rules.into_iter().filter(|(broken, ..)| *broken) {
        table.problem(key, reason);
    }
}

/// Counts of the statements of one file, by their purpose.
#[derive(Default)]
pub struct StatementChecks {
    previews: usize,
    acts: usize,
    changes: bool,
}

impl StatementChecks {
    /// Checks one statement. The errors' offsets are in its source.
    pub fn check(
        &mut self,
        header: &Header,
        section: &Section,
        source: &str,
        bound: &Bound,
    ) -> Vec<SqlError> {
        let purpose = match (header.risk, section.preview) {
            (_, true) => Purpose::Preview,
            (Risk::Read, false) => Purpose::Read,
            (_, false) => Purpose::Act,
        };
        match purpose {
            Purpose::Preview => self.previews += 1,
            _ => self.acts += 1,
        }
        let start = source.len() - source.trim_start().len();
        let has_options = section.transposed || section.when.is_some() || section.scope != header.scope;
        if header.risk == Risk::Danger && has_options {
            let reason = "a title of a command that acts has nothing in brackets but [preview]";
            return vec![SqlError::new(start, reason)];
        }
        let mut errors = match allowlist::check(source, bound, purpose) {
            Ok(columns) if purpose == Purpose::Preview => preview_errors(&columns, header),
            Ok(_) => {
                self.changes |= allowlist::changes(&bound.sql);
                Vec::new()
            }
            Err(errors) => errors,
        };
        for error in &mut errors {
            error.at = error.at.max(start);
        }
        errors
    }

    /// Checks all statements together.
    pub fn finish(&self, header: &Header) -> Option<&'static str> {
        let danger = header.risk == Risk::Danger;
        Some(match self.previews {
            0 if self.changes => {
                "what changes rows counts them first: a SELECT with a column `count` under a title that ends in [preview]"
            }
            1.. if !danger => "a preview goes with danger: what reads shows its rows anyway",
            2.. => "there is one preview, which counts all rows that the command changes",
            _ if self.acts == 0 => "the file has only a preview",
            _ => return None,
        })
    }
}

/// The mistakes in a preview's columns, which are the count, and keys that the header allows.
fn preview_errors(columns: &Columns, header: &Header) -> Vec<SqlError> {
    let Some(columns) = columns else {
        return vec![SqlError::new(0, "a preview is one plain SELECT that names each of its columns")];
    };
    let mut reasons = Vec::new();
    if !columns.iter().any(|column| column == COUNT_COLUMN) {
        reasons.push("a preview has a column `count`: how many rows the command would change".to_owned());
    }
    for column in
        columns.iter().filter(|column| *column != COUNT_COLUMN && !header.preview_columns.contains(column))
    {
        reasons.push(format!("`{column}` is not among `preview_columns`, so the card may not show it"));
    }
    for key in header.preview_columns.iter().filter(|key| !columns.contains(key)) {
        reasons.push(format!("the preview has no column `{key}`, which is among `preview_columns`"));
    }
    reasons.into_iter().map(|reason| SqlError::new(0, reason)).collect()
}
