//! One command file → one [`Command`], or every mistake in it with its place.

use super::{
    Body, Command, Header, Need, SHARED_QUERIES, Scope, Section, SectionCondition, Threshold, Variant,
    allowlist, bind, custom, need,
};
use crate::clock::duration_seconds;
use crate::command_line::{ArgSpec, ArgType, ChoiceSource};
use crate::model::{LoginKind, Risk, Severity, sha256_hex};
use crate::sql_lexer::SqlError;
use crate::toml_reader::{self, Problem, Problems, Reader, Source};
use std::collections::BTreeMap;
use strum::IntoEnumIterator;

const SEVERITIES: [(&str, Severity); 4] = [
    ("neutral", Severity::Neutral),
    ("ok", Severity::Ok),
    ("warning", Severity::Warning),
    ("critical", Severity::Critical),
];

/// The words for an enum's values in a header.
pub(super) fn words<T: IntoEnumIterator + Into<&'static str> + Copy>() -> Vec<(&'static str, T)> {
    T::iter().map(|value| (value.into(), value)).collect()
}

/// Parameter that the program fills in: the service's migrations as a JSON array, or the error of reading them as a JSON string;
/// null if no directory is configured.
pub const MIGRATIONS_DIRECTORY: &str = "migrations_directory";

/// Parameter that the program fills in: the age of each database's newest backup, as a JSON array, or the error of reading the storage as
/// a JSON string. Built-in commands only: it is read beforehand.
pub const BACKUP_AGES: &str = "backup_ages";

/// Parameter that the program fills in: how fast the databases of each server grow, as a JSON object by [`SERVER_NAME`]. Built-in
/// commands only: it is read beforehand.
pub const DISK_GROWTH: &str = "disk_growth";

/// Parameter that the program fills in: the name of the server that is asked, as the configuration has it.
pub const SERVER_NAME: &str = "server_name";

/// Parameter that the program fills in: every role that Countersign uses in the environment, as an array of PostgreSQL.
pub const OWN_ROLES: &str = "own_roles";

/// Parameter that the program fills in: "true", or "false" where the texts of statements can't be converted to the database's
/// encoding, so that everything but them is answered.
pub const STATEMENT_TEXTS: &str = "statement_texts";

/// Parameter that the program fills in: the server's wait-for graph, as JSON. Built-in commands only: it is read beforehand.
pub const WAIT_GRAPH: &str = "wait_graph";

/// Parameter that the program fills in: how far the WAL of each server of the environment is, as JSON. Built-in commands only: it is
/// read from all servers beforehand.
pub const WAL_POSITIONS: &str = "wal_positions";

/// Parses a command file without a version: `blocked.sql`, `backup.toml`.
pub fn command(file: &str, text: &str, custom: bool) -> Result<Command, Problems> {
    let source = Source::new(file, text);
    let wrong_file = |message: &str| Err(Problems::from(source.problem(0, message)));
    let (name, coded) = match file.rsplit_once('.') {
        Some((name, "toml")) => (name, true),
        Some((name, "sql")) => (name, false),
        _ => return wrong_file("a command file ends in .sql or .toml"),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return wrong_file("a command's name has lower-case letters, digits and dashes only");
    }
    if custom && coded {
        return wrong_file("a team's own command is SQL: code is built in");
    }
    let (toml, sql_start) = if coded {
        (source, text.len())
    } else {
        split(source, "a SQL command begins with its header in a /* comment */")?
    };
    let mut header = None;
    let read = toml_reader::read(toml, |table| header = read_header(table, custom));
    let mut problems = read.err().unwrap_or_default();
    let mut body = Body::Coded;
    if let Some(header) = header.as_ref().filter(|_| !coded) {
        match (SqlFile { source, header, custom }).sections(sql_start) {
            Ok(sections) => {
                let source = text[sql_start..].trim().to_owned();
                body = Body::Sql(vec![Variant { min_major: 0, sections, source }]);
            }
            Err(sql_problems) => problems.0.extend(sql_problems.0),
        }
    }
    match header {
        Some(header) if problems.0.is_empty() => {
            let hash = sha256_hex(&[text.as_bytes()]);
            Ok(Command { name: name.to_owned(), header, body, hash, custom, is_limited: custom })
        }
        _ => Err(problems),
    }
}

