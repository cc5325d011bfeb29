//! Teams' activities into neutral values. Own types for the few fields that count: Teams adds fields at will.
//! Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference#activity-object>.

use super::verify::VerifiedToken;
use crate::config;
use crate::model::{ChatAccount, ChatEvent, ChatEventKind, Conversation, PlatformKind, ReplyHandle};
use serde::Deserialize;
use serde_json::Value;
use url::{Origin, Url};

/// Teams' name among the Bot Framework's channels: the signing key must be endorsed for this channel.
const BOT_FRAMEWORK_CHANNEL: &str = "msteams";

/// A parsed activity.
#[derive(Debug)]
pub enum ParsedActivity {
    /// An event for the workflow.
    Deliver(Box<ChatEvent>),
    /// Nothing for us: acknowledge it.
    Ignore,
    /// An invoke that we don't know, whose client waits for an answer.
    Unknown,
    /// From a tenant that is not listened to: acknowledge it, and nothing more.
    Foreign,
}

/// Reason that an activity is refused. It carries no part of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActivityError {
    #[error("the request can't be read as an activity")]
    Unreadable,
    #[error("the activity isn't what its token vouches for")]
    TokenMismatch,
}

/// Reads activities of the tenants that are listened to.
#[derive(Debug, Clone)]
pub struct TeamsParser {
    tenants: Vec<String>,
    services: Vec<Origin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Activity {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    name: Option<String>,
    service_url: String,
    channel_id: String,
    from: Option<ChannelAccount>,
    recipient: Option<ChannelAccount>,
    conversation: WireConversation,
    channel_data: Option<ChannelData>,
    text: Option<String>,
    #[serde(default)]
    entities: Vec<Value>,
    value: Option<Value>,
    reply_to_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChannelAccount {
    id: String,
    name: Option<String>,
    aad_object_id: Option<String>,
    role: Option<String>,
    #[serde(default)]
    is_targeted: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireConversation {
    id: String,
    conversation_type: Option<String>,
    tenant_id: Option<String>,
}

#[derive(Deserialize)]
struct ChannelData {
    tenant: Option<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

/// The key of a button's token in a card's `data`, and the verb of its `Action.Execute`.
pub(super) const BUTTON_KEY: &str = "cs";
/// The key of the token that requests the viewer's own view, and the verb of that request.
pub(super) const VIEW_KEY: &str = "view";

impl TeamsParser {
    pub fn new(config: &config::TeamsSettings) -> Self {
        TeamsParser { tenants: config.tenants.clone(), services: services(config) }
    }

    /// Parses the body of a request whose token was verified.
    pub fn parse_activity(
        &self,
        body: &[u8],
        token: &VerifiedToken,
    ) -> Result<ParsedActivity, ActivityError> {
        let activity: Activity = serde_json::from_slice(body).map_err(|_| ActivityError::Unreadable)?;
        self.check_token(&activity, token)?;
        let Some(tenant) = self.tenant(&activity) else { return Ok(ParsedActivity::Foreign) };
        let is_invoke = activity.kind == "invoke";
        let event = match activity.kind.as_str() {
            "message" => message_event(&activity),
            "invoke" => invoke_event(&activity),
            _ => None,
        };
        let incoming = event.and_then(|event| incoming_event(activity, tenant, event));
        Ok(match incoming {
            Some(incoming) => ParsedActivity::Deliver(Box::new(incoming)),
            None if is_invoke => ParsedActivity::Unknown,
            None => ParsedActivity::Ignore,
        })
    }

    /// The tenant that every part of the activity agrees on, if it is listened to.
    fn tenant(&self, activity: &Activity) -> Option<String> {
        let channel_tenant = activity.channel_data.as_ref().and_then(|data| Some(&data.tenant.as_ref()?.id));
        let mut tenants = channel_tenant.into_iter().chain(&activity.conversation.tenant_id);
        let first = tenants.next()?;
        (tenants.all(|tenant| tenant == first) && self.tenants.contains(first)).then(|| first.clone())
    }

    /// Checks that the service is the token's, and one of those that our own token may go to, and that the key may sign for Teams.
    fn check_token(&self, activity: &Activity, token: &VerifiedToken) -> Result<(), ActivityError> {
        let is_same =
            |a: &str, b: &str| a.trim_end_matches('/').eq_ignore_ascii_case(b.trim_end_matches('/'));
        let is_known_service = |url: &str| origin(url).is_some_and(|origin| self.services.contains(&origin));
        let is_endorsed = activity.channel_id == BOT_FRAMEWORK_CHANNEL
            && token.endorsed.iter().any(|name| name == BOT_FRAMEWORK_CHANNEL);
        let is_good = is_same(&activity.service_url, &token.service_url)
            && is_known_service(&activity.service_url)
            && is_known_service(&token.service_url)
            && config::is_safe_url(&activity.service_url)
            && is_endorsed;
        if is_good { Ok(()) } else { Err(ActivityError::TokenMismatch) }
    }
}

/// The services that our token may go to: scheme, host and port. Only `service_url` itself may be without encryption.
fn services(config: &config::TeamsSettings) -> Vec<Origin> {
    let hosts = config.service_hosts.iter().map(|host| format!("https://{host}/"));
    let urls = std::iter::once(config.service_url.clone()).chain(hosts);
    urls.filter_map(|url| Url::parse(&url).ok()).map(|url| url.origin()).collect()
}

/// The origin of a service's URL; `None` unless it is written as it would be called, without a user, a query or a fragment: what one
/// parser reads as `127.0.0.1` another must not read otherwise.
fn origin(text: &str) -> Option<Origin> {
    let url = Url::parse(text).ok()?;
    let is_canonical = url.as_str() == text || url.as_str().strip_suffix('/') == Some(text);
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (is_canonical && is_bare && url.has_host()).then(|| url.origin())
}

/// A typed line, or a click that arrives as a message.
fn message_event(activity: &Activity) -> Option<ChatEventKind> {
    if let Some(token) = activity.value.as_ref().and_then(|value| text_of(value, BUTTON_KEY)) {
        return Some(ChatEventKind::Button { token, message: activity.reply_to_id.clone()? });
    }
    let text = activity.text.as_deref()?;
    let bot = activity.recipient.as_ref()?;
    let is_to_bot = activity.conversation.conversation_type.as_deref() == Some("personal") || bot.is_targeted;
    let line = match after_mention(text, &activity.entities, &bot.id) {
        Some(line) => line,
        None if is_to_bot => text,
        None => return None,
    };
    Some(ChatEventKind::Command { line: unescape_line(line) })
}

/// A button of a card that has views.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/universal-actions-for-adaptive-cards/work-with-universal-actions-for-adaptive-cards>.
fn invoke_event(activity: &Activity) -> Option<ChatEventKind> {
    if activity.name.as_deref() != Some("adaptiveCard/action") {
        return None;
    }
    let value = activity.value.as_ref()?;
    let data = value.get("action")?.get("data")?;
    let message = activity.reply_to_id.clone()?;
    // What a client does by itself, when a card comes into sight, decides nothing.
    let is_click = value.get("trigger").and_then(Value::as_str) != Some("automatic");
    match text_of(data, BUTTON_KEY) {
        Some(token) if is_click => Some(ChatEventKind::Button { token, message }),
        button_token => {
            Some(ChatEventKind::View { token: button_token.or_else(|| text_of(data, VIEW_KEY))?, message })
        }
    }
}

fn text_of(data: &Value, key: &str) -> Option<String> {
    data.get(key)?.as_str().map(str::to_owned)
}

fn incoming_event(activity: Activity, tenant: String, event: ChatEventKind) -> Option<ChatEvent> {
    let (activity_id, from) = (activity.id?, activity.from?);
    if from.role.as_deref().is_some_and(|role| role != "user") {
        return None; // bots don't command bots
    }
    // Required: `from.id` is a different id for each bot, so that it doesn't identify the person.
    let account = from.aad_object_id?.to_lowercase();
    let (id, thread) = match activity.conversation.id.split_once(";messageid=") {
        Some((id, thread)) => (id.to_owned(), Some(thread.to_owned())),
        None => (activity.conversation.id, None),
    };
    let needs_answer = activity.kind == "invoke";
    let delivery = format!("teams:{id}:{activity_id}");
    Some(ChatEvent {
        handle: needs_answer.then(|| ReplyHandle {
            id: delivery.clone(),
            received_at: jiff::Timestamp::now(),
            replaces_card: true,
        }),
        delivery,
        sender: ChatAccount::new(PlatformKind::Teams, &tenant, account, from.name),
        conversation: Conversation { platform: PlatformKind::Teams, workspace: tenant, id, thread },
        event,
    })
}

/// The text after the bot's mention, which Teams writes as `<at>Countersign</at>` and names in an entity.
fn after_mention<'a>(text: &'a str, entities: &[Value], bot: &str) -> Option<&'a str> {
    let own_entity = entities
        .iter()
        .find(|entity| entity["type"] == "mention" && entity["mentioned"]["id"].as_str() == Some(bot));
    let mention = own_entity?["text"].as_str().filter(|mention| !mention.is_empty())?;
    text.find(mention).map(|start| &text[start + mention.len()..])
}

/// The text that a person typed, out of Teams' few entities of HTML, without the slash of a command of Teams' own.
pub fn unescape_line(text: &str) -> String {
    let mut plain = text.replace("&nbsp;", " ").replace('\u{a0}', " ");
    for (escaped, plain_char) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        plain = plain.replace(escaped, plain_char);
    }
    let line = plain.trim();
    let line = line.strip_prefix('/').unwrap_or(line);
    // People who know the bot from Slack type `/db health` here, too.
    match line.strip_prefix("db") {
        Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => rest.trim().to_owned(),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_what_stands_behind_the_bots_own_mention() {
        let entity = |id: &str, text: &str| json!({"type": "mention", "text": text, "mentioned": {"id": id}});
        let entities = [entity("29:ana", "<at>ana</at>"), entity("28:bot", "<at>Counter sign</at>")];
        let text = "<at>ana</at> <at>Counter sign</at>&nbsp;health --env production";
        let line = after_mention(text, &entities, "28:bot").map(unescape_line);
        assert_eq!(line.as_deref(), Some("health --env production"));
        assert_eq!(after_mention("health", &entities[..1], "28:bot"), None);
    }

    #[test]
    fn entities_and_slashes_are_no_part_of_a_line() {
        for (text, line) in [
            ("/health", "health"),
            ("/db health", "health"),
            (" db\u{a0}blocked ", "blocked"),
            ("dbx", "dbx"),
            ("history --find &quot;a &amp;lt; b&quot;", "history --find \"a &lt; b\""),
        ] {
            assert_eq!(unescape_line(text), line, "{text}");
        }
    }
}
