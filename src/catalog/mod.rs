//! Command files → [`Command`]s, checked whole at start: a mistake stops the program with file, line and column.
//! A file's name is its command's name. Help, "did you mean" and the table in docs/commands.md derive from here; what runs a command
//! does not live here.

use crate::command_line::ArgSpec;
use crate::config::{Environment, ThresholdOverride};
use crate::model::{LoginKind, Risk, Severity};
use crate::suggest::nearest;
use crate::toml_reader::{Problem, Problems, SourcePosition};
use include_dir::{Dir, include_dir};
use std::collections::BTreeMap;
use std::path::Path;

pub mod allowlist;
pub mod bind;
mod custom;
mod header;
mod need;
mod shared;
pub mod sql_files;

pub use custom::COUNT_COLUMN;
pub use header::{
    BACKUP_AGES, DISK_GROWTH, MIGRATIONS_DIRECTORY, OWN_ROLES, SERVER_NAME, STATEMENT_TEXTS, WAIT_GRAPH,
    WAL_POSITIONS,
};
pub use need::Need;
pub use shared::{IDLE_SESSIONS, SHARED_QUERIES, SharedQuery, shared_query};

/// The runbook that was reviewed is the runbook that runs.
static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/commands");

/// The targets of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "lowercase")]
pub enum Scope {
    /// The record, the configuration: no environment needed.
    #[default]
    None,
    /// An environment, and nothing in particular of it.
    Environment,
    /// Each server of the environment.
    Server,
    /// Each service's database, or one service's.
    Database,
}

/// Limits of a column's value, and the message beyond them.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// The column whose value is compared.
    pub column: String,
    pub warning: Option<f64>,
    pub critical: Option<f64>,
    /// The limits are crossed when the value falls below them, not when it rises above.
    pub below: bool,
    /// `{value}` and the row's columns in braces: "{used_pct} of the connections are taken". Empty: the value is coloured, and
    /// another column speaks for it.
    pub message: Option<String>,
    /// The next step, shown where neither the sentences of the answer nor its rows have one.
    pub next: Option<String>,
    /// Beyond the limit the section saw only a part of what it looks at, and the answer says so.
    pub in_part: bool,
    /// It hurts users now: of findings of one severity it is told first.
    pub urgent: bool,
}

/// The header of a command file.
#[derive(Debug, Clone)]
pub struct Header {
    /// One line, without a full stop.
    pub summary: String,
    /// Its group in help.
    pub group: String,
    pub risk: Risk,
    pub scope: Scope,
    /// The login that it needs: reader unless said otherwise.
    pub login: LoginKind,
    /// What it needs beyond a connection. Without [`Need::Sessions`] it says so, never "nothing found".
    pub needs: Vec<Need>,
    pub args: Vec<ArgSpec>,
    /// A line that works: shown in help, run by the tests.
    pub example: String,
    /// More for `help <command>`: what it won't do, what to know.
    pub details: Option<String>,
    /// The verdict when no row came.
    pub verdict_empty: Option<String>,
    /// Severity of an answer without rows: "ok" where a row would be a finding, since what isn't found is no success.
    pub empty_severity: Severity,
    /// The verdict when rows came and no threshold was crossed. `{rows}`, the first row's columns in braces, and `{checks}` for the
    /// checks that ran on every target.
    pub verdict: Option<String>,
    /// Severity of an answer with rows.
    pub rows_severity: Severity,
    /// One next step, shown when rows came.
    pub next: Option<String>,
    /// Column to the next step that is shown where it has a value and no row has an action.
    pub next_by: BTreeMap<String, String>,
    /// Column to what the answer can't tell, shown where the column has a value: an answer with such a limit is never an all-clear.
    pub limits: BTreeMap<String, String>,
    /// A button on each row that starts that request: "kill {pid}".
    pub row_action: Option<String>,
    /// Rows are offered, and verdicts taken, only where this column is true.
    pub row_action_if: Option<String>,
    /// Rows are offered, and the next step taken, only where some value of the row is at least as severe by the thresholds.
    pub row_action_severity: Option<Severity>,
    /// Merged rows are ordered by this column, largest first.
    pub sort: Option<String>,
    /// So many merged rows are shown of each section: where ten targets have ten rows each.
    pub top: Option<usize>,
    pub thresholds: BTreeMap<String, Threshold>,
    /// SQLSTATE to what a person should read instead of an error.
    pub on_error: BTreeMap<String, String>,
    /// Each target has this long to answer, "5s"; else the environment's statement_timeout.
    pub timeout: Option<String>,
    /// Posts a message of its own that is edited while it runs.
    pub posts_progress: bool,
    /// Anyone who may act or approve anywhere may run it, whatever else their roles say: `freeze`, `withdraw`.
    pub allow_any_operator: bool,
    /// Frozen or not, it runs: `unfreeze` itself, `freeze`.
    pub allowed_while_frozen: bool,
    /// Columns of a preview whose values the card may show: what tells rows apart, and is nobody's secret.
    pub preview_columns: Vec<String>,
    /// Columns of a custom command that are shown as they are: their values are nobody's secret.
    pub plain_columns: Vec<String>,
}

