//! Slack's requests into neutral values, on the path of the acknowledgement: no waiting. Own types for the few fields that count:
//! Slack adds fields at will, leaves others out (`"team": null` of org-wide installs), and adds kinds of interactions.

use crate::model::{ChatAccount, ChatEvent, ChatEventKind, Conversation, PlatformKind, ReplyHandle};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// A request, read.
#[derive(Debug)]
pub enum ParsedRequest {
    /// An event for the workflow.
    Deliver(Box<ChatEvent>),
    /// Slack checks the events address: answer with this text.
    Challenge(String),
    /// Nothing for us: acknowledge it.
    Ignore,
    /// From a workspace that is not listened to: acknowledge it, and nothing more.
    Foreign,
}

/// The request can't be read. It carries no part of the request: bodies hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request can't be read as one of Slack's")]
pub struct MalformedRequest;

/// Reads requests of the workspaces that are listened to.
#[derive(Debug, Clone)]
pub struct SlackParser {
    workspaces: Vec<String>,
}

/// A slash command, as a form over HTTP and as JSON over Socket Mode.
/// Source: <https://api.slack.com/interactivity/slash-commands#app_command_handling>.
#[derive(Deserialize)]
struct SlashCommand {
    team_id: String,
    channel_id: String,
    user_id: String,
    #[serde(default)]
    user_name: String,
    #[serde(default)]
    text: String,
    response_url: Option<String>,
    trigger_id: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Interaction {
    BlockActions(Box<BlockActions>),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EventsRequest {
    UrlVerification {
        challenge: String,
    },
    EventCallback(EventCallback),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

/// A click on a button in a message.
/// Source: <https://api.slack.com/reference/interaction-payloads/block-actions>.
#[derive(Deserialize)]
struct BlockActions {
    trigger_id: Option<String>,
    team: Option<Id>,
    user: InteractionUser,
    channel: Option<Id>,
    container: Option<MessageAddress>,
    message: Option<MessageAddress>,
    response_url: Option<String>,
    #[serde(default)]
    actions: Vec<Action>,
}

#[derive(Deserialize)]
struct InteractionUser {
    id: String,
    name: Option<String>,
    username: Option<String>,
    team_id: Option<String>,
}

#[derive(Deserialize, Default)]
struct MessageAddress {
    message_ts: Option<String>,
    channel_id: Option<String>,
    thread_ts: Option<String>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    action_id: String,
    value: Option<String>,
    action_ts: Option<String>,
}

/// The envelope of the Events API. Source: <https://api.slack.com/apis/events-api#callback-field>.
#[derive(Deserialize)]
struct EventCallback {
    team_id: Option<String>,
    event_id: String,
    event: serde_json::Value,
    #[serde(default)]
    authorizations: Vec<Authorization>,
}

#[derive(Deserialize)]
struct Authorization {
    user_id: Option<String>,
}

#[derive(Deserialize)]
struct AppMention {
    user: Option<String>,
    #[serde(default)]
    text: String,
    ts: String,
    thread_ts: Option<String>,
    channel: String,
    bot_id: Option<String>,
    team: Option<String>,
    user_team: Option<String>,
    edited: Option<serde_json::Value>,
}

/// Every button that [`super::render`] makes carries an `action_id` that begins so.
pub(super) const ACTION_PREFIX: &str = "cs:";

impl SlackParser {
    /// `workspaces` are team ids.
    pub fn new(workspaces: &[String]) -> Self {
        SlackParser { workspaces: workspaces.to_vec() }
    }

    /// The body of a slash command's request, or of Slack's `ssl_check`.
    pub fn command(&self, body: &str) -> Result<ParsedRequest, MalformedRequest> {
        match serde_urlencoded::from_str(body) {
            Ok(command) => Ok(self.slash_command(command)),
            Err(_) => field(body, "ssl_check").map(|_| ParsedRequest::Ignore),
        }
    }

    /// The body of an interaction's request: a form with one JSON field.
    pub fn interaction(&self, body: &str) -> Result<ParsedRequest, MalformedRequest> {
        self.interaction_json(&field(body, "payload")?)
    }

    /// The body of the Events API's request.
    pub fn event(&self, body: &str) -> Result<ParsedRequest, MalformedRequest> {
        match json(body)? {
            EventsRequest::UrlVerification { challenge } => Ok(ParsedRequest::Challenge(challenge)),
            EventsRequest::EventCallback(callback) => self.event_callback(callback),
            EventsRequest::Other => Ok(ParsedRequest::Ignore),
        }
    }

    /// A slash command as Socket Mode carries it.
    pub fn command_json(&self, payload: &str) -> Result<ParsedRequest, MalformedRequest> {
        Ok(self.slash_command(json(payload)?))
    }

    /// An interaction as Socket Mode carries it.
    pub fn interaction_json(&self, payload: &str) -> Result<ParsedRequest, MalformedRequest> {
        match json(payload)? {
            Interaction::BlockActions(click) => Ok(self.block_actions(*click)),
            Interaction::Other => Ok(ParsedRequest::Ignore),
        }
    }

    fn slash_command(&self, command: SlashCommand) -> ParsedRequest {
        if !self.workspaces.contains(&command.team_id) {
            return ParsedRequest::Foreign;
        }
        let name = Some(command.user_name);
        ParsedRequest::Deliver(Box::new(ChatEvent {
            delivery: format!("slack:cmd:{}", command.trigger_id),
            sender: ChatAccount::new(PlatformKind::Slack, &command.team_id, command.user_id, name),
            conversation: conversation(command.team_id, command.channel_id, None),
            handle: command.response_url.map(handle),
            event: ChatEventKind::Command { line: decode(&command.text) },
        }))
    }

    fn block_actions(&self, click: BlockActions) -> ParsedRequest {
        let team = click.team.map(|team| team.id).or_else(|| click.user.team_id.clone());
        let Some(team) = team.filter(|team| self.workspaces.contains(team)) else {
            return ParsedRequest::Foreign;
        };
        let is_ours =
            |action: &Action| action.kind == "button" && action.action_id.starts_with(ACTION_PREFIX);
        let Some(action) = click.actions.into_iter().find(is_ours) else { return ParsedRequest::Ignore };
        let container = click.container.unwrap_or_default();
        let channel = click.channel.map(|channel| channel.id).or(container.channel_id);
        let unique = click.trigger_id.or(action.action_ts);
        let (Some(token), Some(message), Some(channel), Some(unique)) =
            (action.value, container.message_ts, channel, unique)
        else {
            return ParsedRequest::Ignore;
        };
        // A message that starts a thread names itself: its answers belong in the channel, as it does.
        let thread = container.thread_ts.or_else(|| click.message.and_then(|message| message.thread_ts));
        let thread = thread.filter(|thread| *thread != message);
        // In a channel shared with another organisation the user's team is not the channel's; `account` judges it.
        let home = click.user.team_id.unwrap_or_else(|| team.clone());
        let name = click.user.name.or(click.user.username);
        ParsedRequest::Deliver(Box::new(ChatEvent {
            delivery: format!("slack:act:{unique}"),
            sender: ChatAccount::new(PlatformKind::Slack, &home, click.user.id, name),
            conversation: conversation(team, channel, thread),
            handle: click.response_url.map(handle),
            event: ChatEventKind::Button { token, message },
        }))
    }

    fn event_callback(&self, callback: EventCallback) -> Result<ParsedRequest, MalformedRequest> {
        if callback.event["type"] != "app_mention" {
            return Ok(ParsedRequest::Ignore);
        }
        let Some(team) = callback.team_id.filter(|team| self.workspaces.contains(team)) else {
            return Ok(ParsedRequest::Foreign);
        };
        let mention: AppMention = serde_json::from_value(callback.event).map_err(|_| MalformedRequest)?;
        // Bots don't command bots; and Slack reports a mention again when its message is edited.
        let (Some(user), None, None) = (mention.user, mention.bot_id, mention.edited) else {
            return Ok(ParsedRequest::Ignore);
        };
        let bot = callback.authorizations.into_iter().find_map(|authorization| authorization.user_id);
        let line = behind_mention(&mention.text, bot.as_deref());
        let home = mention.user_team.or(mention.team).unwrap_or_else(|| team.clone());
        Ok(ParsedRequest::Deliver(Box::new(ChatEvent {
            delivery: format!("slack:evt:{}", callback.event_id),
            sender: ChatAccount::new(PlatformKind::Slack, &home, user, None),
            conversation: conversation(team, mention.channel, Some(mention.thread_ts.unwrap_or(mention.ts))),
            handle: None,
            event: ChatEventKind::Command { line: decode(line) },
        })))
    }
}

fn field<'a>(form: &'a str, name: &str) -> Result<Cow<'a, str>, MalformedRequest> {
    let mut fields = url::form_urlencoded::parse(form.as_bytes());
    fields.find(|(field, _)| field == name).map(|(_, value)| value).ok_or(MalformedRequest)
}

fn json<T: DeserializeOwned>(body: &str) -> Result<T, MalformedRequest> {
    serde_json::from_str(body).map_err(|_| MalformedRequest)
}

fn conversation(workspace: String, id: String, thread: Option<String>) -> Conversation {
    Conversation { platform: PlatformKind::Slack, workspace, id, thread }
}

fn handle(url: String) -> ReplyHandle {
    ReplyHandle { id: url, received_at: jiff::Timestamp::now(), replaces_card: false }
}

/// The text behind the bot's mention, wherever that stands; behind the first mention if Slack doesn't say who the bot is.
fn behind_mention<'a>(text: &'a str, bot: Option<&str>) -> &'a str {
    let behind = text.match_indices("<@").find_map(|(start, opening)| {
        let (inner, tail) = text[start + opening.len()..].split_once('>')?;
        let id = inner.split('|').next();
        (bot.is_none() || bot == id).then_some(tail)
    });
    behind.unwrap_or(text).trim()
}