/// The header in a file's leading comment, and the offset of the SQL behind it.
pub(super) fn split<'t>(source: Source<'t>, missing: &str) -> Result<(Source<'t>, usize), Problem> {
    let text = source.text;
    let open = text.find("/*").filter(|at| text[..*at].trim().is_empty());
    let open = open.ok_or_else(|| source.problem(0, missing))?;
    let length =
        text[open..].find("*/").ok_or_else(|| source.problem(open, "the header's comment is not closed"))?;
    Ok((source.part(open + 2..open + length), open + length + 2))
}

/// A version variant: `checkpoints@17.sql`, plain SQL for servers of that major version and later.
pub fn variant(
    commands: &mut BTreeMap<String, Command>,
    file: &str,
    text: &str,
    custom: bool,
) -> Result<(), Problems> {
    let source = Source::new(file, text);
    let wrong_file = |message: String| Err(Problems::from(source.problem(0, message)));
    let parsed = file.strip_suffix(".sql").and_then(|stem| stem.split_once('@'));
    let Some((name, Ok(major))) = parsed.map(|(name, major)| (name, major.parse())) else {
        return wrong_file("a variant is named like `checkpoints@17.sql`".to_owned());
    };
    let Some(command) = commands.get_mut(name) else {
        return wrong_file(format!("there is no `{name}.sql` that this could be a variant of"));
    };
    if custom && !command.custom {
        return wrong_file(format!("`{name}` is built in and can't be replaced, for no version"));
    }
    let sections = SqlFile { source, header: &command.header, custom }.sections(0)?;
    let Body::Sql(variants) = &mut command.body else {
        return wrong_file(format!("`{name}` is coded and has no variants"));
    };
    variants.push(Variant { min_major: major, sections, source: text.trim().to_owned() });
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.min_major));
    command.hash = sha256_hex(&[command.hash.as_bytes(), text.as_bytes()]);
    Ok(())
}

/// Reads and checks a header. `None` if the risk or an argument's type is missing: statements can't be checked without them.
fn read_header(table: &mut Reader<'_>, custom: bool) -> Option<Header> {
    let risk = table.choice("risk", &words::<Risk>());
    let args = table.tables("args", argument);
    let scope = table.opt_choice("scope", &words::<Scope>()).unwrap_or_default();
    let header = Header {
        summary: summary(table),
        group: table.string("group"),
        risk: risk.unwrap_or(Risk::Danger),
        scope,
        login: table.opt_choice("login", &words::<LoginKind>()).unwrap_or_default(),
        needs: needs(table, scope, custom),
        args: args.iter().flatten().cloned().collect(),
        example: table.string("example"),
        details: table.opt_string("details"),
        verdict_empty: table.opt_string("verdict_empty"),
        empty_severity: table.opt_choice("empty_severity", &SEVERITIES).unwrap_or_default(),
        verdict: table.opt_string("verdict"),
        rows_severity: table.opt_choice("rows_severity", &SEVERITIES).unwrap_or_default(),
        next: table.opt_string("next"),
        next_by: templates(table, "next_by"),
        limits: templates(table, "limits"),
        row_action: table.opt_string("row_action"),
        row_action_if: table.opt_string("row_action_if"),
        row_action_severity: table.opt_choice("row_action_severity", &SEVERITIES),
        sort: table.opt_string("sort"),
        top: top(table),
        thresholds: table.opt_table("thresholds", thresholds).unwrap_or_default(),
        on_error: on_error(table),
        timeout: table.opt_string("timeout"),
        posts_progress: table.flag("posts_progress"),
        allow_any_operator: table.flag("allow_any_operator"),
        allowed_while_frozen: table.flag("while_frozen"),
        preview_columns: table.strings("preview_columns"),
        plain_columns: table.strings("plain_columns"),
    };
    let seconds = header.timeout.as_deref().map(|timeout| duration_seconds(timeout).unwrap_or(0));
    if seconds == Some(0) {
        table.problem("timeout", "`timeout` is a duration such as \"5s\"");
    }
    if custom && risk.is_some() {
        custom::check_header(table, &header);
    }
    let other = header
        .needs
        .iter()
        .find(|need| need.login().is_some_and(|login| login != LoginKind::Reader && login != header.login));
    if let Some(need) = other {
        table.problem("needs", format!("`{}` needs another `login`", need.name()));
    }
    (risk.is_some() && args.iter().all(Option::is_some)).then_some(header)
}

/// The needs. A custom command can have one, by its own key, and its SQL shows the others.
fn needs(table: &mut Reader<'_>, scope: Scope, custom: bool) -> Vec<Need> {
    if custom {
        let sees_sessions = table.flag("needs_pg_read_all_stats");
        return if sees_sessions { vec![Need::Sessions] } else { Vec::new() };
    }
    need::read(table, scope != Scope::None)
}

