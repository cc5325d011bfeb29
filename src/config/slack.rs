//! The section `[slack]`. What the values mean to Slack is `chat/slack`'s business.

use super::SlackSettings;
use super::load::LoadContext;
use super::secrets::{opt_secret, secret, secrets};
use super::validate::{complain, groups};
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
const MOST_SIGNING_SECRETS: usize = 2;

pub(super) fn slack(table: &mut Reader<'_>, outside: &LoadContext<'_>, roles: &[&str]) -> SlackSettings {
    SlackSettings {
        groups: groups(table, roles, &|id| match is_slack_id(id, &['S']) {
            true => Ok(()),
            false => Err("no user group's id, which looks like S012AB3CD"),
        }),
        api_url: api_url(table),
        bot_token: secret(table, "bot_token", outside),
        signing_secrets: signing_secrets(table, outside),
        app_token: opt_secret(table, "app_token", outside),
        workspaces: workspaces(table),
        command: command(table),
        terminal_channel: terminal_channel(table),
    }
}

fn signing_secrets(table: &mut Reader<'_>, outside: &LoadContext<'_>) -> Vec<SecretString> {
    let key = "signing_secrets";
    table.needs_entry(key, "`signing_secrets` must name at least one: without it no request can be trusted");
    let found = secrets(table, key, outside);
    if found.len() > MOST_SIGNING_SECRETS {
        table.problem(
            key,
            "`signing_secrets` are two at most: the one in use and, while it is rotated, its successor",
        );
    }
    found
}

fn api_url(table: &mut Reader<'_>) -> String {
    let Some(text) = table.opt_string("api_url") else { return API_URL.into() };
    if !is_safe_url(&text) {
        let rule = "an https URL (http to this machine only: the token goes there)";
        complain(table, "api_url", &text, rule);
    }
    text.trim_end_matches('/').into()
}

/// Encrypted, or to this very machine: a secret may be sent there.
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
    let workspaces = table.located_strings("workspaces");
    table.needs_entry("workspaces", "`workspaces` must name at least one: nobody else gets an answer");
    for workspace in &workspaces {
        if !is_slack_id(&workspace.value, &['T', 'E']) {
            let message =
                format!("{} is no workspace id, which looks like T012AB3CD", quoted(&workspace.value));
            table.problem_at(workspace.at, message);
        }
    }
    workspaces.into_iter().map(|workspace| workspace.value).collect()
}

fn terminal_channel(table: &mut Reader<'_>) -> Option<String> {
    let channel = table.opt_string("terminal_channel")?;
    if !is_slack_id(&channel, &['C', 'G']) {
        complain(table, "terminal_channel", &channel, "a channel's id, which looks like C012AB3CD");
    }
    Some(channel)
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
