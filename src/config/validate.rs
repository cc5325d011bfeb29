//! The rules that several sections share: for names, paths, durations and environments, and that nothing is named twice.

use super::{Environment, LoadContext};
use crate::clock::format_duration;
use crate::suggest::{quoted, suggestion};
use crate::toml_reader::{Located, Reader, SourcePosition};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Characters of an environment's or service's name: they are typed in commands, and 63 is as long as a DNS label may be.
const LONGEST_NAME: usize = 63;

/// Characters of a person's or role's name: they stand on cards beside other things.
const LONGEST_TITLE: usize = 64;

/// PostgreSQL cuts longer names off silently (NAMEDATALEN - 1 bytes).
const LONGEST_IDENTIFIER: usize = 63;

/// The key `name` of environments, services and servers: lower-case letters, digits and dashes, so that it can be typed.
pub(super) fn name(table: &mut Reader<'_>) -> Located<String> {
    let name = table.string("name");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.starts_with(plain)
        && name.chars().all(|c| plain(c) || c == '-')
        && name.chars().count() <= LONGEST_NAME;
    if !fits {
        reject(table, "name", &name, "1 to 63 lower-case letters, digits and dashes, beginning with no dash");
    }
    Located { at: table.position_of("name"), value: name }
}

/// A person's or role's name: anything that can be shown on one line.
pub(super) fn title(table: &mut Reader<'_>, key: &str) -> Located<String> {
    let title = table.string(key);
    if !is_title(&title) {
        reject(table, key, &title, "1 to 64 characters, no control characters, no space at its ends");
    }
    Located { at: table.position_of(key), value: title }
}

/// True for a text that can be a person's or role's name.
pub(super) fn is_title(text: &str) -> bool {
    !text.is_empty()
        && text == text.trim()
        && text.chars().count() <= LONGEST_TITLE
        && !text.chars().any(char::is_control)
}

/// The name of something inside PostgreSQL: a database, a role.
pub(super) fn identifier(table: &mut Reader<'_>, key: &str) -> String {
    let name = table.string(key);
    if name.is_empty() || name.len() > LONGEST_IDENTIFIER || name.chars().any(char::is_control) {
        reject(table, key, &name, "a PostgreSQL name: 1 to 63 bytes, no control characters");
    }
    name
}

/// A path; a relative one starts from the configuration file's directory.
pub(super) fn path(table: &mut Reader<'_>, key: &str, context: &LoadContext<'_>) -> PathBuf {
    let path = table.string(key);
    if path.is_empty() {
        reject(table, key, &path, "a path");
    }
    context.directory.join(path)
}

/// An optional duration, more than nothing and at most `longest`.
pub(super) fn duration(table: &mut Reader<'_>, key: &str, longest: Duration) -> Option<Duration> {
    let duration = table.opt_duration(key)?;
    if duration.is_zero() || duration > longest {
        let (longest, given) = (format_duration(longest), format_duration(duration));
        table.problem(key, format!("`{key}` must be more than 0s and at most {longest}, not {given}"));
    }
    Some(duration)
}

/// A duration that may be none at all.
pub(super) fn pause(table: &mut Reader<'_>, key: &str, longest: Duration) -> Option<Duration> {
    let pause = table.opt_duration(key)?;
    if pause > longest {
        let (longest, given) = (format_duration(longest), format_duration(pause));
        table.problem(key, format!("`{key}` must be at most {longest}, not {given}"));
    }
    Some(pause)
}

/// Reports what a value must be. A key that isn't there or has the wrong type was reported already, and its stand-in is empty.
pub(super) fn reject(table: &mut Reader<'_>, key: &str, value: &str, rule: &str) {
    if !value.is_empty() {
        table.problem(key, format!("`{key}` must be {rule}, not {}", quoted(value)));
    } else if table.is_string(key) {
        table.problem(key, format!("`{key}` must be {rule}, not empty"));
    }
}

