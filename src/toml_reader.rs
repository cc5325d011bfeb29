//! A reader of TOML that knows the position of every value and reports every mistake at once: unknown keys, missing keys,
//! wrong types, bad values. The configuration and the headers of command files use it, so it knows nothing of either.
//!
//! After a mistake a method returns a default (an empty string, zero, `None`) and reading continues; [`read`] then returns
//! the problems and drops the value that was built from defaults. A table is read inside a closure, so that no one can
//! forget to ask for the keys that nobody read.

use crate::clock::parse_duration;
use crate::suggest::{quoted, suggestion};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

mod syntax;

/// A place in a text: lines and columns begin at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePosition {
    pub line: usize,
    pub column: usize,
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the person named it.
    pub file: String,
    /// Absent when the file as a whole is the problem.
    pub at: Option<SourcePosition>,
    /// The mistake and its correction; never a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(SourcePosition { line, column }) => {
                write!(f, "{}:{line}:{column}: {}", self.file, self.message)
            }
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// All mistakes, in the order of the file; `Display` gives one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The value, if there are no problems.
    ///
    /// # Errors
    /// The problems.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// A file's text, and the part of it that is TOML.
#[derive(Debug, Clone, Copy)]
pub struct Source<'t> {
    file: &'t str,
    pub text: &'t str,
    toml: &'t str,
    /// Byte offset of the TOML in the text.
    start: usize,
}

impl<'t> Source<'t> {
    /// A file that is TOML from its beginning to its end.
    pub fn new(file: &'t str, text: &'t str) -> Self {
        Source { file, text, toml: text, start: 0 }
    }

    /// The same file, where only a part is TOML, given by its byte offsets.
    pub fn part(self, part: Range<usize>) -> Self {
        Source { start: part.start, toml: &self.text[part], ..self }
    }

    /// A problem at a byte of the text.
    pub fn problem(&self, offset: usize, message: impl Into<String>) -> Problem {
        Problem { file: self.file.into(), at: Some(self.position(offset)), message: message.into() }
    }

    /// The position of a byte of the text.
    pub fn position(&self, offset: usize) -> SourcePosition {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        SourcePosition { line, column }
    }

    /// The position of a byte of the TOML.
    fn toml_position(&self, offset: usize) -> SourcePosition {
        self.position(self.start + offset)
    }
}

/// A value and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub at: SourcePosition,
}

/// Reads a source as a table, all of whose keys must be read by `body`. All problems come back, in the order of the text; if
/// the text isn't TOML at all, only what the parser says, since the rest would be guesses.
///
/// # Errors
/// The problems.
pub fn read<T>(source: Source<'_>, body: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, Problems> {
    let (document, errors) = DeTable::parse_recoverable(source.toml);
    let mut problems = Problems(syntax::problems(source, &errors));
    let location = Location { name: String::new(), at: source.toml_position(0) };
    let value =
        errors.is_empty().then(|| Reader::open(source, &mut problems, document.get_ref(), location, body));
    problems.0.sort_by_key(|problem| problem.at);
    value.filter(|_| problems.0.is_empty()).ok_or(problems)
}

/// A table's dotted name (empty for the whole text) and its start.
struct Location {
    name: String,
    at: SourcePosition,
}

/// One table, being read.
pub struct Reader<'r> {
    source: Source<'r>,
    problems: &'r mut Problems,
    table: &'r DeTable<'r>,
    location: Location,
    read_keys: BTreeSet<String>,
}

impl<'r> Reader<'r> {
    /// Lets `body` read a table, then reports the keys that it didn't ask for.
    fn open<T>(
        source: Source<'r>,
        problems: &'r mut Problems,
        table: &'r DeTable<'r>,
        location: Location,
        body: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        let mut reader = Reader { source, problems, table, location, read_keys: BTreeSet::new() };
        let value = body(&mut reader);
        reader.report_unknown();
        value
    }

    fn report_unknown(&mut self) {
        for (key, _) in self.table.iter().filter(|(key, _)| !self.read_keys.contains(&**key.get_ref())) {
            let unused_keys =
                self.read_keys.iter().map(String::as_str).filter(|known| !self.table.contains_key(*known));
            let message =
                format!("unknown key {}{}", quoted(key.get_ref()), suggestion(key.get_ref(), unused_keys));
            self.problems.0.push(self.source.problem(self.source.start + key.span().start, message));
        }
    }

    /// The start of the table: its header or its brace.
    pub fn position(&self) -> SourcePosition {
        self.location.at
    }

