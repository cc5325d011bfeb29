//! The section `[slack]`.

use super::SlackSettings;
use super::load::LoadContext;
use super::secrets::{opt_secret, secret, secrets};
use super::validate::{complain, groups, terminal_channel};
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use secrecy::SecretString;
use url::{Host, Url};

/// Slack's own Web API.
const API_URL: &str = "https://slack.com/api";

/// The slash command of the app manifest.
const COMMAND: &str = "/db";

/// Characters of a slash command, its slash among them (Slack's manifest).
const LONGEST_COMMAND: usize = 32;

/// The signing secret, and the one that takes its place.
const MAX_SIGNING_SECRETS: usize = 2;

pub(super) fn slack(table: &mut Reader<'_>, outside: &LoadContext<'_>, roles: &[&str]) -> SlackSettings {
    SlackSettings {
        groups: groups(
            table,
            roles,
            |id| is_slack_id(id, &['S']),
            "user group's id, which looks like S012AB3CD",
        ),
        api_url: url(table, "api_url", API_URL).trim_end_matches('/').into(),
        bot_token: secret(table, "bot_token", outside),
        signing_secrets: signing_secrets(table, outside),
        app_token: opt_secret(table, "app_token", outside),
        workspaces: workspaces(table),
        command: command(table),
        terminal_channel: terminal_channel(table, |id| is_slack_id(id, &['C', 'G']), "C012AB3CD"),
    }
}

fn signing_secrets(table: &mut Reader<'_>, outside: &LoadContext<'_>) -> Vec<SecretString> {
    let key = "signing_secrets";
    table.needs_entry(key, "`signing_secrets` must name at least one: without it no request can be trusted");
    let secrets = secrets(table, key, outside);
    if secrets.len() > MAX_SIGNING_SECRETS {
        let message =
            "`signing_secrets` are two at most: the one in use and, while it is rotated, its successor";
        table.problem(key, message);
    }
    secrets
}

/// An optional URL that a token is sent to.
pub(super) fn url(table: &mut Reader<'_>, key: &str, default: &str) -> String {
    let Some(text) = table.opt_string(key) else { return default.into() };
    if !is_safe_url(&text) {
        complain(table, key, &text, "an https URL (http to this machine only: the token goes there)");
    }
    text
}

/// True for a URL that a secret may be sent to: encrypted, or of this machine.
pub fn is_safe_url(text: &str) -> bool {
    let safe = |url: Url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback_url(&url));
    Url::parse(text).is_ok_and(safe)
}

fn is_loopback_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn workspaces(table: &mut Reader<'_>) -> Vec<String> {
    table.needs_entry("workspaces", "`workspaces` must name at least one: nobody else gets an answer");
    table.checked_strings("workspaces", |id| {
        (!is_slack_id(id, &['T', 'E']))
            .then(|| format!("{} is no workspace id, which looks like T012AB3CD", quoted(id)))
    })
}

/// Slack's ids: a letter that says what it is, then capitals and digits.
pub(super) fn is_slack_id(id: &str, kinds: &[char]) -> bool {
    id.len() > 1 && id.starts_with(kinds) && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

fn command(table: &mut Reader<'_>) -> String {
    let Some(command) = table.opt_string("command") else { return COMMAND.into() };
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let fits = command.strip_prefix('/').is_some_and(|word| !word.is_empty() && word.chars().all(letter));
    if !fits || command.chars().count() > LONGEST_COMMAND {
        complain(table, "command", &command, "a slash and up to 31 lower-case letters, digits, `-` or `_`");
    }
    command
}