/// The condition under which a section runs.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionCondition {
    pub argument: String,
    /// True if the argument must have a value, false if it must have none. "all" for a service is no value.
    pub must_be_set: bool,
}

/// One titled statement of a SQL command.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    pub title: Option<String>,
    /// Words for what it looks at, where the title doesn't say it: `-- Looked at: rows and sizes of tables` below the title.
    pub subject: Option<String>,
    /// The command's scope unless the title line names another: `-- ## Services [database]`.
    pub scope: Scope,
    /// Runs only if, or unless, an argument has a value: `[database if service]`, `[server unless service]`.
    pub when: Option<SectionCondition>,
    /// One row of each target, shown as a column of the table: `[server facts]`.
    pub transposed: bool,
    /// Its rows are not shown: they fill what the header's `limits` say: `[limits]`.
    pub limits: bool,
    /// One check, named by its title: one row of each target, of which the answer shows `result`: `[check]`. It is listed as not
    /// checked where it fails or where its row has a reason in `_not_checked`. Shares the connection of the section before it.
    pub check: bool,
    /// Needs no privilege, even if the command does: `[public]`.
    pub public: bool,
    /// Counts what the others will change, for the card: `[preview]`.
    pub preview: bool,
    /// It inserts, updates or deletes rows.
    pub changes_data: bool,
    /// With `$n::text` where the file has `:'name'`.
    pub sql: String,
    /// The names behind `$1`, `$2` …
    pub parameters: Vec<String>,
}

impl Section {
    /// Words for what it looks at within a sentence: its own, its title, or else the command's summary.
    pub fn subject(&self, command: &Command) -> String {
        let title = self.title.as_deref().unwrap_or(&command.header.summary);
        self.subject.clone().unwrap_or_else(|| without_initial_capital(title))
    }
}

/// A title as it is written within a sentence: "XID wraparound" keeps its capitals.
fn without_initial_capital(title: &str) -> String {
    let mut letters = title.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => title.to_owned(),
    }
}

/// The sections for servers of at least a major version; the plain file is for version 0.
#[derive(Debug, Clone)]
pub struct Variant {
    pub min_major: u32,
    pub sections: Vec<Section>,
    /// The SQL as written, for cards that show it whole.
    pub source: String,
}

/// SQL or code.
#[derive(Debug, Clone)]
pub enum Body {
    /// Newest first.
    Sql(Vec<Variant>),
    /// Code in `src/actions/`.
    Coded,
}

/// One chat command.
#[derive(Debug, Clone)]
pub struct Command {
    pub name: String,
    pub header: Header,
    pub body: Body,
    /// SHA-256 of its files, in hex.
    pub hash: String,
    /// A team's own, not built in.
    pub custom: bool,
    /// Custom SQL: it may execute only what is on the allowlist.
    pub is_limited: bool,
}

impl Command {
    /// "kill <pid>", "long [--over 30s]".
    pub fn usage(&self) -> String {
        let args = self.header.args.iter().filter(|arg| !arg.hidden);
        args.fold(self.name.clone(), |usage, arg| format!("{usage} {}", arg.usage()))
    }

    /// True if its rows are other sessions.
    pub fn needs_sessions(&self) -> bool {
        self.header.needs.contains(&Need::Sessions)
    }

    /// The SQL for a server of that major version.
    pub fn variant(&self, major: u32) -> Option<&Variant> {
        match &self.body {
            Body::Sql(variants) => variants.iter().find(|variant| major >= variant.min_major),
            Body::Coded => None,
        }
    }

    /// The sections for a server of that major version.
    pub fn sections(&self, major: u32) -> &[Section] {
        self.variant(major).map(|variant| variant.sections.as_slice()).unwrap_or_default()
    }
}

/// Every command, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    commands: BTreeMap<String, Command>,
    /// Environment and command, where a team's limits differ from the file's.
    adjusted: BTreeMap<(String, String), Command>,
}

