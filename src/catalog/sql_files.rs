//! A team's reviewed SQL files, which `run-sql` runs: read whole and checked, when the program starts and again for each request. Two
//! people see all of the SQL before it runs, so a file may do more than custom commands: change tables, and call any function.
//! It may not leave its transaction, which holds its limits and its search_path.

use super::{Body, Command, Header, Scope, Section, Variant, allowlist, at_start, header};
use crate::clock::duration_seconds;
use crate::error::{Error, Result};
use crate::model::{LoginKind, Risk, sha256_hex};
use crate::sql_lexer::{self, SqlError, SqlToken};
use crate::suggest::{nearest, shown};
use crate::toml_reader::{self, Problems, Reader, Source};
use std::path::{Path, PathBuf};

/// Larger files fit no card: 64 KiB.
const LARGEST: u64 = 65_536;

/// A transaction may hold its locks this long at most, in seconds: an hour.
const LONGEST_S: u64 = 3_600;

/// Words that a statement may begin with.
const VERBS: [&str; 15] = [
    "alter", "analyze", "comment", "create", "delete", "drop", "grant", "insert", "merge", "refresh",
    "revoke", "select", "truncate", "update", "with",
];

/// Objects that can't be changed in a transaction, or that belong to the server, not to a database. They follow CREATE, ALTER or DROP.
const NOT_IN_A_DATABASE: [&str; 6] = ["database", "role", "subscription", "system", "tablespace", "user"];

/// Logins that a file may run with.
const LOGINS: [LoginKind; 3] = [LoginKind::Maintain, LoginKind::Operator, LoginKind::Owner];

struct FileHeader {
    summary: String,
    login: Option<LoginKind>,
    timeout: Option<String>,
}

/// Checks every file of a directory.
///
/// # Errors
/// All mistakes at once.
pub fn check(directory: &Path, like: &Command) -> Result<(), Problems> {
    let names = names(directory)
        .map_err(|error| at_start(directory.display().to_string(), format!("can't be read: {error}")))?;
    let mut problems = Problems::default();
    for name in &names {
        match text(directory, name) {
            Ok(text) => problems.0.extend(command(name, &text, like).err().unwrap_or_default().0),
            Err(reason) => problems.0.push(at_start(format!("{name}.sql"), reason)),
        }
    }
    problems.into_result(())
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
        .map_err(|error| Error::user(format!("The directory of SQL files can't be read: {error}.")))?;
    // A path is never made of what somebody typed: the name must be in the directory's list.
    if !names.iter().any(|known| known == name) {
        let problem = format!("There is no SQL file “{}”.", shown(typed));
        return Err(match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => Error::instead(problem, format!("Did you mean `{near}`?")),
            None if names.is_empty() => Error::instead(problem, "The directory has none."),
            None => Error::instead(problem, format!("There are: {}.", names.join(", "))),
        });
    }
    let text = text(directory, name).map_err(|reason| Error::user(format!("{name}.sql {reason}.")))?;
    command(name, &text, like).map_err(|problems| {
        let number = if problems.0.len() == 1 { "a mistake" } else { "mistakes" };
        Error::user(format!("The file has {number}. {}.", problems.to_string().replace('\n', ". ")))
    })
}

/// The names of the directory's files, without the ending; none while it can't be read.
pub async fn list(directory: PathBuf) -> Vec<String> {
    let reading = tokio::task::spawn_blocking(move || names(&directory).unwrap_or_default());
    reading.await.unwrap_or_default()
}

/// The names of the directory's files, without the ending.
fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let name = file.strip_suffix(".sql").filter(|name| !name.is_empty() && !name.starts_with('.'));
        names.extend(name.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The text of a file that is in the directory after all links are followed.
///
/// # Errors
/// The reason, in words that follow the file's name.
fn text(directory: &Path, name: &str) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {}", error.kind());
    let root = directory.canonicalize().map_err(unreadable)?;
    let path = root.join(format!("{name}.sql")).canonicalize().map_err(unreadable)?;
    if !path.starts_with(&root) {
        return Err("is a link that leads out of the directory".to_owned());
    }
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(format!("is no file of {} KiB at most", LARGEST / 1_024));
    }
    std::fs::read_to_string(&path).map_err(unreadable)
}

