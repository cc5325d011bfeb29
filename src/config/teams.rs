//! The section `[teams]`. What the values mean to Teams is `chat/teams`' business.

use super::TeamsSettings;
use super::load::LoadContext;
use super::people::is_object_id;
use super::secrets::opt_secret;
use super::slack::is_safe_url;
use super::validate::{complain, groups};
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use url::Url;

/// The Connector of Teams' public cloud, for messages that answer nothing.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/conversations/send-proactive-messages>.
const SERVICE_URL: &str = "https://smba.trafficmanager.net/teams/";

/// Where the Bot Framework says which keys sign its tokens.
/// Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication>.
const OPENID_URL: &str = "https://login.botframework.com/v1/.well-known/openidconfiguration";

/// Who issues them, same source.
const ISSUER: &str = "https://api.botframework.com";

/// What our own token is for, same source.
const SCOPE: &str = "https://api.botframework.com/.default";

pub(super) fn teams(table: &mut Reader<'_>, outside: &LoadContext<'_>, roles: &[&str]) -> TeamsSettings {
    let service_url = url(table, "service_url", SERVICE_URL);
    let service_hosts = service_hosts(table, &service_url);
    TeamsSettings {
        app_id: app_id(table),
        tenants: tenants(table),
        client_secret: opt_secret(table, "client_secret", outside),
        service_url,
        service_hosts,
        openid_url: url(table, "openid_url", OPENID_URL),
        issuer: table.opt_string("issuer").unwrap_or_else(|| ISSUER.into()),
        scope: table.opt_string("scope").unwrap_or_else(|| SCOPE.into()),
        groups: groups(table, roles, &|id| match is_conversation(id) {
            true => Ok(()),
            false => Err("no conversation's id, which looks like 19:…@thread.tacv2"),
        }),
        terminal_channel: terminal_channel(table),
    }
}

fn app_id(table: &mut Reader<'_>) -> String {
    let id = table.string("app_id");
    if !is_object_id(&id) {
        complain(table, "app_id", &id, "the bot's application (client) id, a UUID in lower case");
    }
    id
}

fn tenants(table: &mut Reader<'_>) -> Vec<String> {
    let tenants = table.located_strings("tenants");
    table.needs_entry("tenants", "`tenants` must name at least one: nobody else gets an answer");
    for tenant in tenants.iter().filter(|tenant| !is_object_id(&tenant.value)) {
        let message = format!("{} is no tenant's id, a UUID in lower case", quoted(&tenant.value));
        table.problem_at(tenant.at, message);
    }
    tenants.into_iter().map(|tenant| tenant.value).collect()
}

fn url(table: &mut Reader<'_>, key: &str, usual: &str) -> String {
    let Some(text) = table.opt_string(key) else { return usual.into() };
    if !is_safe_url(&text) {
        complain(table, key, &text, "an https URL (http to this machine only: the token goes there)");
    }
    text
}

/// The hosts that an activity may name as its service: our token goes there.
fn service_hosts(table: &mut Reader<'_>, service_url: &str) -> Vec<String> {
    let mut hosts = table.strings("service_hosts");
    let own = Url::parse(service_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    hosts.extend(own);
    hosts
}

/// A conversation in Teams: a channel or a group chat.
fn is_conversation(id: &str) -> bool {
    id.starts_with("19:") && id.contains("@thread") && !id.contains(';') && !id.contains(char::is_whitespace)
}

fn terminal_channel(table: &mut Reader<'_>) -> Option<String> {
    let channel = table.opt_string("terminal_channel")?;
    if !is_conversation(&channel) {
        complain(table, "terminal_channel", &channel, "a channel's id, which looks like 19:…@thread.tacv2");
    }
    Some(channel)
}
