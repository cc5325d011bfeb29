//! Words → typed values. The typed line is split and its words are checked here; every error says what to type instead. Values stay text in one canonical form, and are bound, never pasted.

use crate::catalog::{Catalog, Command};
use crate::clock::{duration_seconds, format_duration};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::TypedText;
use crate::suggest::{nearest, shown};
use std::collections::BTreeMap;
use std::time::Duration;

mod characters;
mod choice_source;
mod incomplete;
mod marks;
mod tokenize;

pub(crate) use characters::is_quote;
use tokenize::{TypedWord, tokenize};

pub use choice_source::ChoiceSource;
pub use incomplete::{bind_fields, on_one_line, parse_incomplete};
pub use tokenize::{BREAK_GLASS_PREFIX, OptionKind, TypedLine, UnquotedTail, as_word, split};

/// In characters: twice what Slack lets a person type into a slash command. Longer lines are pastes by mistake.
pub const LONGEST_LINE: usize = 4_000;

/// The types of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "lowercase")]
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
    /// The words of a choice; of a service, `all` where a form offers it beside the names.
    pub choices: Vec<String>,
    /// Typed without a `--name`; in the order of the header.
    pub positional: bool,
    /// Takes no value.
    pub switch: bool,
    pub required: bool,
    /// Never typed: filled in by a row's button (`backend_start`).
    pub hidden: bool,
    /// A form asks for it unless this other argument has a value.
    pub required_unless: Option<String>,
    /// The live values that a form offers for it.
    pub choices_from: Option<ChoiceSource>,
}

impl ArgSpec {
    /// "<pid>", "[service]", "[--over 30s]".
    pub fn usage(&self) -> String {
        let value_hint = match (&self.default, self.kind == ArgType::Choice) {
            (_, true) => self.choices.join("|"),
            (Some(default), _) => default.clone(),
            (None, _) => format!("<{}>", self.name),
        };
        match (self.positional, self.required, self.switch) {
            (true, true, _) => format!("<{}>", self.name),
            (true, false, _) => format!("[{}]", self.name),
            (false, _, true) => format!("[--{}]", self.name),
            (false, true, _) => format!("--{} {value_hint}", self.name),
            (false, false, _) => format!("[--{} {value_hint}]", self.name),
        }
    }

    /// The live values that a form offers for it.
    pub fn choice_source(&self) -> Option<ChoiceSource> {
        self.choices_from.or(match self.kind {
            ArgType::Pid => Some(ChoiceSource::Sessions),
            ArgType::Run => Some(ChoiceSource::Runs),
            _ => None,
        })
    }

    /// True if the command can't run with these values since this one is missing.
    pub fn is_missing(&self, values: &Values) -> bool {
        let is_required =
            self.required || self.required_unless.as_ref().is_some_and(|other| !values.contains_key(other));
        is_required && !self.hidden && !values.contains_key(&self.name)
    }

    /// True for the value that the argument has by default.
    pub fn is_default(&self, value: &str) -> bool {
        let no_names = KnownNames::default();
        let default = self.default.as_deref().and_then(|default| canonical(self, default, &no_names).ok());
        default.as_deref() == Some(value)
    }

