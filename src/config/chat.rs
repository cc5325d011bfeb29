//! The sections `[slack]` and `[teams]`.

use super::access::is_object_id;
use super::secrets::{opt_secret, secret, secrets};
use super::validate::{complain, groups, terminal_channel};
use super::{LoadContext, SlackSettings, TeamsSettings};
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use secrecy::SecretString;
use url::{Host, Url};

const API_URL: &str = "https://slack.com/api";

/// The slash command of the app manifest.
const COMMAND: &str = "/db";

/// Characters of a slash command, its slash among them (Slack's manifest).
const LONGEST_COMMAND: usize = 32;

/// The signing secret, and the one that takes its place.
const MAX_SIGNING_SECRETS: usize = 2;

pub(super) fn slack(table: &mut Reader<'_>, outside: &LoadContext<'_>, roles: &[&str]) -> SlackSettings {
    SlackSettings {
        groups: groups(table, roles, "user group's id, which looks like S012AB3CD", |id| {
            is_slack_id(id, &['S'])
        }),
        api_url: url(table, "api_url", API_URL).trim_end_matches('/').into(),
        bot_token: secret(table, "bot_token", outside),
        signing_secrets: signing_secrets(table, outside),
        app_token: opt_secret(table, "app_token", outside),
        workspaces: senders(table, "workspaces", |id| {
            (!is_slack_id(id, &['T', 'E'])).then_some("workspace id, which looks like T012AB3CD")
        }),
        command: command(table),
        terminal_channel: terminal_channel(table, |id| is_slack_id(id, &['C', 'G']), "C012AB3CD"),
    }
}

fn signing_secrets(table: &mut Reader<'_>, outside: &LoadContext<'_>) -> Vec<SecretString> {
    let key = "signing_secrets";
    table.needs_entry(key, "`signing_secrets` must name at least one: without it no request can be trusted");
    let secrets = secrets(table, key, outside);
    if secrets.len() > MAX_SIGNING_SECRETS {
        let rule = "two at most: the one in use and, while it is rotated, its successor";
        table.problem(key, format!("`signing_secrets` are {rule}"));
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
    let is_loopback = |url: &Url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    Url::parse(text).is_ok_and(|url| url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url))
}

/// The workspaces or tenants that are listened to; `wrong` says what an id should be.
fn senders(table: &mut Reader<'_>, key: &str, wrong: fn(&str) -> Option<&str>) -> Vec<String> {
    table.needs_entry(key, &format!("`{key}` must name at least one: nobody else gets an answer"));
    table.checked_strings(key, |id| wrong(id).map(|kind| format!("{} is no {kind}", quoted(id))))
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

/// The Connector of Teams' public cloud, for messages that answer nothing.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/conversations/send-proactive-messages>.
const SERVICE_URL: &str = "https://smba.trafficmanager.net/teams/";

/// The Bot Framework's document that names the keys of its tokens.
/// Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication>.
const OPENID_URL: &str = "https://login.botframework.com/v1/.well-known/openidconfiguration";

/// The tokens' issuer, same source.
const ISSUER: &str = "https://api.botframework.com";

/// The scope of our own token, same source.
const SCOPE: &str = "https://api.botframework.com/.default";

const CONVERSATION: &str = "conversation's id, which looks like 19:…@thread.tacv2";

pub(super) fn teams(table: &mut Reader<'_>, outside: &LoadContext<'_>, roles: &[&str]) -> TeamsSettings {
    let service_url = url(table, "service_url", SERVICE_URL);
    let mut service_hosts = table.strings("service_hosts");
    service_hosts.extend(Url::parse(&service_url).ok().and_then(|url| url.host_str().map(str::to_owned)));
    TeamsSettings {
        app_id: app_id(table),
        tenants: senders(table, "tenants", |id| {
            (!is_object_id(id)).then_some("tenant's id, a UUID in lower case")
        }),
        client_secret: opt_secret(table, "client_secret", outside),
        service_url,
        service_hosts,
        openid_url: url(table, "openid_url", OPENID_URL),
        issuer: table.opt_string("issuer").unwrap_or_else(|| ISSUER.into()),
        scope: table.opt_string("scope").unwrap_or_else(|| SCOPE.into()),
        groups: groups(table, roles, CONVERSATION, is_conversation),
        terminal_channel: terminal_channel(table, is_conversation, "19:…@thread.tacv2"),
    }
}

fn app_id(table: &mut Reader<'_>) -> String {
    let id = table.string("app_id");
    if !is_object_id(&id) {
        complain(table, "app_id", &id, "the bot's application (client) id, a UUID in lower case");
    }
    id
}

/// A conversation in Teams: a channel or a group chat.
fn is_conversation(id: &str) -> bool {
    id.starts_with("19:") && id.contains("@thread") && !id.contains(';') && !id.contains(char::is_whitespace)
}
