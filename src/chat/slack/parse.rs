//! Slack's requests into neutral values, on the path of the acknowledgement: no waiting. Own types for the few fields that count:
//! Slack adds fields at will, leaves others out (`"team": null` of org-wide installs), and adds kinds of interactions.

use super::markup::{mentioning_text, pieces};
use super::parse_form::FormEvent;
use super::shortcut::MessageShortcut;
use crate::chat::payload::{self, PayloadShape, readable_items};
use crate::chat::typed_text::typed_text;
use crate::model::{
    ChatAccount, ChatEvent, ChatEventKind, Conversation, PlatformKind, ReplyHandle, sha256_hex,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A request, read.
#[derive(Debug)]
pub enum ParsedRequest {
    /// An event for the workflow.
    Deliver(Box<ChatEvent>),
    /// What somebody does in a form: its client waits for an answer of ours.
    Form(Box<ChatEvent>),
    /// Slack checks the events address: answer with this text.
    Challenge(String),
    /// Nothing for us: acknowledge it.
    Ignore,
    /// From a workspace that is not listened to: acknowledge it, and nothing more.
    Foreign,
    /// An event that can't be read: acknowledge it, since Slack would send it again.
    Unreadable(MalformedRequest),
}

/// The request can't be read. It carries the shape of the request and no content: bodies hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the request can't be read as one of Slack's: {0}")]
pub struct MalformedRequest(PayloadShape);

/// Reads requests of the workspaces that are listened to.
#[derive(Debug, Clone)]
pub struct SlackParser {
    workspaces: Vec<String>,
}

/// A slash command, as a form over HTTP and as JSON over Socket Mode. An installation for a whole organisation may name no team.
/// Source: <https://api.slack.com/interactivity/slash-commands#app_command_handling>.
#[derive(Deserialize)]
struct SlashCommand {
    team_id: Option<String>,
    enterprise_id: Option<String>,
    channel_id: String,
    user_id: String,
    user_name: Option<String>,
    #[serde(default)]
    text: String,
    response_url: Option<String>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct UrlVerification {
    challenge: String,
}

#[derive(Deserialize)]
pub(super) struct Id {
    pub id: String,
}

/// A click on a button in a message.
/// Source: <https://api.slack.com/reference/interaction-payloads/block-actions>.
#[derive(Deserialize)]
struct BlockActions {
    trigger_id: Option<String>,
    team: Option<Id>,
    enterprise: Option<Id>,
    user: InteractionUser,
    channel: Option<Id>,
    container: Option<MessageAddress>,
    message: Option<MessageAddress>,
    /// In place of a message.
    view: Option<Kind>,
    response_url: Option<String>,
    #[serde(default, deserialize_with = "readable_items")]
    actions: Vec<Action>,
}

#[derive(Deserialize)]
pub(super) struct InteractionUser {
    pub id: String,
    pub name: Option<String>,
    pub username: Option<String>,
    pub team_id: Option<String>,
}

#[derive(Deserialize, Default)]
struct MessageAddress {
    #[serde(rename = "type")]
    kind: Option<String>,
    message_ts: Option<String>,
    /// The same, in the message itself.
    ts: Option<String>,
    channel_id: Option<String>,
    thread_ts: Option<String>,
}

#[derive(Deserialize, Default)]
struct Action {
    #[serde(rename = "type")]
    kind: Option<String>,
    action_id: Option<String>,
    value: Option<String>,
    action_ts: Option<String>,
}

/// The envelope of the Events API. Source: <https://api.slack.com/apis/events-api#callback-field>.
#[derive(Deserialize)]
struct EventCallback {
    team_id: Option<String>,
    enterprise_id: Option<String>,
    context_team_id: Option<String>,
    event_id: Option<String>,
    #[serde(default)]
    event: Value,
    #[serde(default, deserialize_with = "readable_items")]
    authorizations: Vec<Authorization>,
}

#[derive(Deserialize)]
struct Authorization {
    user_id: Option<String>,
    team_id: Option<String>,
}

#[derive(Deserialize)]
struct AppMention {
    user: Option<String>,
    #[serde(default)]
    text: String,
    ts: Option<String>,
    thread_ts: Option<String>,
    channel: String,
    bot_id: Option<String>,
    team: Option<String>,
    user_team: Option<String>,
    edited: Option<Map<String, Value>>,
}

/// A person opens a tab of the app's home. Source: <https://docs.slack.dev/reference/events/app_home_opened>.
#[derive(Deserialize)]
struct AppHomeOpened {
    user: String,
    channel: String,
    tab: Option<String>,
}

/// Every button that [`super::render`] makes carries an `action_id` that begins so.
pub(super) const ACTION_PREFIX: &str = "cs:";

/// The same for buttons that open an address, about which Slack tells the app.
pub(super) const LINK_PREFIX: &str = "link:";

impl SlackParser {
    /// `workspaces` are team ids.
    pub fn new(workspaces: &[String]) -> Self {
        SlackParser { workspaces: workspaces.to_vec() }
    }

    /// The body of a slash command's request, or of Slack's `ssl_check`.
    pub fn command(&self, body: &str) -> Result<ParsedRequest, MalformedRequest> {
        let fields = url::form_urlencoded::parse(body.as_bytes()).filter(|(_, value)| !value.is_empty());
        let fields: Map<String, Value> =
            fields.map(|(field, value)| (field.into_owned(), Value::String(value.into_owned()))).collect();
        if fields.contains_key("ssl_check") && !fields.contains_key("user_id") {
            return Ok(ParsedRequest::Ignore);
        }
        self.slash_command(Value::Object(fields))
    }

    /// The body of an interaction's request: a form with one JSON field.
    pub fn interaction(&self, body: &str) -> Result<ParsedRequest, MalformedRequest> {
        let mut fields = url::form_urlencoded::parse(body.as_bytes());
        let payload = fields.find(|(field, _)| field == "payload").map(|(_, value)| value);
        self.interaction_json(&payload.unwrap_or_default())
    }

    /// The body of the Events API's request.
    pub fn event(&self, body: &str) -> Result<ParsedRequest, MalformedRequest> {
        // Sent again it would be no better.
        Ok(self.read_event(body).unwrap_or_else(ParsedRequest::Unreadable))
    }

    /// A slash command as Socket Mode carries it.
    pub fn command_json(&self, payload: &str) -> Result<ParsedRequest, MalformedRequest> {
        self.slash_command(parse(payload)?)
    }

    /// An interaction as Socket Mode carries it.
    pub fn interaction_json(&self, payload: &str) -> Result<ParsedRequest, MalformedRequest> {
        let payload = parse(payload)?;
        let Kind { kind } = read(payload.clone())?;
        match kind.as_str() {
            "block_actions" => {
                let click = read(payload.clone())?;
                Ok(self.block_actions(click, &payload))
            }
            "message_action" => {
                let shortcut = read(payload.clone())?;
                Ok(self.message_shortcut(shortcut, &payload))
            }
            "view_submission" | "block_suggestion" => {
                let event = read(payload.clone())?;
                Ok(self.form_event(event, &kind, &payload))
            }
            _ => Ok(ParsedRequest::Ignore),
        }
    }

    fn read_event(&self, body: &str) -> Result<ParsedRequest, MalformedRequest> {
        let payload = parse(body)?;
        let Kind { kind } = read(payload.clone())?;
        match kind.as_str() {
            "url_verification" => {
                let UrlVerification { challenge } = read(payload)?;
                Ok(ParsedRequest::Challenge(challenge))
            }
            "event_callback" => {
                let unique = unique(None, &payload);
                self.event_callback(read(payload)?, unique)
            }
            _ => Ok(ParsedRequest::Ignore),
        }
    }

    /// The workspace of a request, if it is listened to: by itself, or as one of an organisation that is. Where an installation for
    /// a whole organisation names none, it is the first of the configuration, and the sender's account tells if they belong to it.
    fn workspace(&self, team: Option<String>, organisation: Option<&String>) -> Option<String> {
        match team {
            Some(team) => {
                let is_listened_to = |id: &String| self.workspaces.contains(id);
                (is_listened_to(&team) || organisation.is_some_and(is_listened_to)).then_some(team)
            }
            None => self.workspaces.first().cloned(),
        }
    }

    fn slash_command(&self, payload: Value) -> Result<ParsedRequest, MalformedRequest> {
        let trigger = payload.get("trigger_id").and_then(Value::as_str).map(str::to_owned);
        let unique = unique(payload.get("trigger_id"), &payload);
        let command: SlashCommand = read(payload)?;
        let Some(team) = self.workspace(command.team_id, command.enterprise_id.as_ref()) else {
            return Ok(ParsedRequest::Foreign);
        };
        Ok(ParsedRequest::Deliver(Box::new(ChatEvent {
            delivery: format!("slack:cmd:{unique}"),
            sender: ChatAccount::new(PlatformKind::Slack, &team, command.user_id, command.user_name),
            conversation: conversation(team, command.channel_id, None),
            handle: command.response_url.map(|url| handle(url, trigger)),
            event: ChatEventKind::Command(typed_text(pieces(&command.text, &[]))),
        })))
    }

    fn block_actions(&self, click: BlockActions, payload: &Value) -> ParsedRequest {
        let organisation = click.enterprise.map(|enterprise| enterprise.id);
        let team = click.team.map(|team| team.id);
        let Some(team) = self.workspace(team, organisation.as_ref()) else { return ParsedRequest::Foreign };
        let Some(action) = our_action(click.actions) else { return ParsedRequest::Ignore };
        let container = click.container.unwrap_or_default();
        let is_view = container.kind.as_deref() == Some("view");
        let is_home = is_view && click.view.is_some_and(|view| view.kind == "home");
        if is_view && !is_home {
            return ParsedRequest::Ignore; // no message
        }
        let channel = click.channel.map(|channel| channel.id).or(container.channel_id);
        // Without a channel no button is known, and the clicker is told so where they can be.
        let channel = channel.or(click.response_url.as_ref().map(|_| String::new()));
        let channel = channel.or(is_home.then(String::new));
        let Some(channel) = channel else { return ParsedRequest::Ignore };
        let trigger = click.trigger_id.clone();
        let unique = click.trigger_id.or(action.action_ts).unwrap_or_else(|| unique(None, payload));
        let clicked = click.message.unwrap_or_default();
        // Without a token or a message no button is known, and the clicker is told so.
        let token = action.value.unwrap_or_default();
        let message = container.message_ts.or(clicked.ts).unwrap_or_default();
        // A message that starts a thread names itself: its answers belong in the channel, as it does.
        let thread = container.thread_ts.or(clicked.thread_ts);
        let thread = thread.filter(|thread| *thread != message);
        // In a channel shared with another organisation the user's team is not the channel's; `account` judges it.
        let home = click.user.team_id.unwrap_or_else(|| team.clone());
        let name = click.user.name.or(click.user.username);
        let sender = ChatAccount::new(PlatformKind::Slack, &home, click.user.id, name);
        // The home doesn't tell the conversation that it belongs to, which is the direct one.
        let conversation =
            if is_home { Conversation::with(&sender) } else { conversation(team, channel, thread) };
        ParsedRequest::Deliver(Box::new(ChatEvent {
            delivery: format!("slack:act:{unique}"),
            sender,
            conversation,
            handle: click.response_url.map(|url| handle(url, trigger)),
            event: ChatEventKind::Button { token, message },
        }))
    }

    fn message_shortcut(&self, shortcut: MessageShortcut, payload: &Value) -> ParsedRequest {
        let (line, thread) = (shortcut.line(), shortcut.thread());
        let is_ours = shortcut.is_ours();
        let (Some(user), Some(channel), true) = (shortcut.user, shortcut.channel, is_ours) else {
            return ParsedRequest::Ignore;
        };
        let organisation = shortcut.enterprise.map(|enterprise| enterprise.id);
        let team = shortcut.team.map(|team| team.id);
        let Some(team) = self.workspace(team, organisation.as_ref()) else { return ParsedRequest::Foreign };
        let trigger = shortcut.trigger_id;
        let unique = trigger.clone().unwrap_or_else(|| unique(None, payload));
        let home = user.team_id.unwrap_or_else(|| team.clone());
        ParsedRequest::Deliver(Box::new(ChatEvent {
            delivery: format!("slack:msg:{unique}"),
            sender: ChatAccount::new(PlatformKind::Slack, &home, user.id, user.name.or(user.username)),
            conversation: conversation(team, channel.id, thread),
            handle: shortcut.response_url.map(|url| handle(url, trigger)),
            event: ChatEventKind::Command(line.as_str().into()),
        }))
    }

    fn form_event(&self, event: FormEvent, kind: &str, payload: &Value) -> ParsedRequest {
        let (input, query) = (event.input(), event.query());
        let (Some(input), Some(user)) = (input, event.user) else { return ParsedRequest::Ignore };
        let organisation = event.enterprise.map(|enterprise| enterprise.id);
        let team = event.team.map(|team| team.id);
        let Some(team) = self.workspace(team, organisation.as_ref()) else { return ParsedRequest::Foreign };
        let neutral = match query.filter(|_| kind == "block_suggestion") {
            Some((field, query)) => ChatEventKind::FormQuery { input, field, query },
            None => ChatEventKind::FormSubmission(input),
        };
        let unique = event.trigger_id.unwrap_or_else(|| unique(None, payload));
        let home = user.team_id.unwrap_or(team);
        let sender = ChatAccount::new(PlatformKind::Slack, &home, user.id, user.name.or(user.username));
        ParsedRequest::Form(Box::new(ChatEvent {
            delivery: format!("slack:form:{unique}"),
            // A form doesn't tell where it was opened: its token does.
            conversation: Conversation::with(&sender),
            sender,
            handle: None,
            event: neutral,
        }))
    }

    fn event_callback(
        &self,
        callback: EventCallback,
        unique: String,
    ) -> Result<ParsedRequest, MalformedRequest> {
        let kind = callback.event["type"].as_str().unwrap_or_default().to_owned();
        if !matches!(kind.as_str(), "app_mention" | "app_home_opened") {
            return Ok(ParsedRequest::Ignore);
        }
        let authorized =
            callback.authorizations.iter().find_map(|authorization| authorization.team_id.clone());
        let team = callback.team_id.or(callback.context_team_id).or(authorized);
        let Some(team) = self.workspace(team, callback.enterprise_id.as_ref()) else {
            return Ok(ParsedRequest::Foreign);
        };
        let delivery = format!("slack:evt:{}", callback.event_id.unwrap_or(unique));
        if kind == "app_home_opened" {
            return Ok(home_opened(team, read(callback.event)?, delivery));
        }
        let mention: AppMention = read(callback.event)?;
        // Bots don't command bots; and Slack reports a mention again when its message is edited.
        let (Some(user), None, None) = (mention.user, mention.bot_id, mention.edited) else {
            return Ok(ParsedRequest::Ignore);
        };
        let bots = callback.authorizations.into_iter().filter_map(|authorization| authorization.user_id);
        let text = mentioning_text(&mention.text, bots.collect());
        let home = mention.user_team.or(mention.team).unwrap_or_else(|| team.clone());
        Ok(ParsedRequest::Deliver(Box::new(ChatEvent {
            delivery,
            sender: ChatAccount::new(PlatformKind::Slack, &home, user, None),
            conversation: conversation(team, mention.channel, mention.thread_ts.or(mention.ts)),
            handle: None,
            event: ChatEventKind::Command(text),
        })))
    }
}

/// The home, opened: of the other tab, which shows messages, there is nothing to do.
fn home_opened(team: String, opened: AppHomeOpened, delivery: String) -> ParsedRequest {
    if opened.tab.is_some_and(|tab| tab != "home") {
        return ParsedRequest::Ignore;
    }
    ParsedRequest::Deliver(Box::new(ChatEvent {
        delivery,
        sender: ChatAccount::new(PlatformKind::Slack, &team, opened.user, None),
        conversation: conversation(team, opened.channel, None),
        handle: None,
        event: ChatEventKind::Home,
    }))
}

/// The action of our button. What can't be read of one may be ours, since Slack sends us those on our own messages; `None` if all are
/// others'.
fn our_action(mut actions: Vec<Action>) -> Option<Action> {
    let is_ours = |action: &Action| {
        let is_button = action.kind.as_deref().map(|kind| kind == "button");
        let has_prefix = action.action_id.as_deref().map(|id| id.starts_with(ACTION_PREFIX));
        (is_button, has_prefix)
    };
    if actions.is_empty() {
        return Some(Action::default());
    }
    let whole = actions.iter().position(|action| is_ours(action) == (Some(true), Some(true)));
    let partial = || {
        actions
            .iter()
            .map(is_ours)
            .position(|(is_button, has_prefix)| is_button.unwrap_or(true) && has_prefix.unwrap_or(true))
    };
    whole.or_else(partial).map(|index| actions.swap_remove(index))
}

fn parse(payload: &str) -> Result<Value, MalformedRequest> {
    payload::parse(payload.as_bytes()).map_err(MalformedRequest)
}

fn read<T: DeserializeOwned>(payload: Value) -> Result<T, MalformedRequest> {
    payload::read_request(payload).map_err(MalformedRequest)
}

/// An id for a delivery: Slack's, or where it sends none, one that the same payload has again.
fn unique(id: Option<&Value>, payload: &Value) -> String {
    match id.and_then(Value::as_str) {
        Some(id) => id.to_owned(),
        None => sha256_hex(&[payload.to_string().as_bytes()]),
    }
}

fn conversation(workspace: String, id: String, thread: Option<String>) -> Conversation {
    Conversation { platform: PlatformKind::Slack, workspace, id, thread }
}

fn handle(url: String, trigger: Option<String>) -> ReplyHandle {
    ReplyHandle { id: url, received_at: jiff::Timestamp::now(), replaces_card: false, trigger }
}
