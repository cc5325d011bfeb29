//! Teams' activities into neutral values. Own types for the few fields that count: Teams adds fields at will.
//! Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference#activity-object>.

use super::form;
use super::markup::{AddressedText, MentionEntity, addressed_text};
use super::send::is_direct;
use super::verify::VerifiedToken;
use crate::chat::payload::{self, PayloadShape, readable_items};
use crate::config;
use crate::model::{
    ChatAccount, ChatEvent, ChatEventKind, Conversation, PlatformKind, ReplyHandle, sha256_hex,
};
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
    /// A form whose client waits for an answer.
    Form(Box<ChatEvent>),
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
    #[error("the activity has no sender who is a person with an account: {0}")]
    NoSender(PayloadShape),
    /// Of an invoke, whose client waits for an answer.
    #[error("the click has no sender who is a person with an account: {0}")]
    NoClicker(PayloadShape),
}

/// Reads activities of the tenants that are listened to.
#[derive(Debug, Clone)]
pub struct TeamsParser {
    /// The bot's id in activities.
    bot: String,
    tenants: Vec<String>,
    services: Vec<Origin>,
}

/// The parts of an activity that say where it is from and who sent it. Each is read as it is: a value of another type is refused, and
/// an empty one is none of those that are listened to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Origins {
    #[serde(rename = "type")]
    kind: String,
    service_url: String,
    channel_id: String,
    from: Option<Sender>,
    conversation: Place,
    channel_data: Option<ChannelData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sender {
    aad_object_id: Option<String>,
    role: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    id: String,
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

/// The other parts, as far as they can be read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Activity {
    id: Option<String>,
    name: Option<String>,
    from: Option<ChannelAccount>,
    recipient: Option<ChannelAccount>,
    conversation: Option<ConversationKind>,
    channel_data: Option<Value>,
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
    id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    is_targeted: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConversationKind {
    conversation_type: Option<String>,
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
        let payload = payload::parse(body).map_err(ActivityError::Unreadable)?;
        let origins = payload::read::<Origins>(payload.clone()).map_err(ActivityError::Unreadable)?;
        self.check_token(&origins, token)?;
        let Some(tenant) = self.tenant(&origins) else { return Ok(ParsedActivity::Foreign) };
        let shape = PayloadShape::of(&payload);
        if origins.kind.is_empty() || origins.conversation.id.is_empty() {
            return Err(ActivityError::Unreadable(shape));
        }
        let is_invoke = origins.kind == "invoke";
        let content = sha256_hex(&[payload.to_string().as_bytes()]);
        let activity = payload::read_request::<Activity>(payload).map_err(ActivityError::Unreadable)?;
        let event = match origins.kind.as_str() {
            "message" => self.message_event(&activity, &origins.conversation),
            "invoke" => invoke_event(&activity),
            _ => None,
        };
        let Some(event) = event else {
            return Ok(if is_invoke { ParsedActivity::Unknown } else { ParsedActivity::Ignore });
        };
        // Teams' id of the delivery, or one that the same content has again.
        let id = activity.id.unwrap_or(content);
        let Some(account) = person_account(&origins) else {
            let error = if is_invoke { ActivityError::NoClicker } else { ActivityError::NoSender };
            return Err(error(shape));
        };
        let name = activity.from.and_then(|from| from.name);
        let sender = ChatAccount::new(PlatformKind::Teams, &tenant, account, name);
        let is_form =
            matches!(event, ChatEventKind::FormSubmission(_) | ChatEventKind::FormQuery { .. }) && is_invoke;
        let incoming = Box::new(incoming_event(origins, sender, id, event));
        Ok(if is_form { ParsedActivity::Form(incoming) } else { ParsedActivity::Deliver(incoming) })
    }

    /// The tenant that every part of the activity agrees on, if it is listened to.
    fn tenant(&self, origins: &Origins) -> Option<String> {
        let channel_tenant = origins.channel_data.as_ref().and_then(|data| Some(&data.tenant.as_ref()?.id));
        let mut tenants = channel_tenant.into_iter().chain(&origins.conversation.tenant_id);
        let first = tenants.next()?;
        let is_first = |tenant: &String| tenant.eq_ignore_ascii_case(first);
        self.tenants.iter().find(|tenant| is_first(tenant)).filter(|_| tenants.all(is_first)).cloned()
    }

    /// Checks that the service is the token's, and one of those that our own token may go to, and that the key may sign for Teams.
    fn check_token(&self, origins: &Origins, token: &VerifiedToken) -> Result<(), ActivityError> {
        let is_same =
            |a: &str, b: &str| a.trim_end_matches('/').eq_ignore_ascii_case(b.trim_end_matches('/'));
        let is_known_service = |url: &str| origin(url).is_some_and(|origin| self.services.contains(&origin));
        let is_endorsed = origins.channel_id == BOT_FRAMEWORK_CHANNEL
            && token.endorsed.iter().any(|name| name == BOT_FRAMEWORK_CHANNEL);
        let is_good = is_same(&origins.service_url, &token.service_url)
            && is_known_service(&origins.service_url)
            && is_known_service(&token.service_url)
            && config::is_safe_url(&origins.service_url)
            && is_endorsed;
        if is_good { Ok(()) } else { Err(ActivityError::TokenMismatch) }
    }

    /// A typed line, or a button whose client sends what it carries as a message.
    fn message_event(&self, activity: &Activity, place: &Place) -> Option<ChatEventKind> {
        let text = activity.text.as_deref().filter(|text| !text.trim().is_empty());
        let token = activity.value.as_ref().and_then(|value| text_of(value, BUTTON_KEY));
        if let Some(input) = activity.value.as_ref().and_then(form::submitted) {
            return Some(ChatEventKind::FormSubmission(input));
        }
        // Without its token it is a button that isn't known.
        if token.is_some() || (activity.value.is_some() && text.is_none()) {
            return Some(ChatEventKind::Button {
                token: token.unwrap_or_default(),
                message: clicked(activity),
            });
        }
        let is_html = |attachment: &&Value| attachment["contentType"] == "text/html";
        let html = activity.attachments.iter().find(is_html).and_then(|html| html["content"].as_str());
        let recipient = activity.recipient.as_ref();
        let bots: Vec<&str> =
            recipient.and_then(|bot| bot.id.as_deref()).into_iter().chain([self.bot.as_str()]).collect();
        let bot_name = recipient.and_then(|bot| bot.name.as_deref());
        let mentions = MentionEntity::all(&activity.entities, &self.bot, bot_name);
        let text = text.or(html).unwrap_or_default();
        let AddressedText { text, to_bot } = addressed_text(text, html, &mentions, &bots);
        let kind = activity.conversation.as_ref().and_then(|kind| kind.conversation_type.as_deref());
        let is_personal = kind.map_or(is_direct(&place.id), |kind| kind == "personal");
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

/// The message that was clicked on; empty where it can't be read, which is no card's.
fn clicked(activity: &Activity) -> String {
    let legacy = || text_of(activity.channel_data.as_ref()?.get("legacy")?, "replyToId");
    activity.reply_to_id.clone().or_else(legacy).unwrap_or_default()
}

/// A button of a card that has views. One without a token isn't known, and the clicker is told so.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/universal-actions-for-adaptive-cards/work-with-universal-actions-for-adaptive-cards>.
fn invoke_event(activity: &Activity) -> Option<ChatEventKind> {
    let value = activity.value.as_ref();
    match activity.name.as_deref() {
        Some("application/search") => {
            let (input, field, query) = form::searched(value);
            return Some(ChatEventKind::FormQuery { input, field, query });
        }
        Some("adaptiveCard/action") | None => {}
        Some(_) => return None,
    }
    let data = value.and_then(|value| value.get("action")?.get("data"));
    let token = |key| data.and_then(|data| text_of(data, key));
    let message = clicked(activity);
    // What a client does by itself, when a card comes into sight, decides nothing.
    let trigger = value.and_then(|value| value.get("trigger")?.as_str());
    let is_click = trigger != Some("automatic");
    if let Some(input) = data.and_then(form::submitted).filter(|_| is_click) {
        return Some(ChatEventKind::FormSubmission(input));
    }
    match (token(BUTTON_KEY), token(VIEW_KEY)) {
        (Some(token), _) if is_click => Some(ChatEventKind::Button { token, message }),
        (Some(token), _) | (None, Some(token)) => Some(ChatEventKind::View { token, message }),
        (None, None) => Some(ChatEventKind::Button { token: String::new(), message }),
    }
}

fn text_of(data: &Value, key: &str) -> Option<String> {
    data.get(key)?.as_str().map(str::to_owned)
}

/// The account of the sender; `None` if it is a bot, or has none.
fn person_account(origins: &Origins) -> Option<String> {
    let from = origins.from.as_ref()?;
    if from.role.as_deref().is_some_and(|role| !role.eq_ignore_ascii_case("user")) {
        return None; // bots don't command bots
    }
    // Required: `from.id` is a different id for each bot, so that it doesn't identify the person.
    from.aad_object_id.as_deref().filter(|account| !account.is_empty()).map(str::to_lowercase)
}

fn incoming_event(
    origins: Origins,
    sender: ChatAccount,
    activity_id: String,
    event: ChatEventKind,
) -> ChatEvent {
    let (id, thread) = match origins.conversation.id.split_once(";messageid=") {
        Some((id, thread)) => (id.to_owned(), Some(thread.to_owned())),
        None => (origins.conversation.id, None),
    };
    let is_button = matches!(event, ChatEventKind::Button { .. } | ChatEventKind::View { .. });
    let needs_answer = is_button && origins.kind == "invoke";
    let delivery = format!("teams:{id}:{activity_id}");
    let workspace = sender.workspace.clone();
    ChatEvent {
        handle: needs_answer.then(|| ReplyHandle {
            id: delivery.clone(),
            received_at: jiff::Timestamp::now(),
            replaces_card: true,
            trigger: None,
        }),
        delivery,
        sender,
        conversation: Conversation { platform: PlatformKind::Teams, workspace, id, thread },
        event,
    }
}