fn top(table: &mut Reader<'_>) -> Option<usize> {
    let top = table.opt_integer("top")?;
    let rows = usize::try_from(top).ok();
    if rows.is_none() {
        table.problem("top", format!("`top` is a number of rows, not {top}"));
    }
    rows
}

fn summary(table: &mut Reader<'_>) -> String {
    let summary = table.string("summary");
    if table.is_string("summary") && (summary.trim().is_empty() || summary.ends_with('.')) {
        table.problem("summary", "the summary is one line without a full stop");
    }
    summary
}

fn argument(table: &mut Reader<'_>) -> Option<ArgSpec> {
    let kind = table.choice("type", &words::<ArgType>());
    let argument = ArgSpec {
        name: table.string("name"),
        kind: kind.unwrap_or(ArgType::Text),
        default: table.opt_string("default"),
        help: table.string("help"),
        choices: table.strings("choices"),
        positional: table.flag("positional"),
        switch: table.flag("switch"),
        required: table.flag("required"),
        hidden: table.flag("hidden"),
        required_unless: table.opt_string("required_unless"),
        choices_from: table.opt_choice("choices_from", &words::<ChoiceSource>()),
    };
    kind?;
    if let Err(reason) = argument.check() {
        table.problem("name", reason);
    }
    Some(argument)
}

/// Reads the thresholds. Their keys are identifiers, which a team's configuration names.
fn thresholds(table: &mut Reader<'_>) -> BTreeMap<String, Threshold> {
    let mut thresholds = BTreeMap::new();
    for key in table.keys() {
        if !key.value.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            let rule = "which has lower-case letters and `_`: name its column as `column`";
            table.problem_at(key.at, format!("`{}` is no key for a threshold, {rule}", key.value));
        }
        let threshold = table.opt_table(&key.value, |threshold| Threshold {
            column: threshold.opt_string("column").unwrap_or_else(|| key.value.clone()),
            warning: threshold.opt_number("warning"),
            critical: threshold.opt_number("critical"),
            below: threshold.flag("below"),
            message: threshold.opt_string("message"),
            next: threshold.opt_string("next"),
            in_part: threshold.flag("in_part"),
            urgent: threshold.flag("urgent"),
        });
        let Some(threshold) = threshold else { continue };
        if threshold.warning.is_none() && threshold.critical.is_none() {
            let message = format!("the threshold of `{}` needs `warning` or `critical`", key.value);
            table.problem_at(key.at, message);
        }
        thresholds.insert(key.value, threshold);
    }
    thresholds
}

/// Reads a table of columns and their templates.
fn templates(table: &mut Reader<'_>, key: &str) -> BTreeMap<String, String> {
    table.map(key).into_iter().map(|(column, template)| (column.value, template.value)).collect()
}

fn on_error(table: &mut Reader<'_>) -> BTreeMap<String, String> {
    let texts = table.map("on_error");
    for (code, _) in &texts {
        let letter = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase();
        if code.value.len() != 5 || !code.value.chars().all(letter) {
            let message = format!("`{}` is no SQLSTATE: it has five digits and capitals", code.value);
            table.problem_at(code.at, message);
        }
    }
    texts.into_iter().map(|(code, text)| (code.value, text.value)).collect()
}

/// The SQL of a file, and the header that it is checked by.
struct SqlFile<'a> {
    source: Source<'a>,
    header: &'a Header,
    custom: bool,
}

impl<'a> SqlFile<'a> {
    /// The sections of the SQL that begins at an offset.
    fn sections(&self, start: usize) -> Result<Vec<Section>, Problems> {
        let known = self.known_names();
        let (mut sections, mut checks) = (Vec::new(), custom::StatementChecks::default());
        let mut problems = Problems::default();
        for part in titled_parts(self.source.text, start) {
            if part.sql.trim().is_empty() {
                if part.title.is_some() {
                    problems.0.push(self.source.problem(part.offset, "no statement follows this title"));
                }
                continue;
            }
            match section_options(part.words, self.header.scope, &known) {
                Ok(options) => match self.section(&part, options, &known, &mut checks) {
                    Ok(section) => sections.push(section),
                    Err(errors) => problems.0.extend(
                        errors.into_iter().map(|e| self.source.problem(part.offset + e.at, e.reason.trim())),
                    ),
                },
                Err(reason) => problems.0.push(self.source.problem(part.title_offset, reason)),
            }
        }
        if problems.0.is_empty() {
            let missing_part = || checks.finish(self.header).filter(|_| self.custom);
            let reason = sections.is_empty().then_some("the file has no statement").or_else(missing_part);
            problems.0.extend(reason.map(|reason| self.source.problem(start, reason)));
        }
        problems.into_result(sections)
    }