    /// A value as a person would type it: a duration in the largest unit that leaves no remainder, words in quotes.
    pub fn as_typed(&self, value: &str) -> String {
        match self.kind {
            ArgType::Duration => match duration_seconds(value) {
                Some(seconds) => format_duration(Duration::from_secs(seconds)),
                None => value.to_owned(),
            },
            _ => as_word(value),
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
        if RESERVED.contains(&self.name.as_str()) || TERMINAL_OPTIONS.contains(&self.name.as_str()) {
            return Err(format!("`--{}` means the same for every command", self.name));
        }
        let has_its_choices = match self.kind {
            ArgType::Choice => !self.choices.is_empty(),
            ArgType::Service => self.choices.iter().all(|choice| choice == ALL_SERVICES),
            _ => self.choices.is_empty(),
        };
        if !has_its_choices {
            let rule = "choices go with the type choice, and `all` with the type service";
            return Err(format!("`{}`: {rule}", self.name));
        }
        if let Some(default) = &self.default {
            let no_names = KnownNames::default();
            canonical(self, default, &no_names).map_err(|error| format!("the default: {error}"))?;
        }
        Ok(())
    }
}

/// The slash command of the app manifests, without its slash.
const SLASH_COMMAND: &str = "db";

/// The word for every service, in the place of one's name.
pub const ALL_SERVICES: &str = "all";

/// Options that every command has.
pub const RESERVED: [&str; 4] = ["env", "reason", "private", "dry-run"];

/// Options that `countersign run` takes for itself.
const TERMINAL_OPTIONS: [&str; 2] = ["config", "json"];

/// Argument values by name; an argument without a value has no entry.
pub type Values = BTreeMap<String, String>;

/// The names of services, environments and commands.
#[derive(Debug, Clone, Default)]
pub struct KnownNames {
    pub services: Vec<String>,
    pub environments: Vec<String>,
    pub commands: Vec<String>,
    /// The slash command, without its slash: people type it where it isn't needed.
    pub slash_commands: Vec<String>,
}

impl KnownNames {
    /// The names of a configuration and a catalog.
    pub fn of(config: &Config, catalog: &Catalog) -> KnownNames {
        let configured = config.chat.slash_command().map(str::to_owned);
        let slash_commands = std::iter::once(SLASH_COMMAND.to_owned()).chain(configured);
        KnownNames {
            services: config.services.iter().map(|service| service.name.clone()).collect(),
            environments: config.environments.iter().map(|environment| environment.name.clone()).collect(),
            commands: catalog.iter().map(|command| command.name.clone()).collect(),
            slash_commands: slash_commands.collect(),
        }
    }
}

/// Checks a word against the argument's type, and returns the value in its canonical form.
fn canonical(spec: &ArgSpec, word: &str, known: &KnownNames) -> Result<String> {
    let invalid = |problem: String| Error::instead(problem, format!("`{}`: {}.", spec.name, spec.help));
    let word = if spec.kind == ArgType::Text { word } else { marks::without_light_marks(word) };
    let typed = shown(word);
    match spec.kind {
        ArgType::Text if word.trim().is_empty() => Err(invalid(format!("`{}` is empty.", spec.name))),
        ArgType::Text => Ok(word.to_owned()),
        ArgType::Int => match word.parse::<i64>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(invalid(format!("“{typed}” is not a whole number: type one such as 10."))),
        },
        ArgType::Pid => match word.parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(pid.to_string()),
            Ok(0) => Err(Error::instead(
                "0 is no session: a lock held by “pid 0” belongs to a prepared transaction.",
                "`blocked` shows its name.",
            )),
            _ => Err(Error::instead(
                format!("“{typed}” is not a process id."),
                "Type the number from the pid column of `blocked` or `long`, such as `4711`.",
            )),
        },
        ArgType::Run => match word.trim_start_matches('#').parse::<i64>() {
            Ok(run) if run > 0 => Ok(run.to_string()),
            _ => Err(Error::instead(
                format!("“{typed}” is not the number of a run."),
                "`history` and `pending` show them: type `show 128`.",
            )),
        },
        ArgType::Duration => match duration_seconds(word) {
            Some(seconds) if seconds > 0 => Ok(format!("{seconds} s")),
            Some(_) => Err(invalid(format!(
                "“{typed}” is zero, which would match everything: type 30s, 5m, 2h or 7d."
            ))),
            None => Err(invalid(format!("“{typed}” is not a duration: type 30s, 5m, 2h or 7d."))),
        },
        ArgType::Choice => match spec.choices.iter().find(|choice| choice.eq_ignore_ascii_case(word)) {
            Some(choice) => Ok(choice.clone()),
            None => Err(invalid(format!("“{typed}” is not one of {}.", spec.choices.join(", ")))),
        },
        ArgType::Service if word.to_lowercase() == ALL_SERVICES => Ok(ALL_SERVICES.to_owned()),
        ArgType::Service => name(word, "service", &known.services),
        ArgType::Environment => name(word, "environment", &known.environments),
        ArgType::Command => name(word, "command", &known.commands),
    }
}

