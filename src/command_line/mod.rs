//! Words → typed values. The typed line is split, normalised (dashes and quotes as phones write them) and checked here; every
//! error says what to type instead. Values stay text in one canonical form, and are bound, never pasted.

use crate::catalog::{Catalog, Command};
use crate::clock::{duration_seconds, format_duration};
use crate::error::{Error, Result};
use crate::suggest::{nearest, shown};
use std::collections::BTreeMap;
use std::time::Duration;

mod tokenize;
mod value;

pub use tokenize::{BREAK_GLASS_PREFIX, TypedLine, split, strip_break_glass_prefix};
pub use value::KnownNames;

/// 4,000 characters: twice what Slack lets a person type into a slash command comfortably; more is a paste gone wrong.
pub const LONGEST_LINE: usize = 4_000;

/// The types of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgType {
    Text,
    Int,
    /// "30s", "5 min", "1h30m", "7d"; canonical: whole seconds with unit, "300 s".
    Duration,
    /// A service of the configuration.
    Service,
    /// An environment of the configuration.
    Environment,
    /// A backend's process id.
    Pid,
    /// A run's number in the history.
    Run,
    /// One of `choices`.
    Choice,
    /// The name of a command.
    Command,
}

/// One argument of a command.
#[derive(Debug, Clone)]
pub struct ArgSpec {
    pub name: String,
    pub kind: ArgType,
    pub default: Option<String>,
    pub help: String,
    pub choices: Vec<String>,
    /// Stands without a `--name`; in the order of the header.
    pub positional: bool,
    /// Takes no value.
    pub switch: bool,
    pub required: bool,
    /// Never typed: filled in by a row's button (`backend_start`).
    pub hidden: bool,
}

impl ArgSpec {
    /// "<pid>", "[service]", "[--over 30s]".
    pub fn usage(&self) -> String {
        let shown = match (&self.default, self.choices.is_empty()) {
            (_, false) => self.choices.join("|"),
            (Some(default), _) => default.clone(),
            (None, _) => format!("<{}>", self.name),
        };
        match (self.positional, self.required, self.switch) {
            (true, true, _) => format!("<{}>", self.name),
            (true, false, _) => format!("[{}]", self.name),
            (false, _, true) => format!("[--{}]", self.name),
            (false, true, _) => format!("--{} {shown}", self.name),
            (false, false, _) => format!("[--{} {shown}]", self.name),
        }
    }

    /// True for the value that the argument has by default.
    pub fn is_default(&self, value: &str) -> bool {
        let no_names = KnownNames::default();
        let default = self.default.as_deref().and_then(|default| value::check(self, default, &no_names).ok());
        default.as_deref() == Some(value)
    }

    /// A value as a person would type it: a duration in the largest unit that leaves no rest, words in quotes.
    pub fn as_typed(&self, value: &str) -> String {
        match self.kind {
            ArgType::Duration => match duration_seconds(value) {
                Some(seconds) => format_duration(Duration::from_secs(seconds)),
                None => value.to_owned(),
            },
            _ if value.contains(char::is_whitespace) => format!("\"{value}\""),
            _ => value.to_owned(),
        }
    }

    /// Checks the argument's own definition.
    ///
    /// # Errors
    /// The mistake in it.
    pub fn check(&self) -> std::result::Result<(), String> {
        let name_is_fine = self.name.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '_');
        if self.name.is_empty() || !name_is_fine {
            return Err(format!("`{}` is no name for an argument", self.name));
        }
        if RESERVED.contains(&self.name.as_str()) || OF_TERMINALS.contains(&self.name.as_str()) {
            return Err(format!("`--{}` means the same for every command", self.name));
        }
        if (self.kind == ArgType::Choice) == self.choices.is_empty() {
            return Err(format!("`{}`: choices go with the type choice, and only with it", self.name));
        }
        if let Some(default) = &self.default {
            let no_names = KnownNames::default();
            value::check(self, default, &no_names).map_err(|error| format!("the default: {error}"))?;
        }
        Ok(())
    }
}

/// Options that every command has.
pub const RESERVED: [&str; 4] = ["env", "reason", "private", "dry-run"];

/// Options that `countersign run` takes for itself.
const OF_TERMINALS: [&str; 2] = ["config", "json"];

/// The values by name; absent ones are absent.
pub type Values = BTreeMap<String, String>;

/// "kill 4711 --server main": the line that has these values.
pub fn typed(command: &str, specs: &[ArgSpec], values: &Values) -> String {
    let mut line = command.to_owned();
    for spec in specs.iter().filter(|spec| !spec.hidden) {
        match values.get(&spec.name) {
            Some(_) if spec.switch => line.push_str(&format!(" --{}", spec.name)),
            Some(value) if spec.positional => line.push_str(&format!(" {value}")),
            Some(value) if !spec.is_default(value) => {
                line.push_str(&format!(" --{} {}", spec.name, spec.as_typed(value)));
            }
            _ => {}
        }
    }
    line
}