    /// The names that statements may bind.
    fn known_names(&self) -> Vec<&'a str> {
        let args = &self.header.args;
        let mut known: Vec<&str> = args.iter().map(|arg| arg.name.as_str()).collect();
        if args.iter().any(|arg| arg.kind == ArgType::Service && arg.name == "service") {
            known.push("database"); // the service's database
            known.push(MIGRATIONS_DIRECTORY);
        }
        known.push(OWN_ROLES);
        if !self.custom {
            known.extend([BACKUP_AGES, DISK_GROWTH, SERVER_NAME, WAIT_GRAPH, WAL_POSITIONS, STATEMENT_TEXTS]);
            known.extend(SHARED_QUERIES.map(|(name, _)| name));
        }
        if self.header.risk == Risk::Danger {
            known.push("asked_at"); // the time of the request, when the plan was made
        }
        known
    }

    /// One statement, bound; the errors' offsets are in the part.
    fn section(
        &self,
        part: &SqlPart<'_>,
        options: Section,
        known: &[&str],
        checks: &mut custom::StatementChecks,
    ) -> Result<Section, Vec<SqlError>> {
        let bound = bind::bind_names(part.sql).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        if let Some((name, at)) = bound.names.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            errors.push(SqlError::new(*at, format!("`:'{name}'` is no argument of this command")));
        }
        if self.custom {
            errors.extend(checks.check(self.header, &options, part.sql, &bound));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let parameters = bind::parameter_order(&bound.names);
        let changes_data = allowlist::changes(&bound.sql);
        let (title, subject) = (part.title.clone(), subject(part.sql));
        Ok(Section { title, subject, changes_data, sql: bound.sql, parameters, ..options })
    }
}

/// A section without its SQL, as the words in its title's brackets have it: `server`, `database`, then `facts`, `limits`, `check` or `public`, then `if argument` or `unless argument`.
fn section_options(words: &str, scope: Scope, known: &[&str]) -> Result<Section, String> {
    let mut options = Section { scope, ..Section::default() };
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "server" => options.scope = Scope::Server,
            "database" => options.scope = Scope::Database,
            "facts" => options.transposed = true,
            "preview" => options.preview = true,
            "limits" => options.limits = true,
            "check" => options.check = true,
            "public" => options.public = true,
            "if" | "unless" => {
                let argument = words.next().filter(|name| known.contains(name)).ok_or_else(|| {
                    format!("`{word}` is followed by an argument of this command: [database if service]")
                })?;
                options.when =
                    Some(SectionCondition { argument: argument.to_owned(), must_be_set: word == "if" });
            }
            other => return Err(format!("`{other}` is no scope: [server] or [database]")),
        }
    }
    Ok(options)
}

/// The words of a line `-- Looked at: …` before the statement.
fn subject(sql: &str) -> Option<String> {
    let mut comments = sql.lines().map_while(|line| {
        let line = line.trim();
        (line.is_empty() || line.starts_with("--")).then_some(line)
    });
    comments.find_map(|line| Some(line.strip_prefix("-- Looked at: ")?.trim().to_owned()))
}

struct SqlPart<'a> {
    title: Option<String>,
    /// The words in brackets behind the title.
    words: &'a str,
    sql: &'a str,
    title_offset: usize,
    offset: usize,
}

/// Splits at `-- ## Title [scope]` lines.
fn titled_parts(text: &str, start: usize) -> Vec<SqlPart<'_>> {
    let mut parts = vec![SqlPart { title: None, words: "", sql: "", title_offset: start, offset: start }];
    let mut offset = start;
    for line in text[start..].split_inclusive('\n') {
        let next = offset + line.len();
        if let Some(title) = line.trim().strip_prefix("-- ## ") {
            let brackets = title.trim().strip_suffix(']').and_then(|title| title.rsplit_once('['));
            let (title, words) = brackets.unwrap_or((title, ""));
            // Without a title its rows are only for the verdict.
            let title = Some(title.trim().to_owned()).filter(|title| !title.is_empty());
            parts.push(SqlPart { title, words, sql: "", title_offset: offset, offset: next });
        } else if let Some(part) = parts.last_mut() {
            part.sql = &text[part.offset..next];
        }
        offset = next;
    }
    parts
}