/// The text that a person typed, out of Slack's markup: `&lt;` is `<`, `<http://db.example|db.example>` is `db.example`,
/// `<@U1|ana>` is `@U1` (the id, since a name is not an identity).
/// Source: <https://api.slack.com/reference/surfaces/formatting#retrieving-messages>.
pub fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('<') {
        let Some((inner, after)) = tail.split_once('>') else { break };
        decoded.push_str(before);
        decoded.push_str(&entity(inner));
        rest = after;
    }
    decoded.push_str(rest);
    // The ampersand last, so that an escaped escape stays one.
    decoded.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The text for an entity, given without its angle brackets; still escaped.
fn entity(inner: &str) -> Cow<'_, str> {
    let (target, label) = inner.split_once('|').unwrap_or((inner, ""));
    let label = Some(label).filter(|label| !label.is_empty());
    let with_sigil =
        |sigil: char, name: &str| Cow::Owned(format!("{sigil}{}", name.trim_start_matches(sigil)));
    match target.chars().next() {
        Some('@') => Cow::Borrowed(target),
        Some('#') => with_sigil('#', label.unwrap_or(target)),
        Some('!') if target.starts_with("!date") => Cow::Borrowed(label.unwrap_or_default()),
        Some('!') => with_sigil('@', label.unwrap_or(&target[1..])),
        _ => Cow::Borrowed(label.unwrap_or_else(|| target.strip_prefix("mailto:").unwrap_or(target))),
    }
}