fn command(name: &str, text: &str, like: &Command) -> Result<Command, Problems> {
    let file = format!("{name}.sql");
    let source = Source::new(&file, text);
    let (toml, start) = header::split(source, "it begins with its header in a /* comment */")?;
    let sections = statements(&text[start..]);
    let sections = sections.map_err(|error| source.problem(start + error.at, error.reason));
    let (file_header, sections) = match (toml_reader::read(toml, file_header), sections) {
        (Ok(header), Ok(sections)) => (header, sections),
        (Ok(_), Err(problem)) => return Err(problem.into()),
        (Err(mut problems), sections) => {
            problems.0.extend(sections.err());
            return Err(problems);
        }
    };
    let header = Header {
        summary: file_header.summary,
        login: file_header.login.unwrap_or(like.header.login),
        timeout: file_header.timeout,
        risk: Risk::Danger,
        ..like.header.clone()
    };
    let source = text[start..].trim().to_owned();
    let body = Body::Sql(vec![Variant { min_major: 0, sections, source }]);
    let hash = sha256_hex(&[text.as_bytes()]);
    Ok(Command { name: name.to_owned(), header, body, hash, custom: true, is_limited: false })
}

fn file_header(table: &mut Reader<'_>) -> FileHeader {
    let summary = table.string("summary");
    if table.is_string("summary") && summary.trim().is_empty() {
        table.problem("summary", "the summary says in one line what it does");
    }
    let login = table.opt_choice("login", &LOGINS.map(|login| (login.name(), login)));
    let timeout = table.opt_string("timeout");
    let seconds = timeout.as_deref().map(|timeout| duration_seconds(timeout).unwrap_or(0));
    if seconds.is_some_and(|seconds| !(1..=LONGEST_S).contains(&seconds)) {
        let rule = "an hour at most, since it holds locks meanwhile";
        table.problem("timeout", format!("`timeout` is a duration such as \"30s\", {rule}"));
    }
    FileHeader { summary, login, timeout }
}

/// The statements, each checked.
fn statements(sql: &str) -> Result<Vec<Section>, SqlError> {
    let tokens = sql_lexer::strict(sql)?;
    let mut sections = Vec::new();
    for part in tokens.split(|token| token.is_symbol(";")) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        check_statement(part, first)?;
        let sql = sql[first.at..last.at + last.text.len()].to_owned();
        let changes_data = allowlist::changes(&sql);
        sections.push(Section { scope: Scope::Database, changes_data, sql, ..Section::default() });
    }
    if sections.is_empty() { Err(SqlError::new(0, "the file has no statement")) } else { Ok(sections) }
}

/// Checks that one statement can run in a transaction and doesn't end it.
fn check_statement(tokens: &[SqlToken<'_>], first: &SqlToken<'_>) -> Result<(), SqlError> {
    if !VERBS.iter().any(|verb| first.is(verb)) {
        let verb = first.text.to_uppercase();
        let verbs = VERBS.join(", ").to_uppercase();
        let reason = format!("`{verb}` can't be run here: a statement begins with {verbs}");
        return Err(SqlError::new(first.at, reason));
    }
    for token in tokens {
        let outlives =
            |name: String| name == "set_config" || name.contains("advisory_lock") && !name.contains("xact");
        let reason = if token.is("concurrently") {
            "CONCURRENTLY can't run in a transaction, and the file runs in one"
        } else if token.is("password") {
            "a password would be shown on the card and in the audit log"
        } else if token.is("atomic") {
            "a body with BEGIN ATOMIC is written as a string: AS '…'"
        } else if token.name().is_some_and(outlives) {
            "what it sets or locks would outlive its transaction"
        } else {
            continue;
        };
        return Err(SqlError::new(token.at, reason));
    }
    let defines = ["alter", "create", "drop"].iter().any(|verb| first.is(verb));
    match tokens.get(1) {
        Some(second) if defines && NOT_IN_A_DATABASE.iter().any(|word| second.is(word)) => {
            let kind = second.text.to_uppercase();
            let reason = format!("{kind} belongs to no database, or can't run in a transaction");
            Err(SqlError::new(second.at, reason))
        }
        _ => Ok(()),
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
            assert_eq!(statements(sql).expect_err(sql).at, at, "{sql}");
        }
    }

    #[test]
    fn statements_end_at_semicolons_that_are_theirs() {
        let sql = "ALTER TABLE public.t DROP COLUMN a;\n-- b; c\nUPDATE public.t SET b = ';' WHERE \"c;\" = 1;\nCOMMENT ON TABLE public.t IS 'x'";
        let found: Vec<String> = statements(sql).unwrap().into_iter().map(|section| section.sql).collect();
        let (second, third) =
            ("UPDATE public.t SET b = ';' WHERE \"c;\" = 1", "COMMENT ON TABLE public.t IS 'x'");
        assert_eq!(found, ["ALTER TABLE public.t DROP COLUMN a", second, third]);
    }
}
