//! The limits of custom SQL: one statement of a few kinds, and calls of functions on a checked list only. A READ ONLY transaction
//! is not enough, since VACUUM, advisory locks and pg_terminate_backend run inside one. Calls and verbs are checked by their words, so
//! that nothing depends on how a parser understands them; the parser says which names are tables, aliases and columns. The transaction
//! makes names mean PostgreSQL's own: its search_path has only pg_catalog (`postgres/transaction.rs`). What the server makes of a
//! statement is judged before it runs (`sql/analysis/`).

use super::bind::Bound;
use crate::sql_lexer::{self, SqlError, SqlToken, TokenKind};
use std::collections::HashSet;
use std::sync::LazyLock;

mod ast;

use ast::Structure;

/// The purpose of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Read,
    /// Counts what a command would change.
    Preview,
    Act,
}

/// The names of a SELECT's columns; `None` for `*` or a column without a name.
pub type Columns = Option<Vec<String>>;

/// pg_catalog's functions that may be called.
pub static FUNCTIONS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| listed().map(|(name, _)| name).collect());

/// The list as it is written: each name, and the major version that brought it (0: older than any supported).
pub fn listed() -> impl Iterator<Item = (&'static str, u32)> {
    let lines = include_str!("functions.txt").lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).map(|entry| match entry.split_once(">=") {
        Some((name, since)) => (name, since.parse().unwrap_or(u32::MAX)),
        None => (entry, 0),
    })
}

/// Keywords that a parenthesis may follow: clauses, expressions of the grammar's own, types with a length. None is a function's name, or
/// it is one that only computes.
pub static KEYWORDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("keywords.txt").split_whitespace().collect());

/// Checks one statement, with its values bound.
///
/// # Errors
/// Every mistake, by byte offset in the source.
pub fn check(source: &str, bound: &Bound, purpose: Purpose) -> Result<Columns, Vec<SqlError>> {
    let in_source = |error: SqlError| SqlError::new(bound.source_offset(error.at), error.reason);
    let tokens = sql_lexer::strict(&bound.sql).map_err(|error| vec![in_source(error)])?;
    check_first_word(&tokens, purpose).map_err(|error| vec![in_source(error)])?;
    let mut errors = verb_errors(&tokens, purpose);
    let structure = match Structure::parse(&bound.sql) {
        Ok(structure) => structure,
        // A verb says more than what the parser makes of it.
        Err(parse_error) if errors.is_empty() => return Err(vec![in_source(parse_error)]),
        Err(_) => return Err(errors.into_iter().map(in_source).collect()),
    };
    errors.extend(call_errors(&tokens, &structure));
    errors.extend(column_notation_errors(&tokens));
    errors.extend(structure.table_errors());
    let mut errors: Vec<SqlError> = errors.into_iter().map(in_source).collect();
    let parameters = tokens.iter().filter(|token| token.kind == TokenKind::Parameter);
    let numbered =
        parameters.map(|token| bound.source_offset(token.at)).find(|at| !source[*at..].starts_with(":'"));
    errors.extend(numbered.map(|at| SqlError::new(at, "a value is written as :'name', not by its number")));
    errors.sort();
    errors.dedup();
    if errors.is_empty() { Ok(structure.columns) } else { Err(errors) }
}

