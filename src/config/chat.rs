//! The chat platforms: their sections `[slack]` and `[teams]`, and the accounts of `[[people]]` on each.

use super::LoadContext;
use super::secrets::{opt_secret, secret, secrets};
use super::validate::{groups, reject, terminal_channel};
use crate::model::PlatformKind;
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use secrecy::SecretString;
use std::collections::BTreeMap;
use url::{Host, Url};

/// The chat platforms that are set up.
#[derive(Debug, Clone)]
pub struct ChatSettings {
    pub slack: Option<SlackSettings>,
    pub teams: Option<TeamsSettings>,
}

impl ChatSettings {
    /// True if the platform has a section of its own.
    pub fn has(&self, platform: PlatformKind) -> bool {
        match platform {
            PlatformKind::Slack => self.slack.is_some(),
            PlatformKind::Teams => self.teams.is_some(),
            PlatformKind::Terminal => false,
        }
    }

    /// The slash command, without its slash, where the configuration names one.
    pub fn slash_command(&self) -> Option<&str> {
        Some(self.slack.as_ref()?.command.trim_start_matches('/'))
    }
}

/// A channel of a chat platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatChannel {
    pub platform: PlatformKind,
    /// Slack's channel id, Teams' conversation id.
    pub id: String,
}

impl ChatChannel {
    /// The channel of that id, whose form tells the platform.
    pub(super) fn of(id: &str) -> Option<ChatChannel> {
        let platform = if is_slack_channel(id) {
            PlatformKind::Slack
        } else if is_conversation(id) {
            PlatformKind::Teams
        } else {
            return None;
        };
        Some(ChatChannel { platform, id: id.to_owned() })
    }
}

/// The Slack app.
#[derive(Debug, Clone)]
pub struct SlackSettings {
    /// `https://slack.com/api` unless a test says otherwise; no trailing slash.
    pub api_url: String,
    pub bot_token: SecretString,
    /// One, or two while one is being rotated.
    pub signing_secrets: Vec<SecretString>,
    /// An app-level token: with it the bot connects out (Socket Mode) and needs no public address.
    pub app_token: Option<SecretString>,
    /// The workspaces (team ids) that are listened to; nobody else gets an answer.
    pub workspaces: Vec<String>,
    /// The slash command, `/db`.
    pub command: String,
    /// Role to user group (`S…`): whoever has the role counts only while they are in the group. It narrows and never widens.
    pub groups: BTreeMap<String, String>,
    /// The channel where requests made in a terminal are posted for approval. Without it no terminal can ask for anything.
    pub terminal_channel: Option<String>,
}

/// The Teams bot.
#[derive(Debug, Clone)]
pub struct TeamsSettings {
    /// The application (client) id of the bot's Entra app or managed identity.
    pub app_id: String,
    /// The tenants that are listened to; nobody else gets an answer. The first is the bot's own.
    pub tenants: Vec<String>,
    /// Of the Entra app. Without it the bot is a managed identity, and has none.
    pub client_secret: Option<SecretString>,
    /// Entra, which gives an app with a client secret its tokens.
    pub login_url: String,
    /// The Connector, for messages that are not replies.
    pub service_url: String,
    /// Hosts that an activity may name as its Connector.
    pub service_hosts: Vec<String>,
    /// The document that names the keys of the Bot Framework's tokens.
    pub openid_url: String,
    pub issuer: String,
    pub scope: String,
    /// Role to conversation (`19:…`): whoever has the role counts only while they are a member there. It narrows and never widens.
    pub groups: BTreeMap<String, String>,
    /// The channel where requests made in a terminal are posted for approval.
    pub terminal_channel: Option<String>,
}

pub(super) fn sections(root: &mut Reader<'_>, context: &LoadContext<'_>, roles: &[&str]) -> ChatSettings {
    ChatSettings {
        slack: root.opt_table("slack", |table| slack(table, context, roles)),
        teams: root.opt_table("teams", |table| teams(table, context, roles)),
    }
}

/// A person's accounts on a platform, as `[[people]]` lists them.
pub(super) struct AccountFormat {
    pub platform: PlatformKind,
    pub key: &'static str,
    /// Begins the message that an account is somebody else's.
    pub name: &'static str,
    pub is_valid: fn(&str) -> bool,
    pub expected: &'static str,
}

/// A platform without an entry knows no person.
pub(super) const ACCOUNTS: [AccountFormat; 3] = [
    AccountFormat {
        platform: PlatformKind::Slack,
        key: "slack",
        name: "the Slack account",
        is_valid: |id| is_slack_id(id, &['U', 'W']),
        expected: "a Slack user id, which looks like U012AB3CD",
    },
    AccountFormat {
        platform: PlatformKind::Teams,
        key: "teams",
        name: "the Teams account",
        is_valid: is_object_id,
        expected: "an Entra object id, a UUID in lower case",
    },
    // Login names where Countersign runs: for `countersign run`.
    AccountFormat {
        platform: PlatformKind::Terminal,
        key: "terminal",
        name: "the login name",
        is_valid: is_login_name,
        expected: "a login name, as `whoami` shows it",
    },
];

/// As the system has it: one word, from a directory service perhaps with a domain in it.
fn is_login_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || ":/".contains(c))
}

