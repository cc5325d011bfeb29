//! One command file → one [`Command`], or every mistake in it with its place.

use super::{
    Body, Command, Diagnostic, Header, Scope, Section, SectionCondition, Variant, allowlist, bind, custom,
};
use crate::command_line::ArgType;
use crate::model::{Risk, sha256_hex};
use std::collections::BTreeMap;

/// A file of the plain kind: `blocked.sql`, `backup.toml`.
pub fn command(file: &str, text: &str, own: bool) -> Result<Command, Vec<Diagnostic>> {
    let here = SourceFile { file, text };
    let (name, coded) = match file.rsplit_once('.') {
        Some((name, "toml")) => (name, true),
        Some((name, "sql")) => (name, false),
        _ => return Err(vec![here.at(0, "a command file ends in .sql or .toml")]),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Err(vec![here.at(0, "a command's name has lower-case letters, digits and dashes only")]);
    }
    if own && coded {
        return Err(vec![here.at(0, "a team's own command is SQL: code is built in")]);
    }
    let (start, toml, sql_start) = if coded { (0, text, text.len()) } else { here.split()? };
    let header: Header = toml::from_str(toml).map_err(|wrong| {
        let offset = wrong.span().map_or(0, |span| span.start);
        vec![here.at(start + offset, wrong.message())]
    })?;
    let mut mistakes = check_header(&here, &header);
    if own {
        mistakes.extend(custom::header(&here, &header));
    }
    let body = match coded {
        true => Body::Coded,
        false => match sections(&here, sql_start, (&header, own)) {
            Ok(sections) => Body::Sql(vec![Variant { least: 0, sections, source: source(text, sql_start) }]),
            Err(mut wrong) => {
                mistakes.append(&mut wrong);
                Body::Coded
            }
        },
    };
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Command { name: name.to_owned(), header, body, hash: sha256_hex(&[text.as_bytes()]), team: own })
}

fn source(text: &str, start: usize) -> String {
    text[start..].trim().to_owned()
}

/// A version variant: `checkpoints@17.sql`, plain SQL for servers of that major and up.
pub fn variant(
    commands: &mut BTreeMap<String, Command>,
    (file, text): (&str, &str),
    own: bool,
) -> Result<(), Vec<Diagnostic>> {
    let here = SourceFile { file, text };
    let parsed = file
        .strip_suffix(".sql")
        .and_then(|stem| stem.split_once('@'))
        .and_then(|(name, major)| Some((name, major.parse::<u32>().ok()?)));
    let Some((name, major)) = parsed else {
        return Err(vec![here.at(0, "a variant is named like `checkpoints@17.sql`")]);
    };
    let Some(command) = commands.get_mut(name) else {
        return Err(vec![here.at(0, &format!("there is no `{name}.sql` that this could be a variant of"))]);
    };
    if own && !command.team {
        return Err(vec![here.at(0, &format!("`{name}` is built in and can't be replaced, for no version"))]);
    }
    let found = sections(&here, 0, (&command.header, own))?;
    let Body::Sql(variants) = &mut command.body else {
        return Err(vec![here.at(0, &format!("`{name}` is coded and has no variants"))]);
    };
    variants.push(Variant { least: major, sections: found, source: source(text, 0) });
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.least));
    command.hash = sha256_hex(&[command.hash.as_bytes(), text.as_bytes()]);
    Ok(())
}

pub(super) struct SourceFile<'a> {
    file: &'a str,
    pub text: &'a str,
}

impl<'a> SourceFile<'a> {
    /// Where the header says that word first, at a line's beginning if it does.
    pub fn place(&self, word: &str) -> usize {
        let line = self.text.find(&format!("\n{word}")).map(|at| at + 1);
        line.or_else(|| self.text.find(word)).unwrap_or(0)
    }

    pub fn at(&self, offset: usize, what: &str) -> Diagnostic {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Diagnostic { file: self.file.to_owned(), line, column, what: what.trim().to_owned() }
    }

    /// Where the header starts, the header, and where the SQL starts.
    fn split(&self) -> Result<(usize, &'a str, usize), Vec<Diagnostic>> {
        let open = self.text.find("/*").filter(|at| self.text[..*at].trim().is_empty());
        let Some(open) = open else {
            return Err(vec![self.at(0, "a SQL command begins with its header in a /* comment */")]);
        };
        let Some(close) = self.text[open..].find("*/").map(|at| at + open) else {
            return Err(vec![self.at(open, "the header's comment is not closed")]);
        };
        Ok((open + 2, &self.text[open + 2..close], close + 2))
    }
}

/// What can be checked without a database.
fn check_header(here: &SourceFile<'_>, header: &Header) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    let place = |word: &str| here.place(word);
    for arg in &header.args {
        if let Err(why) = arg.check() {
            mistakes.push(here.at(place(&format!("\"{}\"", arg.name)), &why));
        }
    }
    if header.summary.trim().is_empty() || header.summary.ends_with('.') {
        mistakes.push(here.at(place("summary"), "the summary is one line without a full stop"));
    }
    if header
        .timeout
        .as_deref()
        .is_some_and(|timeout| crate::clock::duration_seconds(timeout).is_none_or(|s| s == 0))
    {
        mistakes.push(here.at(place("timeout"), "`timeout` is a duration such as \"5s\""));
    }
    for (column, threshold) in &header.thresholds {
        if threshold.warning.is_none() && threshold.critical.is_none() {
            mistakes.push(
                here.at(place(column), &format!("the threshold of `{column}` needs `warning` or `critical`")),
            );
        }
    }
    for code in header.on_error.keys() {
        if code.len() != 5 || !code.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()) {
            mistakes.push(
                here.at(place(code), &format!("`{code}` is no SQLSTATE: it has five digits and capitals")),
            );
        }
    }
    mistakes
}

