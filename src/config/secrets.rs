//! Secrets, by the name of an environment variable or of a file: `{ env = "SLACK_BOT_TOKEN" }`, `{ file = "/run/secrets/x" }`.
//! The configuration itself contains no secret, and no message here repeats a value that could be one.

use super::LoadContext;
use super::validate::is_variable_name;
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use secrecy::{ExposeSecret, SecretString};
use std::io::ErrorKind;

/// The form of a secret, for the message about a literal one.
const EXPECTED_FORM: &str = "a secret kept outside this file, { env = \"VARIABLE\" } or { file = \"path\" }";

/// Result of looking a secret up.
enum Lookup {
    Secret(SecretString),
    /// Absent, with the reason.
    Absent(String),
    /// Wrong, and reported.
    Reported,
}

impl Lookup {
    fn secret(self) -> Option<SecretString> {
        match self {
            Lookup::Secret(secret) => Some(secret),
            Lookup::Absent(_) | Lookup::Reported => None,
        }
    }
}

/// A secret that must be there. Empty if it is absent and not required.
pub(super) fn secret(table: &mut Reader<'_>, key: &str, context: &LoadContext<'_>) -> SecretString {
    if table.has(key) {
        return opt_secret(table, key, context).unwrap_or_default();
    }
    table.problem_at(table.position(), format!("missing key `{key}`: {EXPECTED_FORM}"));
    SecretString::default()
}

/// A secret whose key may be left out; once it is named, it must exist.
pub(super) fn opt_secret(
    table: &mut Reader<'_>,
    key: &str,
    context: &LoadContext<'_>,
) -> Option<SecretString> {
    table
        .opt_table_like(key, EXPECTED_FORM, |entry| look_up_required(entry, context))
        .and_then(Lookup::secret)
}

/// An array of secrets, of which one must exist; an entry with `optional = true` may name something that doesn't.
pub(super) fn secrets(table: &mut Reader<'_>, key: &str, context: &LoadContext<'_>) -> Vec<SecretString> {
    let lookups = table.tables_like(key, EXPECTED_FORM, |entry| {
        if entry.flag("optional") { look_up(entry, context) } else { look_up_required(entry, context) }
    });
    if context.requires_secrets
        && !lookups.is_empty()
        && lookups.iter().all(|lookup| matches!(lookup, Lookup::Absent(_)))
    {
        table.problem(key, format!("`{key}` needs at least one that exists"));
    }
    lookups.into_iter().filter_map(Lookup::secret).collect()
}

fn look_up_required(entry: &mut Reader<'_>, context: &LoadContext<'_>) -> Lookup {
    match look_up(entry, context) {
        Lookup::Absent(reason) if context.requires_secrets => {
            entry.problem_at(entry.position(), reason);
            Lookup::Reported
        }
        other => other,
    }
}

fn look_up(entry: &mut Reader<'_>, context: &LoadContext<'_>) -> Lookup {
    let lookup = match (entry.has("env"), entry.has("file")) {
        (true, false) => from_variable(entry, context),
        (false, true) => from_file(entry, context),
        _ => {
            entry.problem_at(entry.position(), "a secret is named either by `env` or by `file`");
            Lookup::Reported
        }
    };
    match lookup {
        Lookup::Secret(secret) if secret.expose_secret().chars().any(char::is_control) => {
            entry.problem_at(entry.position(), "the secret has several lines or control characters in it");
            Lookup::Reported
        }
        other => other,
    }
}

fn from_variable(entry: &mut Reader<'_>, context: &LoadContext<'_>) -> Lookup {
    let Some(name) = entry.opt_string("env") else { return Lookup::Reported };
    if !is_variable_name(&name) {
        // It may be the secret itself, so it isn't repeated.
        entry.problem("env", "`env` must be the name of a variable: letters, digits and `_`");
        return Lookup::Reported;
    }
    match (context.env_var)(&name).map(without_newline) {
        None => Lookup::Absent(format!("the variable {} is not set", quoted(&name))),
        Some(value) if value.is_empty() => Lookup::Absent(format!("the variable {} is empty", quoted(&name))),
        Some(value) => Lookup::Secret(value.into()),
    }
}

fn from_file(entry: &mut Reader<'_>, context: &LoadContext<'_>) -> Lookup {
    let Some(name) = entry.opt_string("file") else { return Lookup::Reported };
    let path = context.directory.join(&name);
    match std::fs::read_to_string(&path).map(without_newline) {
        Ok(value) if value.is_empty() => Lookup::Absent(format!("the file {} is empty", quoted(&name))),
        Ok(value) => Lookup::Secret(value.into()),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            Lookup::Absent(format!("the file {} doesn't exist", quoted(&name)))
        }
        Err(cause) => {
            entry.problem("file", format!("the file {} can't be read: {cause}", quoted(&name)));
            Lookup::Reported
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