/// Checks the first word, by which PostgreSQL, too, decides the kind of a statement.
fn check_first_word(tokens: &[SqlToken<'_>], purpose: Purpose) -> Result<(), SqlError> {
    let allowed: &[&str] = match purpose {
        Purpose::Read | Purpose::Preview => &["select", "with"],
        Purpose::Act => &["select", "with", "insert", "update", "delete"],
    };
    let Some(first) = tokens.first() else { return Err(SqlError::new(0, "there is no statement")) };
    if allowed.iter().any(|word| first.is(word)) {
        return Ok(());
    }
    let what = match purpose {
        Purpose::Read => "what reads is a SELECT",
        Purpose::Preview => "a preview is a SELECT",
        Purpose::Act => "what acts is INSERT, UPDATE, DELETE or SELECT",
    };
    Err(SqlError::new(first.at, format!("`{}` is refused: {what}", first.text.to_ascii_uppercase())))
}

/// Calls of functions that are not on the list.
fn call_errors(tokens: &[SqlToken<'_>], structure: &Structure) -> Vec<SqlError> {
    let called = (0..tokens.len()).filter(|at| tokens.get(at + 1).is_some_and(|next| next.is_symbol("(")));
    called.filter_map(|at| call_error(tokens, at, structure)).collect()
}

fn call_error(tokens: &[SqlToken<'_>], at: usize, structure: &Structure) -> Option<SqlError> {
    let token = tokens[at];
    let name = token.name()?;
    if structure.names_before_columns.contains(&token.at) {
        return None;
    }
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    if before(1).is_some_and(|token| token.is_symbol(".")) {
        let schema = before(2).and_then(SqlToken::name).unwrap_or_default();
        let is_whole = !before(3).is_some_and(|token| token.is_symbol("."));
        if schema == "pg_catalog" && is_whole && FUNCTIONS.contains(name.as_str()) {
            return None;
        }
        let from = before(2).map_or(token.at, |token| token.at);
        return Some(not_listed(from, &format!("{schema}.{name}")));
    }
    let keyword = token.kind == TokenKind::Word && KEYWORDS.contains(&name.as_str());
    if keyword || FUNCTIONS.contains(name.as_str()) { None } else { Some(not_listed(token.at, &name)) }
}

/// Names behind a value: PostgreSQL calls the function of that name if there is no such column, `(pid).pg_terminate_backend`.
fn column_notation_errors(tokens: &[SqlToken<'_>]) -> Vec<SqlError> {
    let is_value = |token: &SqlToken<'_>| {
        token.kind == TokenKind::Parameter || [")", "]"].iter().any(|end| token.is_symbol(end))
    };
    let behind_value = tokens.windows(3).filter(|three| is_value(&three[0]) && three[1].is_symbol("."));
    let errors = behind_value.filter(|three| !three[2].is_symbol("*")).map(|three| {
        let name = three[2].text;
        let reason =
            format!("`{name}` behind a value may be a function that it calls: name the column in a subquery");
        SqlError::new(three[2].at, reason)
    });
    errors.collect()
}

fn not_listed(at: usize, name: &str) -> SqlError {
    SqlError::new(at, format!("`{name}` is not among the functions that custom SQL may call"))
}

/// Verbs in places where a parser may overlook them.
fn verb_errors(tokens: &[SqlToken<'_>], purpose: Purpose) -> Vec<SqlError> {
    let mut errors = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token.is_symbol("(") {
            depth += 1;
        } else if token.is_symbol(")") {
            depth = depth.saturating_sub(1);
        }
        let before = |words: &[&str]| at > 0 && words.iter().any(|word| tokens[at - 1].is(word));
        if token.kind != TokenKind::Word || (at > 0 && tokens[at - 1].is_symbol(".")) {
            continue;
        }
        let next = |words: &[&str]| tokens.get(at + 1).is_some_and(|t| words.iter().any(|word| t.is(word)));
        if token.is("into") && !before(&["insert"]) {
            errors.push(SqlError::new(token.at, "SELECT … INTO makes a table, and is refused"));
        }
        if token.is("for") && next(&["update", "no", "share", "key"]) && purpose != Purpose::Act {
            errors.push(SqlError::new(token.at, "it locks rows, which a statement that reads may not"));
        }
        let verb = ["insert", "update", "delete", "merge"].iter().any(|verb| token.is(verb));
        if verb && !before(&["for", "key", "do"]) && (depth > 0 || purpose != Purpose::Act) {
            let reason = match purpose {
                Purpose::Act => {
                    "inside another statement its rows are not counted: give it a title of its own"
                }
                _ => "a statement that reads may not change rows",
            };
            let verb = format!("`{}` is refused here", token.text.to_ascii_uppercase());
            let quotes = "a name with this spelling needs quotes";
            errors.push(SqlError::new(token.at, format!("{verb}: {reason} ({quotes})")));
        }
    }
    errors
}

/// True for a statement that inserts, updates or deletes.
pub fn changes(sql: &str) -> bool {
    let verbs = ["insert", "update", "delete"];
    let lower_case = sql.to_ascii_lowercase();
    if !verbs.iter().any(|verb| lower_case.contains(verb)) {
        return false;
    }
    let tokens = sql_lexer::strict(sql).unwrap_or_default();
    let after = |at: usize, words: &[&str]| at > 0 && words.iter().any(|word| tokens[at - 1].is(word));
    tokens.iter().enumerate().any(|(at, token)| {
        let named = after(at, &["for", "key", "do"]) || (at > 0 && tokens[at - 1].is_symbol("."));
        !named && verbs.iter().any(|verb| token.is(verb))
    })
}
