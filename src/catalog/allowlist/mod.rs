//! What a team's own SQL may say: one statement of a few kinds, and calls of functions on a checked list only. A READ ONLY transaction
//! is no fence, since VACUUM, advisory locks and pg_terminate_backend run inside one. Calls and verbs are judged by their words, so
//! that nothing rests on how a parser understands them; the parser says which names are tables, aliases and columns. That names mean
//! PostgreSQL's own is the transaction's business: its search_path has pg_catalog alone (`targets/transaction.rs`).

use super::bind::Bound;
use super::tokens::{self, LexError, SqlToken, TokenKind};
use std::collections::HashSet;
use std::sync::LazyLock;

mod ast;

use ast::Structure;

/// What a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Read,
    /// Counts what a command would change.
    Preview,
    Act,
}

/// The names of a SELECT's columns; `None` where one has none, or `*` stands.
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
pub const KEYWORDS: [&str; 76] = [
    "all",
    "and",
    "any",
    "array",
    "as",
    "between",
    "bit",
    "by",
    "case",
    "cast",
    "char",
    "character",
    "coalesce",
    "conflict",
    "cube",
    "dec",
    "decimal",
    "distinct",
    "else",
    "escape",
    "except",
    "exists",
    "extract",
    "filter",
    "float",
    "from",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "intersect",
    "interval",
    "join",
    "lateral",
    "least",
    "left",
    "like",
    "limit",
    "materialized",
    "nchar",
    "not",
    "nullif",
    "numeric",
    "offset",
    "on",
    "or",
    "over",
    "overlaps",
    "overlay",
    "position",
    "returning",
    "right",
    "rollup",
    "row",
    "select",
    "set",
    "sets",
    "some",
    "substring",
    "symmetric",
    "then",
    "time",
    "timestamp",
    "to",
    "trim",
    "union",
    "using",
    "values",
    "varchar",
    "varying",
    "when",
    "where",
    "with",
    "zone",
];

/// Checks one statement, with its values bound.
///
/// # Errors
/// Every mistake, by byte offset in the source.
pub fn check(source: &str, bound: &Bound, purpose: Purpose) -> Result<Columns, Vec<LexError>> {
    let there = |(at, why): LexError| (bound.origin(at), why);
    let tokens = tokens::read(&bound.sql).map_err(|wrong| vec![there(wrong)])?;
    begins(&tokens, purpose).map_err(|wrong| vec![there(wrong)])?;
    let mut wrong = verbs(&tokens, purpose);
    let structure = match Structure::of(&bound.sql) {
        Ok(structure) => structure,
        // A verb says more than what the parser makes of it.
        Err(unread) if wrong.is_empty() => return Err(vec![there(unread)]),
        Err(_) => return Err(wrong.into_iter().map(there).collect()),
    };
    wrong.extend(calls(&tokens, &structure));
    wrong.extend(structure.unqualified());
    let mut wrong: Vec<LexError> = wrong.into_iter().map(there).collect();
    let parameters =
        tokens.iter().filter(|token| token.kind == TokenKind::Value && token.text.starts_with('$'));
    let typed = parameters.map(|token| bound.origin(token.at)).find(|at| !source[*at..].starts_with(":'"));
    wrong.extend(typed.map(|at| (at, "a value is written as :'name', not by its number".to_owned())));
    wrong.sort();
    wrong.dedup();
    if wrong.is_empty() { Ok(structure.columns) } else { Err(wrong) }
}