/// Checks a command's words against its arguments.
///
/// # Errors
/// [`Error::User`]: the missing, surplus or wrong word, and the usage.
pub fn bind(specs: &[ArgSpec], line: &TypedLine, known: &KnownNames, usage: &str) -> Result<Values> {
    let try_this = || format!("Type `{usage}`.");
    let is_empty = |word: &String| word.trim().is_empty();
    let missing =
        |spec: &ArgSpec| Error::instead(format!("Missing <{}>: {}.", spec.name, spec.help), try_this());
    let mut values = Values::new();
    let mut words = line.words.iter();
    for spec in specs.iter().filter(|spec| spec.positional && !spec.hidden) {
        if let Some(word) = words.next() {
            if is_empty(word) {
                return Err(missing(spec));
            }
            values.insert(spec.name.clone(), value::check(spec, word, known)?);
        }
    }
    if let Some(surplus) = words.next() {
        let problem = format!("I don't know what to do with “{}”.", shown(surplus));
        return Err(Error::instead(problem, try_this()));
    }
    for (option, given) in &line.options {
        let Some(spec) = specs.iter().find(|spec| &spec.name == option && !spec.positional && !spec.hidden)
        else {
            return Err(unknown_option(specs, option, &try_this()));
        };
        let bound = match given {
            None if spec.switch => "true".to_owned(),
            Some(extra) if spec.switch => {
                let problem = format!("`--{option}` takes no value, and “{}” follows it.", shown(extra));
                return Err(Error::instead(problem, try_this()));
            }
            Some(given) if !is_empty(given) => value::check(spec, given, known)?,
            _ => return Err(Error::instead(format!("`--{option}` needs a value."), try_this())),
        };
        values.insert(option.clone(), bound);
    }
    let is_missing = |spec: &&ArgSpec| spec.required && !spec.hidden && !values.contains_key(&spec.name);
    if let Some(spec) = specs.iter().find(is_missing) {
        return Err(missing(spec));
    }
    defaults(specs, &mut values, known)?;
    Ok(values)
}

/// Checks values that a button carries: the same types, hidden ones too.
///
/// # Errors
/// [`Error::User`] when a value no longer fits, say a service that left the configuration.
pub fn bind_offer(specs: &[ArgSpec], offered: &Values, known: &KnownNames) -> Result<Values> {
    let mut values = Values::new();
    for spec in specs {
        if let Some(given) = offered.get(&spec.name) {
            values.insert(spec.name.clone(), value::check(spec, given, known)?);
        } else if spec.required {
            return Err(Error::user(format!("The button has no <{}>.", spec.name)));
        }
    }
    defaults(specs, &mut values, known)?;
    Ok(values)
}

fn defaults(specs: &[ArgSpec], values: &mut Values, known: &KnownNames) -> Result<()> {
    for spec in specs {
        if let Some(default) = &spec.default
            && !values.contains_key(&spec.name)
        {
            values.insert(spec.name.clone(), value::check(spec, default, known)?);
        }
    }
    Ok(())
}

fn unknown_option(specs: &[ArgSpec], option: &str, try_this: &str) -> Error {
    let names = specs.iter().filter(|s| !s.positional && !s.hidden).map(|s| s.name.as_str()).chain(RESERVED);
    match nearest(option, names) {
        Some(near) => Error::instead(
            format!("There is no option `--{}`.", shown(option)),
            format!("Did you mean `--{near}`? {try_this}"),
        ),
        None => Error::instead(format!("There is no option `--{}` here.", shown(option)), try_this),
    }
}

/// A line's command and values.
#[derive(Debug, Clone)]
pub struct ParsedCommand<'c> {
    pub command: &'c Command,
    pub values: Values,
    /// With the options that every command has.
    pub line: TypedLine,
}

/// Parses a line; `None` for an empty one.
///
/// # Errors
/// [`Error::User`]: an unknown command, or values that don't fit it, and what to type instead.
pub fn understand<'c>(
    catalog: &'c Catalog,
    typed: &str,
    known: &KnownNames,
) -> Result<Option<ParsedCommand<'c>>> {
    let is_switch = |command: &str, option: &str| {
        let spec = catalog.find(command).and_then(|c| c.header.args.iter().find(|arg| arg.name == option));
        spec.is_some_and(|spec| spec.switch)
    };
    let line = split(typed, &is_switch)?;
    if line.command.is_empty() {
        return Ok(None);
    }
    let Some(command) = catalog.find(&line.command) else {
        let problem = format!("There is no command “{}”.", shown(&line.command));
        return Err(match catalog.suggest(&line.command) {
            Some(near) => Error::instead(problem, format!("Did you mean `{}`?", near.usage())),
            None => Error::instead(problem, "Type `help` for what there is."),
        });
    };
    let values = bind(&command.header.args, &line, known, &command.usage())?;
    Ok(Some(ParsedCommand { command, values, line }))
}

/// Query text for a card: 1,500 characters tell what a statement is, and leave room for everything else an approver must see.
pub fn shown_long(text: &str) -> String {
    match text.char_indices().nth(1_500) {
        Some((at, _)) => format!("{}… ({} more characters)", &text[..at], text[at..].chars().count()),
        None => text.to_owned(),
    }
}