/// A value that no person types: what the service's migrations directory holds, as JSON: an array, or a text that says why it
/// can't be read; null where none is configured.
pub const MIGRATIONS_DIRECTORY: &str = "migrations_directory";

fn sections(
    here: &SourceFile<'_>,
    start: usize,
    (header, own): (&Header, bool),
) -> Result<Vec<Section>, Vec<Diagnostic>> {
    let mut known: Vec<&str> = header.args.iter().map(|arg| arg.name.as_str()).collect();
    if header.args.iter().any(|arg| arg.kind == ArgType::Service && arg.name == "service") {
        known.push("database"); // the service's
        known.push(MIGRATIONS_DIRECTORY);
    }
    if header.risk == Risk::Danger {
        known.push("asked_at"); // when the plan was made
    }
    let (mut found, mut checked) = (Vec::new(), custom::StatementChecks::default());
    let mut mistakes = Vec::new();
    for part in titled_parts(here, start) {
        if part.sql.trim().is_empty() {
            if part.title.is_some() {
                mistakes.push(here.at(part.offset, "no statement stands under this title"));
            }
            continue;
        }
        let shape = match shape(&part.words, header.scope, &known) {
            Ok(shape) => shape,
            Err(why) => {
                mistakes.push(here.at(part.title_offset, &why));
                continue;
            }
        };
        match bind::bind_names(part.sql) {
            Ok(bound) => {
                if let Some((name, at)) = bound.names.iter().find(|(name, _)| !known.contains(&name.as_str()))
                {
                    mistakes.push(
                        here.at(part.offset + at, &format!("`:'{name}'` is no argument of this command")),
                    );
                }
                if own {
                    let errors = checked.statement(header, &shape, part.sql, &bound);
                    mistakes.extend(
                        errors.into_iter().map(|error| here.at(part.offset + error.at, &error.reason)),
                    );
                }
                let parameters = bind::distinct(&bound.names);
                let changes = allowlist::changes(&bound.sql);
                found.push(Section { title: part.title, changes, sql: bound.sql, parameters, ..shape });
            }
            Err(error) => mistakes.push(here.at(part.offset + error.at, &error.reason)),
        }
    }
    if found.is_empty() && mistakes.is_empty() {
        mistakes.push(here.at(start, "the file has no statement"));
    }
    if own && mistakes.is_empty() {
        mistakes.extend(checked.whole(header).into_iter().map(|why| here.at(start, &why)));
    }
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

/// What stands in a title's brackets: `server`, `database`, then `facts`, then `if argument` or `unless argument`.
fn shape(words: &str, scope: Scope, known: &[&str]) -> Result<Section, String> {
    let mut shape = Section {
        title: None,
        scope,
        when: None,
        facts: false,
        preview: false,
        changes: false,
        sql: String::new(),
        parameters: Vec::new(),
    };
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "server" => shape.scope = Scope::Server,
            "database" => shape.scope = Scope::Database,
            "facts" => shape.facts = true,
            "preview" => shape.preview = true,
            "if" | "unless" => {
                let argument = words.next().filter(|name| known.contains(name)).ok_or_else(|| {
                    format!("`{word}` is followed by an argument of this command: [database if service]")
                })?;
                shape.when = Some(SectionCondition { argument: argument.to_owned(), given: word == "if" });
            }
            other => return Err(format!("`{other}` is no scope: [server] or [database]")),
        }
    }
    Ok(shape)
}

struct SqlPart<'a> {
    title: Option<String>,
    /// What stands in brackets behind the title.
    words: String,
    sql: &'a str,
    title_offset: usize,
    offset: usize,
}

/// Splits at `-- ## Title [scope]` lines.
fn titled_parts<'a>(here: &SourceFile<'a>, start: usize) -> Vec<SqlPart<'a>> {
    let mut parts =
        vec![SqlPart { title: None, words: String::new(), sql: "", title_offset: start, offset: start }];
    let mut offset = start;
    for line in here.text[start..].split_inclusive('\n') {
        let next = offset + line.len();
        if let Some(title) = line.trim().strip_prefix("-- ## ") {
            let (title, words) = match title.trim().strip_suffix(']').and_then(|t| t.rsplit_once('[')) {
                Some((title, words)) => (title.trim(), words.to_owned()),
                None => (title.trim(), String::new()),
            };
            let title = Some(title.to_owned());
            parts.push(SqlPart { title, words, sql: "", title_offset: offset, offset: next });
        } else if let Some(part) = parts.last_mut() {
            part.sql = &here.text[part.offset..next];
        }
        offset = next;
    }
    parts
}
