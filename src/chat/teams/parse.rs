//! Teams' activities into neutral values. Own types for the few fields that count: Teams adds fields at will.
//! Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference#activity-object>.

use super::markup::{AddressedText, MentionEntity, addressed_text};
use super::verify::VerifiedToken;
use crate::chat::payload::{self, PayloadShape, readable_items};
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

/// Reason that an activity is refused. It carries the shape of the request and no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActivityError {
    #[error("the request can't be read as an activity: {0}")]
    Unreadable(PayloadShape),
    #[error("the activity isn't what its token vouches for")]
    TokenMismatch,
}

/// Reads activities of the tenants that are listened to.
#[derive(Debug, Clone)]
pub struct TeamsParser {
    /// The bot's id in activities.
    bot: String,
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
    #[serde(default, deserialize_with = "readable_items")]
    entities: Vec<Value>,
    value: Option<Value>,
    reply_to_id: Option<String>,
    #[serde(default, deserialize_with = "readable_items")]
    attachments: Vec<Value>,
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
        TeamsParser {
            bot: format!("28:{}", config.app_id),
            tenants: config.tenants.clone(),
            services: services(config),
        }
    }

    /// Parses the body of a request whose token was verified.
    pub fn parse_activity(
        &self,
        body: &[u8],
        token: &VerifiedToken,
    ) -> Result<ParsedActivity, ActivityError> {
        let activity = payload::parse(body).and_then(payload::read::<Activity>);
        let activity = activity.map_err(ActivityError::Unreadable)?;
        self.check_token(&activity, token)?;
        let Some(tenant) = self.tenant(&activity) else { return Ok(ParsedActivity::Foreign) };
        let is_invoke = activity.kind == "invoke";
        let event = match activity.kind.as_str() {
            "message" => self.message_event(&activity),
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
        let is_first = |tenant: &String| tenant.eq_ignore_ascii_case(first);
        self.tenants.iter().find(|tenant| is_first(tenant)).filter(|_| tenants.all(is_first)).cloned()
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

    /// A typed line, or a button whose client sends what it carries as a message.
    fn message_event(&self, activity: &Activity) -> Option<ChatEventKind> {
        if let Some(token) = activity.value.as_ref().and_then(|value| text_of(value, BUTTON_KEY)) {
            return Some(ChatEventKind::Button { token, message: activity.reply_to_id.clone()? });
        }
        let is_html = |attachment: &&Value| attachment["contentType"] == "text/html";
        let html = activity.attachments.iter().find(is_html).and_then(|html| html["content"].as_str());
        let recipient = activity.recipient.as_ref();
        let bots: Vec<&str> =
            recipient.map(|bot| bot.id.as_str()).into_iter().chain([self.bot.as_str()]).collect();
        let mentions = MentionEntity::all(&activity.entities);
        let text = activity.text.as_deref().filter(|text| !text.trim().is_empty());
        let AddressedText { text, to_bot } = addressed_text(text.or(html)?, html, &mentions, &bots);
        let is_personal = activity.conversation.conversation_type.as_deref() == Some("personal");
        let is_targeted = recipient.is_some_and(|bot| bot.is_targeted);
        (to_bot || is_personal || is_targeted).then_some(ChatEventKind::Command(text))
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
    if from.role.as_deref().is_some_and(|role| !role.eq_ignore_ascii_case("user")) {
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