    /// The position of a key's value; the start of the table if the key is absent.
    pub fn position_of(&self, key: &str) -> SourcePosition {
        match self.table.get_key_value(key) {
            Some((key, value)) => self.located(key.span(), value.span()),
            None => self.location.at,
        }
    }

    /// Reports a problem with a key's value.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problem_at(self.position_of(key), message);
    }

    /// Reports a problem at a position.
    pub fn problem_at(&mut self, at: SourcePosition, message: impl Into<String>) {
        self.problems.0.push(Problem {
            file: self.source.file.into(),
            at: Some(at),
            message: message.into(),
        });
    }

    /// The keys that are present, in the order of the text: for tables whose keys aren't known beforehand.
    pub fn keys(&self) -> Vec<Located<String>> {
        let mut keys: Vec<_> = self.table.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        keys.into_iter()
            .map(|key| Located {
                value: key.get_ref().to_string(),
                at: self.source.toml_position(key.span().start),
            })
            .collect()
    }

    /// True if the key is present, whatever its value.
    pub fn has(&mut self, key: &str) -> bool {
        self.read_keys.insert(key.into());
        self.table.contains_key(key)
    }

    /// True if the key is present and holds a string.
    pub fn is_string(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_str())
    }

    /// Reports an array that is absent or empty; `message` says why it needs an entry.
    pub fn needs_entry(&mut self, key: &str, message: &str) {
        self.read_keys.insert(key.into());
        let entries =
            self.table.get(key).map(|value| value.get_ref().as_array().map_or(1, |items| items.len()));
        if entries.unwrap_or(0) == 0 {
            self.problem(key, message);
        }
    }

    /// A string that must be there.
    pub fn string(&mut self, key: &str) -> String {
        self.required(key);
        self.opt_string(key).unwrap_or_default()
    }

    pub fn opt_string(&mut self, key: &str) -> Option<String> {
        self.value(key, "a string", |value| value.as_str().map(String::from))
    }

    pub fn opt_integer(&mut self, key: &str) -> Option<i64> {
        self.value(key, "a whole number", whole_number)
    }

    /// A number, whole or not.
    pub fn opt_number(&mut self, key: &str) -> Option<f64> {
        self.value(key, "a number", any_number)
    }

    /// `true` or `false`, which must be there.
    pub fn boolean(&mut self, key: &str) -> bool {
        self.required(key);
        self.flag(key)
    }

    /// `true` or `false`; false if the key is absent.
    pub fn flag(&mut self, key: &str) -> bool {
        self.value(key, "true or false", |value| value.as_bool()).unwrap_or_default()
    }

    /// A duration: "30s", "15 min", "1h30m", "7d".
    pub fn opt_duration(&mut self, key: &str) -> Option<Duration> {
        let text = self.value(key, "a duration like \"30s\"", |value| value.as_str().map(String::from))?;
        parse_duration(&text)
            .map_err(|correction| {
                self.problem(key, format!("`{key}` is {}, but {correction}", quoted(&text)))
            })
            .ok()
    }

    /// One of a few words, which must be there.
    pub fn choice<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.required(key);
        self.opt_choice(key, words)
    }

    pub fn opt_choice<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.opt_string(key)?;
        let choice = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if choice.is_none() {
            let hint = suggestion(&text, words.iter().map(|(word, _)| *word));
            self.problem(key, format!("`{key}` can't be {}{hint}", quoted(&text)));
        }
        choice
    }

    /// An array of strings; empty if the key is absent.
    pub fn strings(&mut self, key: &str) -> Vec<String> {
        self.located_strings(key).into_iter().map(|string| string.value).collect()
    }

    /// An array of strings, each checked: `check` returns the mistakes in one.
    pub fn checked_strings<I: IntoIterator<Item = String>>(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> I,
    ) -> Vec<String> {
        let strings = self.located_strings(key);
        for Located { value, at } in &strings {
            for message in check(value) {
                self.problem_at(*at, message);
            }
        }
        strings.into_iter().map(|string| string.value).collect()
    }

    /// An array of strings, each with its place; empty if the key is absent.
    pub fn located_strings(&mut self, key: &str) -> Vec<Located<String>> {
        let mut strings = Vec::new();
        for (at, item) in self.items(key, "strings") {
            match item.as_str() {
                Some(value) => strings.push(Located { value: value.to_owned(), at }),
                None => {
                    self.problem_at(at, format!("`{key}` must hold strings only, not {}", with_article(item)))
                }
            }
        }
        strings
    }

    /// A table of strings whose keys aren't known beforehand, in the order of the text; empty if absent.
    pub fn map(&mut self, key: &str) -> Vec<(Located<String>, Located<String>)> {
        let entries = self.opt_table(key, |table| {
            let keys = table.keys();
            keys.into_iter()
                .filter_map(|key| {
                    let at = table.position_of(&key.value);
                    let value = table.opt_string(&key.value)?;
                    Some((key, Located { value, at }))
                })
                .collect()
        });
        entries.unwrap_or_default()
    }

    /// A table that must be there.
    pub fn table<T>(&mut self, key: &str, body: impl FnOnce(&mut Reader<'_>) -> T) -> Option<T> {
        self.required(key);
        self.opt_table(key, body)
    }

    pub fn opt_table<T>(&mut self, key: &str, body: impl FnOnce(&mut Reader<'_>) -> T) -> Option<T> {
        self.opt_table_like(key, "a table", body)
    }

    /// A table; the message about anything else says what it should look like.
    pub fn opt_table_like<T>(
        &mut self,
        key: &str,
        expected: &str,
        body: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        let (at, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.descend(key, table, at, body)),
            other => {
                self.problem_at(at, mismatch(key, expected, other));
                None
            }
        }
    }

    /// An array of tables, `[[key]]` or `key = [{ … }]`; empty if the key is absent.
    pub fn tables<T>(&mut self, key: &str, body: impl FnMut(&mut Reader<'_>) -> T) -> Vec<T> {
        self.tables_like(key, "a table", body)
    }

    /// An array of tables; the message about anything else says what an entry should look like.
    pub fn tables_like<T>(
        &mut self,
        key: &str,
        expected: &str,
        mut body: impl FnMut(&mut Reader<'_>) -> T,
    ) -> Vec<T> {
        let mut tables = Vec::new();
        for (at, item) in self.items(key, "tables") {
            match item {
                DeValue::Table(table) => tables.push(self.descend(key, table, at, &mut body)),
                other => self.problem_at(at, format!("each of {}", mismatch(key, expected, other))),
            }
        }
        tables
    }

    fn descend<T>(
        &mut self,
        key: &str,
        table: &'r DeTable<'r>,
        at: SourcePosition,
        body: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        let dot = if self.location.name.is_empty() { "" } else { "." };
        let location = Location { name: format!("{}{dot}{key}", self.location.name), at };
        Reader::open(self.source, self.problems, table, location, body)
    }

    fn items(&mut self, key: &str, expected: &str) -> Vec<(SourcePosition, &'r DeValue<'r>)> {
        let Some((at, value)) = self.entry(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => {
                let position_of = |item: &Spanned<_>| self.source.toml_position(item.span().start);
                items.iter().map(|item| (position_of(item), item.get_ref())).collect()
            }
            other => {
                self.problem_at(at, mismatch(key, &format!("an array of {expected}"), other));
                Vec::new()
            }
        }
    }

    fn value<T>(
        &mut self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let (at, value) = self.entry(key)?;
        let converted = convert(value.get_ref());
        if converted.is_none() {
            self.problem_at(at, mismatch(key, expected, value.get_ref()));
        }
        converted
    }

    fn entry(&mut self, key: &str) -> Option<(SourcePosition, &'r Spanned<DeValue<'r>>)> {
        self.read_keys.insert(key.into());
        let (key, value) = self.table.get_key_value(key)?;
        Some((self.located(key.span(), value.span()), value))
    }

    /// Reports an absent key.
    pub fn required(&mut self, key: &str) {
        if !self.has(key) {
            let suffix = match self.location.name.as_str() {
                "" => String::new(),
                name => format!(" of `{name}`"),
            };
            self.problem_at(self.location.at, format!("missing key `{key}`{suffix}"));
        }
    }

    /// The position of a value. A table that only its sub-tables name has no span: its key's position is used.
    fn located(&self, key: Range<usize>, value: Range<usize>) -> SourcePosition {
        self.source.toml_position(if value.is_empty() { key.start } else { value.start })
    }
}

fn any_number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok().filter(|number: &f64| number.is_finite()),
        other => whole_number(other).map(|number| number as f64),
    }
}

fn whole_number(value: &DeValue<'_>) -> Option<i64> {
    value.as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
}

/// The found value itself is never repeated: it may be a secret that was put in the wrong place.
fn mismatch(key: &str, expected: &str, found: &DeValue<'_>) -> String {
    match found {
        DeValue::Integer(_) if expected == "a whole number" => format!("`{key}` is too large a number"),
        other => format!("`{key}` must be {expected}, not {}", with_article(other)),
    }
}

fn with_article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
