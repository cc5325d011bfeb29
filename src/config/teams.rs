//! The section `[teams]`.

use super::TeamsSettings;
use super::load::LoadContext;
use super::people::is_object_id;
use super::secrets::opt_secret;
use super::slack::url;
use super::validate::{complain, groups, terminal_channel};
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use url::Url;

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
        groups: groups(
            table,
            roles,
            is_conversation,
            "conversation's id, which looks like 19:…@thread.tacv2",
        ),
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

fn tenants(table: &mut Reader<'_>) -> Vec<String> {
    table.needs_entry("tenants", "`tenants` must name at least one: nobody else gets an answer");
    table.checked_strings("tenants", |id| {
        (!is_object_id(id)).then(|| format!("{} is no tenant's id, a UUID in lower case", quoted(id)))
    })
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
