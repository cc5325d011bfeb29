//! What Slack puts into its requests: slash commands, clicks and events.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::state::{Room, State};
use super::view::{ButtonView, Message};
use super::{accounts, chat};

/// A request before it is signed.
pub(super) struct Outgoing {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: String,
    /// The same for Socket Mode: the envelope's type, and what it carries.
    pub kind: &'static str,
    pub payload: Value,
    pub trigger_id: String,
    pub retry: Option<String>,
}

/// The verification token that Slack still sends; nobody may rely on it.
const TOKEN: &str = "demo-verification-token";
const DOMAIN: &str = "creatorbridge";
/// How commands and interactions are encoded.
const FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn event(payload: Value, id: String) -> Outgoing {
    Outgoing {
        path: "/slack/events",
        content_type: "application/json",
        body: payload.to_string(),
        kind: "events_api",
        payload,
        trigger_id: id,
        retry: None,
    }
}

/// The name of a channel in commands and interactions.
fn channel_name(room: Option<&Room>) -> String {
    match room {
        Some(room) if room.im_user.is_none() && room.channel.private => "privategroup".into(),
        Some(room) => room.channel.name.clone(),
        None => String::new(),
    }
}

pub(super) fn slash(state: &mut State, user: &str, channel: &str, line: &str, base: &str) -> Outgoing {
    let (command, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let trigger_id = state.new_trigger();
    let response = state.new_response(user, channel, None);
    let user_name = state.person(user).map(accounts::handle).unwrap_or_default();
    let fields = [
        ("token", TOKEN.to_owned()),
        ("team_id", accounts::team_of(state, user)),
        ("team_domain", DOMAIN.to_owned()),
        ("channel_id", channel.to_owned()),
        ("channel_name", channel_name(state.room(channel))),
        ("user_id", user.to_owned()),
        ("user_name", user_name),
        ("command", command.to_owned()),
        ("text", text.trim().to_owned()),
        ("api_app_id", state.settings.app_id.clone()),
        ("is_enterprise_install", "false".to_owned()),
        ("response_url", format!("{base}/response/{response}")),
        ("trigger_id", trigger_id.clone()),
    ];
    let body = serde_urlencoded::to_string(&fields).unwrap_or_default();
    let payload = fields.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    Outgoing {
        path: "/slack/commands",
        content_type: FORM,
        body,
        kind: "slash_commands",
        payload: Value::Object(payload),
        trigger_id,
        retry: None,
    }
}

/// A `block_actions` interaction.
pub(super) fn click(
    state: &mut State,
    (user, shown, button): (&str, &Message, &ButtonView),
    base: &str,
) -> Outgoing {
    let trigger_id = state.new_trigger();
    let response = state.new_response(user, &shown.channel, Some(shown.at()));
    let action_ts = state.next_ts();
    let person = state.person(user).map(accounts::handle).unwrap_or_default();
    let team = accounts::team_of(state, user);
    let mut action = json!({
        "type": "button", "action_id": button.action_id, "block_id": button.block_id, "action_ts": action_ts,
        "text": {"type": "plain_text", "text": button.label, "emoji": true},
    });
    if let Some(value) = &button.value {
        action["value"] = json!(value);
    }
    if let Some(style) = &button.style {
        action["style"] = json!(style);
    }
    let ephemeral = shown.ephemeral_to.is_some();
    let mut payload = json!({
        "type": "block_actions", "api_app_id": state.settings.app_id, "token": TOKEN, "trigger_id": trigger_id,
        "user": {"id": user, "username": person, "name": person, "team_id": team},
        "team": {"id": team, "domain": DOMAIN}, "enterprise": null, "is_enterprise_install": false,
        "channel": {"id": shown.channel, "name": channel_name(state.room(&shown.channel))},
        "container": {
            "type": "message", "message_ts": shown.ts, "channel_id": shown.channel, "is_ephemeral": ephemeral,
        },
        "state": {"values": {}}, "response_url": format!("{base}/response/{response}"), "actions": [action],
    });
    if let Some(thread) = &shown.thread_ts {
        payload["container"]["thread_ts"] = json!(thread);
    }
    if !ephemeral {
        payload["message"] = chat::message_json(state, shown);
    }
    Outgoing {
        path: "/slack/interactions",
        content_type: FORM,
        body: serde_urlencoded::to_string([("payload", payload.to_string())]).unwrap_or_default(),
        kind: "interactive",
        payload,
        trigger_id,
        retry: None,
    }
}

/// The event that somebody mentioned the bot.
pub(super) fn mention(state: &mut State, user: &str, message: &Message) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (team, number) = (accounts::team_of(state, user), state.next());
    let settings = &state.settings;
    let mut event = json!({
        "type": "app_mention", "user": user, "text": message.text, "ts": message.ts, "team": team,
        "channel": message.channel, "event_ts": message.ts,
        "client_msg_id": format!("{:032x}", super::state::scramble(number)),
        "blocks": [{"type": "rich_text", "block_id": format!("r{number}"), "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": message.text}]},
        ]}],
    });
    if let Some(thread) = &message.thread_ts {
        event["thread_ts"] = json!(thread);
    }
    if team != settings.team {
        event["user_team"] = json!(team);
        event["source_team"] = json!(team);
    }
    json!({
        "token": TOKEN, "team_id": settings.team, "context_team_id": settings.team, "context_enterprise_id": null,
        "api_app_id": settings.app_id, "event": event, "type": "event_callback",
        "event_id": format!("Ev{number:010}"), "event_time": now, "event_context": format!("4-demo-{number}"),
        "is_ext_shared_channel": state.room(&message.channel).is_some_and(|room| room.channel.shared_externally),
        "authorizations": [{
            "enterprise_id": null, "team_id": settings.team, "user_id": settings.bot_user, "is_bot": true,
            "is_enterprise_install": false,
        }],
    })
}
