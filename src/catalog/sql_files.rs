//! A team's reviewed SQL files, which `run-sql` runs: read whole and checked, when the program starts and again for each request. Two
//! people see all of the SQL before it runs, so it may do more than a team's own commands: change tables, and call any function.
//! What it may not do is leave its transaction, whose limits and names it could not be held to otherwise.

use super::tokens::{self, LexError, SqlToken};
use super::{
    Body, Command, Diagnostic, Header, Risk, Scope, Section, Variant, allowlist, nearest, sha256_hex,
};
use crate::command_line::{duration_seconds, shown};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Larger files fit no card: 64 KiB.
const LARGEST: u64 = 65_536;

/// A transaction may hold its locks this long at most, in seconds: an hour.
const LONGEST_S: u64 = 3_600;

/// What a statement may begin with.
const VERBS: [&str; 15] = [
    "alter", "analyze", "comment", "create", "delete", "drop", "grant", "insert", "merge", "refresh",
    "revoke", "select", "truncate", "update", "with",
];

/// What is never in a transaction, or is the server's and not a database's, wherever it stands behind CREATE, ALTER or DROP.
const NOT_IN_A_DATABASE: [&str; 6] = ["database", "role", "subscription", "system", "tablespace", "user"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileHeader {
    /// One line, without a full stop.
    summary: String,
    login: Option<String>,
    timeout: Option<String>,
}

/// Checks every file of a directory.
///
/// # Errors
/// All mistakes at once.
pub fn check(directory: &Path, like: &Command) -> Result<(), Vec<Diagnostic>> {
    let names = names(directory).map_err(|why| {
        vec![Diagnostic {
            file: directory.display().to_string(),
            line: 1,
            column: 1,
            what: format!("can't be read: {why}"),
        }]
    })?;
    let mistakes: Vec<Diagnostic> = names
        .iter()
        .filter_map(|name| match text(directory, name) {
            Ok(text) => command(name, &text, like).err(),
            Err(why) => Some(Diagnostic { file: format!("{name}.sql"), line: 1, column: 1, what: why }),
        })
        .collect();
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// The file of that name as it is now, as a command like `run-sql`.
///
/// # Errors
/// [`Error::User`]: a name that is no file of the directory, or a file with a mistake.
pub async fn find(directory: PathBuf, typed: &str, like: &Command) -> Result<Command> {
    let (typed, like) = (typed.to_owned(), like.clone());
    let reading = tokio::task::spawn_blocking(move || find_now(&directory, &typed, &like));
    reading.await.unwrap_or_else(|_| Err(Error::user("The directory of SQL files can't be read.")))
}

fn find_now(directory: &Path, typed: &str, like: &Command) -> Result<Command> {
    let name = typed.strip_suffix(".sql").unwrap_or(typed);
    let names = names(directory)
        .map_err(|why| Error::user(format!("The directory of SQL files can't be read: {why}.")))?;
    // Only what the directory lists: a path is never made of what somebody typed.
    if !names.iter().any(|known| known == name) {
        let problem = format!("There is no SQL file “{}”.", shown(typed));
        return Err(match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => Error::instead(problem, format!("Did you mean `{near}`?")),
            None if names.is_empty() => Error::instead(problem, "The directory has none."),
            None => Error::instead(problem, format!("There are: {}.", names.join(", "))),
        });
    }
    let text = text(directory, name).map_err(|why| Error::user(format!("{name}.sql {why}.")))?;
    command(name, &text, like).map_err(|wrong| Error::user(format!("The file has a mistake. {wrong}.")))
}

/// What the directory has, without the ending.
fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) =
            name.strip_suffix(".sql").filter(|name| !name.is_empty() && !name.starts_with('.'))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A file that really stands in the directory, whatever links lead there: why not, in words that follow its name.
fn text(directory: &Path, name: &str) -> Result<String, String> {
    let unreadable = |why: std::io::Error| format!("can't be read: {}", why.kind());
    let root = directory.canonicalize().map_err(unreadable)?;
    let path = root.join(format!("{name}.sql")).canonicalize().map_err(unreadable)?;
    if !path.starts_with(&root) {
        return Err("is a link that leads out of the directory".to_owned());
    }
    let facts = std::fs::metadata(&path).map_err(unreadable)?;
    if !facts.is_file() || facts.len() > LARGEST {
        return Err(format!("is no file of {} KiB at most", LARGEST / 1_024));
    }
    std::fs::read_to_string(&path).map_err(unreadable)
}

fn command(name: &str, text: &str, like: &Command) -> Result<Command, Diagnostic> {
    let mistake = |(at, what): LexError| {
        let before = text.get(..at).unwrap_or(text);
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Diagnostic { file: format!("{name}.sql"), line: before.matches('\n').count() + 1, column, what }
    };
    let (said, start) = header(text).map_err(mistake)?;
    let sections = statements(&text[start..]).map_err(|(at, why)| mistake((start + at, why)))?;
    let source = text[start..].trim().to_owned();
    let header = Header {
        summary: said.summary,
        login: said.login.unwrap_or_else(|| like.header.login.clone()),
        timeout: said.timeout,
        risk: Risk::Danger,
        ..like.header.clone()
    };
    let body = Body::Sql(vec![Variant { least: 0, sections, source }]);
    Ok(Command { name: name.to_owned(), header, body, hash: sha256_hex(&[text.as_bytes()]), team: true })
}

