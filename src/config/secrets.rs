//! Secrets, by the name of an environment variable or of a file: `{ env = "SLACK_BOT_TOKEN" }`, `{ file = "/run/secrets/x" }`.
//! A secret never stands in the configuration itself, and no message here repeats a value that could be one.

use super::load::LoadContext;
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use secrecy::{ExposeSecret, SecretString};
use std::io::ErrorKind;

/// What a secret looks like, for the message about a literal one.
const LIKE: &str = "a secret kept outside this file, { env = \"VARIABLE\" } or { file = \"path\" }";

/// What became of looking a secret up.
enum SecretSource {
    Secret(SecretString),
    /// Nothing is there; why, as a sentence.
    Nothing(String),
    /// Reported already.
    Wrong,
}

impl SecretSource {
    fn secret(self) -> Option<SecretString> {
        match self {
            SecretSource::Secret(secret) => Some(secret),
            SecretSource::Nothing(_) | SecretSource::Wrong => None,
        }
    }
}

/// A secret that must be there.
pub(super) fn secret(table: &mut Reader<'_>, key: &str, outside: &LoadContext<'_>) -> SecretString {
    if table.has(key) {
        return opt_secret(table, key, outside).unwrap_or_default();
    }
    table.problem_at(table.position(), format!("missing key `{key}`: {LIKE}"));
    SecretString::default()
}

/// A secret whose key may be left out; once it is named, it must exist.
pub(super) fn opt_secret(
    table: &mut Reader<'_>,
    key: &str,
    outside: &LoadContext<'_>,
) -> Option<SecretString> {
    table.opt_table_like(key, LIKE, |entry| existing(entry, outside)).and_then(SecretSource::secret)
}

/// An array of secrets, of which one must exist; an entry with `optional = true` may name something that doesn't.
pub(super) fn secrets(table: &mut Reader<'_>, key: &str, outside: &LoadContext<'_>) -> Vec<SecretString> {
    let found = table.tables_like(key, LIKE, |entry| {
        if entry.flag("optional") { look_up(entry, outside) } else { existing(entry, outside) }
    });
    if !found.is_empty() && found.iter().all(|found| matches!(found, SecretSource::Nothing(_))) {
        table.problem(key, format!("`{key}` needs at least one that exists"));
    }
    found.into_iter().filter_map(SecretSource::secret).collect()
}

fn existing(entry: &mut Reader<'_>, outside: &LoadContext<'_>) -> SecretSource {
    match look_up(entry, outside) {
        SecretSource::Nothing(why) => {
            entry.problem_at(entry.position(), why);
            SecretSource::Wrong
        }
        other => other,
    }
}

fn look_up(entry: &mut Reader<'_>, outside: &LoadContext<'_>) -> SecretSource {
    let found = match (entry.has("env"), entry.has("file")) {
        (true, false) => variable(entry, outside),
        (false, true) => file(entry, outside),
        _ => {
            entry.problem_at(entry.position(), "a secret is named either by `env` or by `file`");
            SecretSource::Wrong
        }
    };
    match found {
        SecretSource::Secret(secret) if secret.expose_secret().chars().any(char::is_control) => {
            entry.problem_at(entry.position(), "the secret has several lines or control characters in it");
            SecretSource::Wrong
        }
        other => other,
    }
}

fn variable(entry: &mut Reader<'_>, outside: &LoadContext<'_>) -> SecretSource {
    let Some(name) = entry.opt_string("env") else { return SecretSource::Wrong };
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !letters || !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        // It may be the secret itself, so it isn't repeated.
        entry.problem("env", "`env` must be the name of a variable: letters, digits and `_`");
        return SecretSource::Wrong;
    }
    match (outside.variable)(&name).map(without_newline) {
        None => SecretSource::Nothing(format!("the variable {} is not set", quoted(&name))),
        Some(value) if value.is_empty() => {
            SecretSource::Nothing(format!("the variable {} is empty", quoted(&name)))
        }
        Some(value) => SecretSource::Secret(value.into()),
    }
}

fn file(entry: &mut Reader<'_>, outside: &LoadContext<'_>) -> SecretSource {
    let Some(name) = entry.opt_string("file") else { return SecretSource::Wrong };
    let path = outside.directory.join(&name);
    match std::fs::read_to_string(&path).map(without_newline) {
        Ok(value) if value.is_empty() => {
            SecretSource::Nothing(format!("the file {} is empty", quoted(&name)))
        }
        Ok(value) => SecretSource::Secret(value.into()),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            SecretSource::Nothing(format!("the file {} doesn't exist", quoted(&name)))
        }
        Err(cause) => {
            entry.problem("file", format!("the file {} can't be read: {cause}", quoted(&name)));
            SecretSource::Wrong
        }
    }
}

/// Editors and `echo` end a file with a newline, which is no part of the secret.
fn without_newline(mut value: String) -> String {
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    value
}