/// The words in braces: `{host}`, but neither a shell's `${HOME}` nor a template's `{.items}`.
pub(super) fn braces(hint: &str) -> impl Iterator<Item = &str> {
    hint.match_indices('{').filter_map(|(start, _)| {
        let (word, _) = hint[start + 1..].split_once('}')?;
        let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        (is_word && !hint[..start].ends_with('$')).then_some(word)
    })
}

/// An optional whole number, at least 1.
pub(super) fn count(table: &mut Reader<'_>, key: &str, largest: u16) -> Option<u16> {
    let number = table.opt_integer(key)?;
    let count = u16::try_from(number).ok().filter(|count| (1..=largest).contains(count));
    if count.is_none() {
        table.problem(key, format!("`{key}` must be from 1 to {largest}, not {number}"));
    }
    count
}

/// True for the name of an environment variable.
pub(super) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The mistakes in a text: words in braces that are none of the names.
pub(super) fn unknown_braces(what: &str, text: &str, names: &[&str]) -> Vec<String> {
    let hint = |word| suggestion(word, names.iter().copied());
    let unknown = braces(text).filter(|word| !names.contains(word));
    unknown.map(|word| format!("{what} can't fill in {}{}", quoted(word), hint(word))).collect()
}

/// The environments that an entry is for; `message` says that it needs one.
pub(super) fn environment_names(
    table: &mut Reader<'_>,
    environments: &[Environment],
    all: Option<&str>,
    message: &str,
) -> Vec<String> {
    table.needs_entry("environments", message);
    table.checked_strings("environments", |name| {
        if all == Some(name) { None } else { unknown_environment(name, environments) }
    })
}

/// The mistake in a name that no environment has.
pub(super) fn unknown_environment(name: &str, environments: &[Environment]) -> Option<String> {
    let known: Vec<&str> = environments.iter().map(|environment| environment.name.as_str()).collect();
    let message = || format!("there is no environment {}{}", quoted(name), suggestion(name, known.clone()));
    (!known.contains(&name)).then(message)
}

/// Names that may be given once only.
pub(super) struct UniqueNames {
    /// Begins the message: "the environment", "the Slack account".
    what: &'static str,
    first: BTreeMap<String, SourcePosition>,
}

impl UniqueNames {
    pub(super) fn new(what: &'static str) -> Self {
        UniqueNames { what, first: BTreeMap::new() }
    }

    /// Records a name, and reports it if it was given before. Case doesn't tell two names apart: people don't either.
    pub(super) fn check(&mut self, table: &mut Reader<'_>, name: &Located<String>) {
        let first = *self.first.entry(name.value.to_lowercase()).or_insert(name.at);
        if first != name.at && !name.value.is_empty() {
            let (what, shown) = (self.what, quoted(&name.value));
            table.problem_at(name.at, format!("{what} {shown} is already given at line {}", first.line));
        }
    }
}

/// Each role's group in a chat; `is_group` tells a group's id from others, which are "no …".
pub(super) fn groups(
    table: &mut Reader<'_>,
    roles: &[&str],
    kind: &str,
    is_group: fn(&str) -> bool,
) -> BTreeMap<String, String> {
    let groups = table.map("groups");
    for (role, group) in &groups {
        if !roles.contains(&role.value.as_str()) {
            let hint = suggestion(&role.value, roles.iter().copied());
            table.problem_at(role.at, format!("no [[access]] names a role {}{hint}", quoted(&role.value)));
        }
        if !is_group(&group.value) {
            table.problem_at(group.at, format!("{} is no {kind}", quoted(&group.value)));
        }
    }
    groups.into_iter().map(|(role, group)| (role.value, group.value)).collect()
}

/// The optional channel for requests made in a terminal.
pub(super) fn terminal_channel(
    table: &mut Reader<'_>,
    is_channel: fn(&str) -> bool,
    example: &str,
) -> Option<String> {
    let channel = table.opt_string("terminal_channel")?;
    if !is_channel(&channel) {
        let rule = format!("a channel's id, which looks like {example}");
        reject(table, "terminal_channel", &channel, &rule);
    }
    Some(channel)
}
