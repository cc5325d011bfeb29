//! What is asked of a team's own command beyond the format: it reads, or it is danger and counts beforehand what it changes.

use super::allowlist::{self, Columns, Purpose};
use super::bind::Bound;
use super::header::SourceFile;
use super::{Diagnostic, Header, Scope, Section};
use crate::model::Risk;
use crate::sql_lexer::SqlError;

/// A preview's column that says how many rows the command would change.
pub const COUNT: &str = "count";

/// A transaction may hold its locks this long at most, in seconds: an hour.
const LONGEST_S: u64 = 3_600;

pub fn header(here: &SourceFile<'_>, header: &Header) -> Vec<Diagnostic> {
    let danger = header.risk == Risk::Danger;
    let posts_progress = header
        .timeout
        .as_deref()
        .and_then(crate::command_line::duration_seconds)
        .is_some_and(|s| s > LONGEST_S);
    let rules = [
        (header.risk == Risk::Write, "risk", "a team's own command is read or danger, nothing between"),
        (
            header.risk == Risk::Read && header.login != "reader",
            "login",
            "what only reads runs as the reader",
        ),
        (
            danger && header.login == "reader",
            "login",
            "what acts needs a login that may: `login = \"operator\"`",
        ),
        (
            !matches!(header.scope, Scope::Server | Scope::Database),
            "scope",
            "SQL is asked of each server or database: `scope = \"database\"`",
        ),
        (header.while_frozen, "while_frozen", "a freeze stops every command of a team's own"),
        (header.allow_any_operator, "allow_any_operator", "who may run it is the configuration's business"),
        (header.posts_progress, "posts_progress", "only code shows how far it is"),
        (
            !danger && !header.preview_columns.is_empty(),
            "preview_columns",
            "`preview_columns` go with a preview, and a preview with danger",
        ),
        (danger && posts_progress, "timeout", "it holds locks meanwhile: an hour at most"),
    ];
    let broken = rules.into_iter().filter(|(broken, ..)| *broken);
    broken.map(|(_, word, why)| here.at(here.place(word), why)).collect()
}

/// What the statements of one file were found to be.
#[derive(Default)]
pub struct StatementChecks {
    previews: usize,
    acts: usize,
    changes: bool,
}

impl StatementChecks {
    /// Checks one statement; the places are offsets in its source.
    pub fn statement(
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
        let has_options = section.facts || section.when.is_some() || section.scope != header.scope;
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

    /// What only all statements together show.
    pub fn whole(&self, header: &Header) -> Option<String> {
        let danger = header.risk == Risk::Danger;
        Some(match self.previews {
            0 if self.changes => {
                "what changes rows counts them first: a SELECT with a column `count` under a title that ends in [preview]"
            }
            1.. if !danger => "a preview goes with danger: what reads shows its rows anyway",
            2.. => "there is one preview, which counts all rows that the command changes",
            _ if self.acts == 0 => "there is nothing but a preview",
            _ => return None,
        }.to_owned())
    }
}

/// The mistakes in a preview's columns, which are the count, and keys that the header allows.
fn preview_errors(columns: &Columns, header: &Header) -> Vec<SqlError> {
    let Some(columns) = columns else {
        return vec![SqlError::new(0, "a preview is one plain SELECT that names each of its columns")];
    };
    let mut reasons = Vec::new();
    if !columns.iter().any(|column| column == COUNT) {
        reasons.push("a preview has a column `count`: how many rows the command would change".to_owned());
    }
    for column in columns.iter().filter(|column| *column != COUNT && !header.preview_columns.contains(column))
    {
        reasons.push(format!("`{column}` is not among `preview_columns`, so the card may not show it"));
    }
    for key in header.preview_columns.iter().filter(|key| !columns.contains(key)) {
        reasons.push(format!("the preview has no column `{key}`, which is among `preview_columns`"));
    }
    reasons.into_iter().map(|reason| SqlError::new(0, reason)).collect()
}