/// PostgreSQL decides by the first word what a statement is: so does this.
fn begins(tokens: &[SqlToken<'_>], purpose: Purpose) -> Result<(), LexError> {
    let allowed: &[&str] = match purpose {
        Purpose::Read | Purpose::Preview => &["select", "with"],
        Purpose::Act => &["select", "with", "insert", "update", "delete"],
    };
    let Some(first) = tokens.first() else { return Err((0, "there is no statement".to_owned())) };
    if allowed.iter().any(|word| first.is(word)) {
        return Ok(());
    }
    let what = match purpose {
        Purpose::Read => "what reads is a SELECT",
        Purpose::Preview => "a preview is a SELECT",
        Purpose::Act => "what acts is INSERT, UPDATE, DELETE or SELECT",
    };
    Err((first.at, format!("`{}` is refused: {what}", first.text.to_ascii_uppercase())))
}

/// Whatever is called and isn't on the list.
fn calls(tokens: &[SqlToken<'_>], structure: &Structure) -> Vec<LexError> {
    let called = (0..tokens.len()).filter(|at| tokens.get(at + 1).is_some_and(|next| next.sign("(")));
    called.filter_map(|at| call(tokens, at, structure)).collect()
}

fn call(tokens: &[SqlToken<'_>], at: usize, structure: &Structure) -> Option<LexError> {
    let token = tokens[at];
    let name = token.name()?;
    if structure.lists_columns(token.at) {
        return None;
    }
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    if before(1).is_some_and(|token| token.sign(".")) {
        let schema = before(2).and_then(SqlToken::name).unwrap_or_default();
        if schema == "pg_catalog"
            && !before(3).is_some_and(|token| token.sign("."))
            && FUNCTIONS.contains(name.as_str())
        {
            return None;
        }
        let from = before(2).map_or(token.at, |token| token.at);
        return Some((from, refused(&format!("{schema}.{name}"))));
    }
    let keyword = token.kind == TokenKind::Word && KEYWORDS.contains(&name.as_str());
    (!keyword && !FUNCTIONS.contains(name.as_str())).then(|| (token.at, refused(&name)))
}

fn refused(name: &str) -> String {
    format!("`{name}` is not among the functions that a team's own SQL may call")
}

/// Verbs in places where a parser may overlook them.
fn verbs(tokens: &[SqlToken<'_>], purpose: Purpose) -> Vec<LexError> {
    let mut wrong = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token.sign("(") {
            depth += 1;
        } else if token.sign(")") {
            depth = depth.saturating_sub(1);
        }
        let before = |words: &[&str]| at > 0 && words.iter().any(|word| tokens[at - 1].is(word));
        if token.kind != TokenKind::Word || (at > 0 && tokens[at - 1].sign(".")) {
            continue;
        }
        let next = |words: &[&str]| tokens.get(at + 1).is_some_and(|t| words.iter().any(|word| t.is(word)));
        if token.is("into") && !before(&["insert"]) {
            wrong.push((token.at, "SELECT … INTO makes a table, and is refused".to_owned()));
        }
        if token.is("for") && next(&["update", "no", "share", "key"]) && purpose != Purpose::Act {
            wrong.push((token.at, "it locks rows, and what only looks may not".to_owned()));
        }
        let verb = ["insert", "update", "delete", "merge"].iter().any(|verb| token.is(verb));
        if verb && !before(&["for", "key", "do"]) && (depth > 0 || purpose != Purpose::Act) {
            let why = match purpose {
                Purpose::Act => {
                    "inside another statement its rows are not counted: give it a title of its own"
                }
                _ => "what only looks may not change rows",
            };
            let verb = token.text.to_ascii_uppercase();
            wrong.push((
                token.at,
                format!("`{verb}` is refused here: {why} (a name so spelled stands in quotes)"),
            ));
        }
    }
    wrong
}

/// Whether a statement inserts, updates or deletes.
pub fn changes(sql: &str) -> bool {
    let tokens = tokens::read(sql).unwrap_or_default();
    let after = |at: usize, words: &[&str]| at > 0 && words.iter().any(|word| tokens[at - 1].is(word));
    tokens.iter().enumerate().any(|(at, token)| {
        let named = after(at, &["for", "key", "do"]) || (at > 0 && tokens[at - 1].sign("."));
        !named && ["insert", "update", "delete"].iter().any(|verb| token.is(verb))
    })
}