impl Catalog {
    /// The built-in runbook, without a team's directory.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn built_in() -> Result<Catalog, Problems> {
        let files = BUILT_IN.files().filter_map(|file| {
            let name = file.path().to_str()?.to_owned();
            Some((name, file.contents_utf8().unwrap_or_default().to_owned()))
        });
        let mut catalog = Catalog::default();
        catalog.add(files.collect(), false).into_result(catalog)
    }

    /// Adds a team's own directory: `.sql` files, read or danger, never a built-in's name.
    ///
    /// # Errors
    /// All mistakes at once; a directory that can't be read is one.
    pub fn with_directory(mut self, directory: &Path) -> Result<Catalog, Problems> {
        let unreadable = |path: &Path, cause: &std::io::Error| {
            at_start(path.display().to_string(), format!("can't be read: {cause}"))
        };
        let (mut files, mut problems) = (Vec::new(), Problems::default());
        for entry in std::fs::read_dir(directory).map_err(|cause| unreadable(directory, &cause))? {
            let path = entry.map_err(|cause| unreadable(directory, &cause))?.path();
            if path.extension().is_some_and(|extension| extension == "sql" || extension == "toml") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                match std::fs::read_to_string(&path) {
                    Ok(text) => files.push((name, text)),
                    Err(cause) => problems.0.push(unreadable(&path, &cause)),
                }
            }
        }
        files.sort();
        problems.0.extend(self.add(files, true).0);
        problems.into_result(self)
    }

    /// Adds one custom command from a text; `file` is its file's name.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn with_file(mut self, file: &str, text: &str) -> Result<Catalog, Problems> {
        let problems = self.add(vec![(file.to_owned(), text.to_owned())], true);
        problems.into_result(self)
    }

    /// Adds the commands that are right, and returns every mistake in the others.
    fn add(&mut self, files: Vec<(String, String)>, custom: bool) -> Problems {
        let mut problems = Problems::default();
        let (variants, plain): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| name.contains('@'));
        for (file, text) in plain {
            match header::command(&file, &text, custom) {
                Ok(command) if self.commands.contains_key(&command.name) => {
                    let message = format!("`{}` is a command already and can't be replaced", command.name);
                    problems.0.push(at_start(file, message));
                }
                Ok(command) => {
                    self.commands.insert(command.name.clone(), command);
                }
                Err(errors) => problems.0.extend(errors.0),
            }
        }
        for (file, text) in variants {
            if let Err(errors) = header::variant(&mut self.commands, &file, &text, custom) {
                problems.0.extend(errors.0);
            }
        }
        for command in self.commands.values() {
            let Some(line) = &command.header.row_action else { continue };
            let offered = line.split_whitespace().next().unwrap_or_default();
            if !self.commands.contains_key(offered) {
                let message = format!("it offers `{offered}`, which is no command");
                problems.0.push(at_start(format!("{}.sql", command.name), message));
            }
        }
        problems
    }

    /// Takes each environment's own limits.
    ///
    /// # Errors
    /// All mistakes at once: a command or a column without thresholds, a critical limit that is crossed before the warning.
    pub fn with_limits(mut self, environments: &[Environment]) -> Result<Catalog, Vec<String>> {
        let mut mistakes = Vec::new();
        for Environment { name, limits, .. } in environments {
            let wrong = limits.iter().filter_map(|limit| self.adjust(name, limit).err());
            mistakes.extend(wrong.map(|wrong| format!("thresholds of the environment `{name}`: {wrong}")));
        }
        if mistakes.is_empty() { Ok(self) } else { Err(mistakes) }
    }

    fn adjust(&mut self, environment: &str, limit: &ThresholdOverride) -> Result<(), String> {
        let ThresholdOverride { command: name, column, warning, critical } = limit;
        let known = self.commands.get(name).ok_or_else(|| format!("there is no command `{name}`"))?;
        let key = (environment.to_owned(), name.clone());
        let command = self.adjusted.entry(key).or_insert_with(|| known.clone());
        let Some(threshold) = command.header.thresholds.get_mut(column) else {
            let columns: Vec<&str> = known.header.thresholds.keys().map(String::as_str).collect();
            return Err(match columns.join(", ") {
                columns if columns.is_empty() => format!("`{name}` has no thresholds"),
                columns => format!("`{name}` has no threshold for `{column}`; it has {columns}"),
            });
        };
        threshold.warning = warning.or(threshold.warning);
        threshold.critical = critical.or(threshold.critical);
        match (threshold.warning, threshold.critical) {
            (Some(warning), Some(critical))
                if (critical < warning) != threshold.below && critical != warning =>
            {
                Err(format!("`{name}.{column}` would be acted on at {critical} and watched from {warning}"))
            }
            _ => Ok(()),
        }
    }

    /// The command with the limits of that environment.
    pub fn adjusted<'a>(&'a self, command: &'a Command, environment: &str) -> &'a Command {
        self.adjusted.get(&(environment.to_owned(), command.name.clone())).unwrap_or(command)
    }

    pub fn find(&self, name: &str) -> Option<&Command> {
        self.commands.get(name)
    }

    /// All commands, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.commands.values()
    }

    /// The table in docs/commands.md.
    pub fn markdown(&self) -> String {
        let mut table = "| command | risk | what it does |\n|---|---|---|\n".to_owned();
        for command in self.iter() {
            let usage = command.usage().replace('|', "\\|");
            let (risk, summary) = (command.header.risk.word(), &command.header.summary);
            table.push_str(&format!("| `{usage}` | {risk} | {summary} |\n"));
        }
        table
    }

    /// The command that a misspelt name most likely means.
    pub fn suggest(&self, typed: &str) -> Option<&Command> {
        nearest(typed, self.commands.keys().map(String::as_str)).and_then(|name| self.find(name))
    }
}

/// A problem with a whole file.
fn at_start(file: String, message: String) -> Problem {
    Problem { file, at: Some(SourcePosition { line: 1, column: 1 }), message }
}