/// The TOML in the leading comment, and where the SQL begins.
fn header(text: &str) -> Result<(FileHeader, usize), LexError> {
    let open = text.find("/*").filter(|at| text[..*at].trim().is_empty());
    let open = open.ok_or((0, "it begins with its header in a /* comment */".to_owned()))?;
    let close =
        text[open..].find("*/").ok_or((open, "the header's comment is not closed".to_owned()))? + open;
    let said: FileHeader = toml::from_str(&text[open + 2..close]).map_err(|wrong| {
        (open + 2 + wrong.span().map_or(0, |span| span.start), wrong.message().trim().to_owned())
    })?;
    let wrong = |what: &str| Err((open, what.to_owned()));
    if said.summary.trim().is_empty() {
        return wrong("the summary says in one line what it does");
    }
    if said.login.as_deref().is_some_and(|login| !["maintain", "operator", "owner"].contains(&login)) {
        return wrong("the login is owner, maintain or operator");
    }
    let seconds = said.timeout.as_deref().map(duration_seconds);
    if seconds.is_some_and(|seconds| seconds.is_none_or(|s| s == 0 || s > LONGEST_S)) {
        return wrong(
            "`timeout` is a duration such as \"30s\", an hour at most, since it holds locks meanwhile",
        );
    }
    Ok((said, close + 2))
}

/// The statements, each checked.
fn statements(sql: &str) -> Result<Vec<Section>, LexError> {
    let tokens = tokens::read(sql)?;
    let mut sections = Vec::new();
    for part in tokens.split(|token| token.sign(";")).filter(|part| !part.is_empty()) {
        allowed(part)?;
        let (first, last) = (part[0], part[part.len() - 1]);
        let sql = sql[first.at..last.at + last.text.len()].to_owned();
        sections.push(Section {
            title: None,
            scope: Scope::Database,
            when: None,
            facts: false,
            preview: false,
            changes: allowlist::changes(&sql),
            sql,
            parameters: Vec::new(),
        });
    }
    match sections.is_empty() {
        true => Err((0, "the file has no statement".to_owned())),
        false => Ok(sections),
    }
}

/// One statement, which can run in a transaction and doesn't end it.
fn allowed(part: &[SqlToken<'_>]) -> Result<(), LexError> {
    let first = part[0];
    if !VERBS.iter().any(|verb| first.is(verb)) {
        let verb = first.text.to_uppercase();
        return Err((
            first.at,
            format!(
                "`{verb}` can't be run here: a statement begins with {}",
                VERBS.join(", ").to_uppercase()
            ),
        ));
    }
    for token in part {
        let outlives =
            |name: &str| name == "set_config" || name.contains("advisory_lock") && !name.contains("xact");
        let why = match () {
            () if token.is("concurrently") => "CONCURRENTLY takes no transaction, and the file runs in one",
            () if token.is("password") => "a password would stand on the card, and in the record",
            () if token.is("atomic") => "a body with BEGIN ATOMIC is written as a string: AS '…'",
            () if token.name().is_some_and(|name| outlives(&name)) => {
                "what it sets or locks would outlive its transaction"
            }
            () => continue,
        };
        return Err((token.at, why.to_owned()));
    }
    let defines = ["alter", "create", "drop"].iter().any(|verb| first.is(verb));
    match part.get(1).filter(|second| defines && NOT_IN_A_DATABASE.iter().any(|word| second.is(word))) {
        Some(second) => Err((
            second.at,
            format!("{} is no database's own, or takes no transaction", second.text.to_uppercase()),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_could_leave_its_transaction_is_refused_at_its_place() {
        for (sql, at) in [
            ("COMMIT", 0),
            ("SELECT 1; /* x */ rollback", 18),
            ("BEGIN", 0),
            ("VACUUM public.t", 0),
            ("SET ROLE postgres", 0),
            ("DO 'BEGIN END'", 0),
            ("CALL p()", 0),
            ("COPY public.t TO PROGRAM 'x'", 0),
            ("CREATE INDEX CONCURRENTLY i ON public.t (a)", 13),
            ("ALTER SYSTEM SET a = 1", 6),
            ("DROP DATABASE x", 5),
            ("CREATE ROLE x PASSWORD 'y'", 14),
            ("SELECT pg_catalog.set_config('role', 'x', false)", 18),
            ("SELECT pg_advisory_lock(1)", 7),
            ("-- nothing", 0),
            ("SAVEPOINT a", 0),
            ("PREPARE TRANSACTION 'a'", 0),
        ] {
            assert_eq!(statements(sql).expect_err(sql).0, at, "{sql}");
        }
    }

    #[test]
    fn statements_end_at_semicolons_that_are_theirs() {
        let sql = "ALTER TABLE public.t DROP COLUMN a;\n-- b; c\nUPDATE public.t SET b = ';' WHERE \"c;\" = 1;\nCOMMENT ON TABLE public.t IS 'x'";
        let found: Vec<String> = statements(sql).unwrap().into_iter().map(|section| section.sql).collect();
        assert_eq!(
            found,
            [
                "ALTER TABLE public.t DROP COLUMN a",
                "UPDATE public.t SET b = ';' WHERE \"c;\" = 1",
                "COMMENT ON TABLE public.t IS 'x'"
            ]
        );
    }
}