/// A name of the configuration. A service's ending may be left out where the rest is unambiguous: "asset" for "asset-service".
fn name(word: &str, what: &str, known: &[String]) -> Result<String> {
    let typed = word.to_lowercase();
    if known.contains(&typed) {
        return Ok(typed);
    }
    let beginning = format!("{typed}-");
    let longer: Vec<&String> = known.iter().filter(|name| name.starts_with(&beginning)).collect();
    if let [only] = longer[..] {
        return Ok(only.clone());
    }
    let problem = format!("There is no {what} “{}”.", shown(word));
    match nearest(&typed, known.iter().map(String::as_str)) {
        Some(near) => Err(Error::instead(problem, format!("Did you mean `{near}`?"))),
        None => Err(Error::instead(problem, format!("There are: {}.", known.join(", ")))),
    }
}

/// "kill 4711 --server main": the line that has these values.
pub fn to_line(command: &str, specs: &[ArgSpec], values: &Values) -> String {
    let mut line = command.to_owned();
    for spec in specs.iter().filter(|spec| !spec.hidden) {
        match values.get(&spec.name) {
            Some(_) if spec.switch => line.push_str(&format!(" --{}", spec.name)),
            Some(value) if spec.positional => line.push_str(&format!(" {}", spec.as_typed(value))),
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
    let mut values = bind_words(specs, line, known, usage)?;
    let is_missing = |spec: &&ArgSpec| spec.required && !spec.hidden && !values.contains_key(&spec.name);
    if let Some(spec) = specs.iter().find(is_missing) {
        return Err(missing(spec, usage));
    }
    fill_in_defaults(specs, &mut values, known)?;
    Ok(values)
}

fn missing(spec: &ArgSpec, usage: &str) -> Error {
    Error::instead(format!("Missing <{}>: {}.", spec.name, spec.help), format!("Type `{usage}`."))
}

/// The values of the words that are there, checked. Others may be missing.
fn bind_words(specs: &[ArgSpec], line: &TypedLine, known: &KnownNames, usage: &str) -> Result<Values> {
    let try_this = || format!("Type `{usage}`.");
    let is_empty = |word: &String| word.trim().is_empty();
    let mut values = Values::new();
    let mut words = line.words.iter().enumerate();
    for spec in specs.iter().filter(|spec| spec.positional && !spec.hidden) {
        if let Some((at, word)) = words.next() {
            if is_empty(word) {
                return Err(missing(spec, usage));
            }
            values.insert(spec.name.clone(), positional(spec, line, at, known)?);
        }
    }
    if let Some((at, surplus)) = words.next() {
        let problem = format!("I don't know what to do with “{}”.", shown(surplus));
        return Err(Error::instead(problem, quotes_needed(line, at).unwrap_or_else(try_this)));
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
            Some(given) if !is_empty(given) => canonical(spec, given, known)?,
            _ => return Err(Error::instead(format!("`--{option}` needs a value."), try_this())),
        };
        values.insert(option.clone(), bound);
    }
    Ok(values)
}

/// The word at this index of the line, checked. It may belong to a text before it that needs quotes.
fn positional(spec: &ArgSpec, line: &TypedLine, at: usize, known: &KnownNames) -> Result<String> {
    let word = &line.words[at];
    let Some(hint) = quotes_needed(line, at) else { return canonical(spec, word, known) };
    if spec.kind == ArgType::Text && !spec.required {
        return Err(Error::instead(format!("Is “{}” the {}?", shown(word), spec.name), hint));
    }
    canonical(spec, word, known).map_err(|error| match error {
        Error::User(user) => Error::instead(user.problem, hint),
        error => error,
    })
}

/// The hint for a word that may belong to the text of an option before it.
fn quotes_needed(line: &TypedLine, at: usize) -> Option<String> {
    let tail = line.tail.as_ref().filter(|tail| at >= tail.first)?;
    let text = shown(&tail.text);
    Some(format!("Text of several words needs quotes: `--{} \"{text}\"`.", tail.option))
}

/// Checks values that a button carries: the same types, hidden ones too.
///
/// # Errors
/// [`Error::User`] when a value no longer fits, say a service that left the configuration.
pub fn bind_button_values(specs: &[ArgSpec], carried: &Values, known: &KnownNames) -> Result<Values> {
    let mut values = Values::new();
    for spec in specs {
        if let Some(given) = carried.get(&spec.name) {
            values.insert(spec.name.clone(), canonical(spec, given, known)?);
        } else if spec.required {
            return Err(Error::user(format!("Missing <{}>: {}.", spec.name, spec.help)));
        }
    }
    fill_in_defaults(specs, &mut values, known)?;
    Ok(values)
}

fn fill_in_defaults(specs: &[ArgSpec], values: &mut Values, known: &KnownNames) -> Result<()> {
    for spec in specs {
        if let Some(default) = &spec.default
            && !values.contains_key(&spec.name)
        {
            values.insert(spec.name.clone(), canonical(spec, default, known)?);
        }
    }
    Ok(())
}

fn unknown_option(specs: &[ArgSpec], option: &str, try_this: &str) -> Error {
    let names = specs.iter().filter(|s| !s.positional && !s.hidden).map(|s| s.name.as_str()).chain(RESERVED);
    let beginning = names.clone().find(|name| option.starts_with(name));
    match beginning.or_else(|| nearest(option, names)) {
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
pub fn parse_command<'c>(
    catalog: &'c Catalog,
    typed: &TypedText,
    known: &KnownNames,
) -> Result<Option<ParsedCommand<'c>>> {
    let line = parse(typed, catalog, known)?;
    if line.command.is_empty() {
        return Ok(None);
    }
    let Some(command) = catalog.find(&line.command) else {
        let problem = format!("There is no command “{}”.", shown(&line.command));
        return Err(match catalog.suggest(&line.command) {
            Some(near) if near.header.args.iter().any(|spec| spec.required) => {
                Error::instead(problem, format!("Did you mean `{}`?", near.usage()))
            }
            Some(near) => Error::instead(problem, format!("Did you mean `{}`?", near.name)),
            None => Error::instead(problem, "Type `help` for what there is."),
        });
    };
    let values = bind(&command.header.args, &line, known, &command.usage())?;
    Ok(Some(ParsedCommand { command, values, line }))
}

/// The line behind the bot's mention. Where that is no command and the text around the mention is one, the whole text is the line:
/// "health @Countersign --env staging".
fn parse(typed: &TypedText, catalog: &Catalog, known: &KnownNames) -> Result<TypedLine> {
    let kinds = |command: &str, option: &str| {
        let spec =
            catalog.find(command)?.header.args.iter().find(|arg| arg.name == option && !arg.positional)?;
        Some(match spec.kind {
            _ if spec.switch => OptionKind::Switch,
            ArgType::Text => OptionKind::Text,
            _ => OptionKind::Word,
        })
    };
    let mut names = typed.mentions.iter().map(|mention| mention.name.as_str());
    let before = tokenize(&typed.before, &mut names);
    let mut words = tokenize(&typed.line, &mut names)?;
    let is_address = |word: &TypedWord| {
        let name = word.command();
        known.slash_commands.contains(&name) && catalog.find(&name).is_none()
    };
    let is_before = |word: &&TypedWord| is_address(word) || word.is_before_command();
    words.drain(..words.iter().take_while(is_before).count());
    let line = tokenize::parse(words.clone(), &kinds)?;
    if catalog.find(&line.command).is_none()
        && let Ok(mut whole) = before
        && whole.first().is_some_and(|first| catalog.find(&first.command()).is_some())
    {
        whole.append(&mut words);
        return tokenize::parse(whole, &kinds);
    }
    Ok(line)
}

/// Query text for a card: 1,500 characters tell what a statement is, and leave room for everything else an approver must see.
pub fn truncated_for_card(text: &str) -> String {
    match text.char_indices().nth(1_500) {
        Some((at, _)) => format!("{}… ({} more characters)", &text[..at], text[at..].chars().count()),
        None => text.to_owned(),
    }
}