/// An optional URL that a token is sent to.
fn url(table: &mut Reader<'_>, key: &str, default: &str) -> String {
    let Some(text) = table.opt_string(key) else { return default.into() };
    if !is_safe_url(&text) {
        reject(table, key, &text, "an https URL (http to this machine only: the token goes there)");
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
    table.needs_entry(key, &format!("`{key}` must name at least one: only those get an answer"));
    table.checked_strings(key, |id| wrong(id).map(|kind| format!("{} is no {kind}", quoted(id))))
}

pub(super) const API_URL: &str = "https://slack.com/api";

/// The slash command of the app manifest.
pub(super) const COMMAND: &str = "/db";

/// Characters of a slash command, its slash among them (Slack's manifest).
const LONGEST_COMMAND: usize = 32;

/// The signing secret, and the one that takes its place.
const MAX_SIGNING_SECRETS: usize = 2;

fn slack(table: &mut Reader<'_>, context: &LoadContext<'_>, roles: &[&str]) -> SlackSettings {
    SlackSettings {
        groups: groups(table, roles, "user group's id, which looks like S012AB3CD", |id| {
            is_slack_id(id, &['S'])
        }),
        api_url: url(table, "api_url", API_URL).trim_end_matches('/').into(),
        bot_token: secret(table, "bot_token", context),
        signing_secrets: signing_secrets(table, context),
        app_token: opt_secret(table, "app_token", context),
        workspaces: senders(table, "workspaces", |id| {
            (!is_slack_id(id, &['T', 'E'])).then_some("workspace id, which looks like T012AB3CD")
        }),
        command: command(table),
        terminal_channel: terminal_channel(table, is_slack_channel, "C012AB3CD"),
    }
}

fn signing_secrets(table: &mut Reader<'_>, context: &LoadContext<'_>) -> Vec<SecretString> {
    let key = "signing_secrets";
    table.needs_entry(key, "`signing_secrets` must name at least one: without it no request can be trusted");
    let secrets = secrets(table, key, context);
    if secrets.len() > MAX_SIGNING_SECRETS {
        let rule = "two at most: the one in use and, while it is rotated, its successor";
        table.problem(key, format!("`signing_secrets` are {rule}"));
    }
    secrets
}

fn is_slack_channel(id: &str) -> bool {
    is_slack_id(id, &['C', 'G'])
}

/// Slack's ids: a letter that says what it is, then capitals and digits.
fn is_slack_id(id: &str, kinds: &[char]) -> bool {
    id.len() > 1 && id.starts_with(kinds) && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

fn command(table: &mut Reader<'_>) -> String {
    let Some(command) = table.opt_string("command") else { return COMMAND.into() };
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let fits = command.strip_prefix('/').is_some_and(|word| !word.is_empty() && word.chars().all(letter));
    if !fits || command.chars().count() > LONGEST_COMMAND {
        reject(table, "command", &command, "a slash and up to 31 lower-case letters, digits, `-` or `_`");
    }
    command
}

/// Entra of the public cloud. Source: <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>.
pub(super) const LOGIN_URL: &str = "https://login.microsoftonline.com";

/// The Connector of Teams' public cloud, for messages that are not replies.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/conversations/send-proactive-messages>.
pub(super) const SERVICE_URL: &str = "https://smba.trafficmanager.net/teams/";

/// The Bot Framework's document that names the keys of its tokens.
/// Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication>.
pub(super) const OPENID_URL: &str = "https://login.botframework.com/v1/.well-known/openidconfiguration";

/// The tokens' issuer, same source.
pub(super) const ISSUER: &str = "https://api.botframework.com";

/// The scope of our own token, same source.
pub(super) const SCOPE: &str = "https://api.botframework.com/.default";

const CONVERSATION: &str = "conversation's id, which looks like 19:…@thread.tacv2";

/// Lengths of the five groups of an Entra object id, in hexadecimal digits.
const OBJECT_ID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

fn teams(table: &mut Reader<'_>, context: &LoadContext<'_>, roles: &[&str]) -> TeamsSettings {
    let service_url = url(table, "service_url", SERVICE_URL);
    let mut service_hosts = table.checked_strings("service_hosts", |host| {
        (!is_host(host))
            .then(|| format!("{} is no host in lower case, with its port if that isn't 443", quoted(host)))
    });
    let own = Url::parse(&service_url).ok().filter(|url| url.scheme() == "https");
    service_hosts.extend(own.map(|url| url.authority().to_owned()));
    TeamsSettings {
        app_id: app_id(table),
        tenants: senders(table, "tenants", |id| {
            (!is_object_id(id)).then_some("tenant's id, a UUID in lower case")
        }),
        client_secret: opt_secret(table, "client_secret", context),
        login_url: url(table, "login_url", LOGIN_URL),
        service_url,
        service_hosts,
        openid_url: url(table, "openid_url", OPENID_URL),
        issuer: table.opt_string("issuer").unwrap_or_else(|| ISSUER.into()),
        scope: table.opt_string("scope").unwrap_or_else(|| SCOPE.into()),
        groups: groups(table, roles, CONVERSATION, is_conversation),
        terminal_channel: terminal_channel(table, is_conversation, "19:…@thread.tacv2"),
    }
}

/// True for a host as a URL has it, with a port if it isn't the usual one.
fn is_host(text: &str) -> bool {
    !text.contains('@') && Url::parse(&format!("https://{text}/")).is_ok_and(|url| url.authority() == text)
}

fn app_id(table: &mut Reader<'_>) -> String {
    let id = table.string("app_id");
    if !is_object_id(&id) {
        reject(table, "app_id", &id, "the bot's application (client) id, a UUID in lower case");
    }
    id
}

/// A conversation in Teams: a channel or a group chat.
fn is_conversation(id: &str) -> bool {
    id.starts_with("19:") && id.contains("@thread") && !id.contains(';') && !id.contains(char::is_whitespace)
}

/// Teams sends object ids in lower case, and accounts are compared byte by byte.
fn is_object_id(id: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    id.split('-').map(str::len).eq(OBJECT_ID_GROUPS) && id.chars().all(|c| digit(c) || c == '-')
}
