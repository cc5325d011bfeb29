//! The content of Slack's requests: slash commands, clicks and events.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::state::{Room, State};
use super::view::{ButtonView, Message};
use super::{APP_ID, Account, BOT_USER, TEAM, chat};

/// A request before it is signed.
pub(super) struct Outgoing {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: String,
    /// The same for Socket Mode: the envelope's type, and its payload.
    pub kind: &'static str,
    pub payload: Value,
    pub trigger_id: String,
    /// Why the event is sent again.
    pub retry_reason: Option<&'static str>,
}

/// The verification token that Slack still sends; nobody may rely on it.
const TOKEN: &str = "demo-verification-token";
const DOMAIN: &str = "creatorbridge";

pub(super) fn event(payload: Value) -> Outgoing {
    Outgoing {
        path: "/slack/events",
        content_type: "application/json",
        body: payload.to_string(),
        kind: "events_api",
        trigger_id: payload["event_id"].as_str().unwrap_or_default().to_owned(),
        payload,
        retry_reason: None,
    }
}

fn form(path: &'static str, kind: &'static str, payload: Value, fields: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        path,
        content_type: "application/x-www-form-urlencoded",
        body: serde_urlencoded::to_string(fields).unwrap_or_default(),
        kind,
        trigger_id: payload["trigger_id"].as_str().unwrap_or_default().to_owned(),
        payload,
        retry_reason: None,
    }
}

fn channel_name(room: Option<&Room>) -> &str {
    match room {
        Some(room) if room.im_user.is_none() && room.channel.private => "privategroup",
        Some(room) => &room.channel.name,
        None => "",
    }
}

pub(super) fn slash(state: &mut State, user: &str, channel: &str, line: &str) -> Outgoing {
    let (command, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let trigger_id = state.new_trigger();
    let response_url = state.new_response(user, channel, None);
    let person = state.person(user);
    let user_name = person.map(Account::handle).unwrap_or_default();
    let fields = [
        ("token", TOKEN),
        ("team_id", person.map_or(TEAM, Account::team)),
        ("team_domain", DOMAIN),
        ("channel_id", channel),
        ("channel_name", channel_name(state.room(channel))),
        ("user_id", user),
        ("user_name", &user_name),
        ("command", command),
        ("text", text.trim()),
        ("api_app_id", APP_ID),
        ("is_enterprise_install", "false"),
        ("response_url", &response_url),
        ("trigger_id", &trigger_id),
    ];
    let payload = fields.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    form("/slack/commands", "slash_commands", Value::Object(payload), &fields)
}

pub(super) fn click(state: &mut State, user: &str, message: &Message, button: &ButtonView) -> Outgoing {
    let trigger_id = state.new_trigger();
    let response_url = state.new_response(user, &message.channel, Some(message.at()));
    let action_ts = state.next_ts();
    let person = state.person(user);
    let name = person.map(Account::handle).unwrap_or_default();
    let team = person.map_or(TEAM, Account::team);
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
    let ephemeral = message.ephemeral_to.is_some();
    let mut payload = json!({
        "type": "block_actions", "api_app_id": APP_ID, "token": TOKEN, "trigger_id": trigger_id,
        "user": {"id": user, "username": name, "name": name, "team_id": team},
        "team": {"id": team, "domain": DOMAIN}, "enterprise": null, "is_enterprise_install": false,
        "channel": {"id": message.channel, "name": channel_name(state.room(&message.channel))},
        "container": {
            "type": "message", "message_ts": message.ts, "channel_id": message.channel, "is_ephemeral": ephemeral,
        },
        "state": {"values": {}}, "response_url": response_url, "actions": [action],
    });
    if let Some(thread) = &message.thread_ts {
        payload["container"]["thread_ts"] = json!(thread);
    }
    if !ephemeral {
        payload["message"] = chat::message_json(message);
    }
    let json = payload.to_string();
    form("/slack/interactions", "interactive", payload, &[("payload", &json)])
}

pub(super) fn mention(state: &mut State, user: &str, message: &Message) -> Outgoing {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let team = state.person(user).map_or(TEAM, Account::team);
    let (number, message_id) = (state.next(), state.next_id());
    let mut event_body = json!({
        "type": "app_mention", "user": user, "text": message.text, "ts": message.ts, "team": team,
        "channel": message.channel, "event_ts": message.ts, "client_msg_id": message_id,
        "blocks": [{"type": "rich_text", "block_id": format!("r{number}"), "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": message.text}]},
        ]}],
    });
    if let Some(thread) = &message.thread_ts {
        event_body["thread_ts"] = json!(thread);
    }
    if team != TEAM {
        event_body["user_team"] = json!(team);
        event_body["source_team"] = json!(team);
    }
    event(json!({
        "token": TOKEN, "team_id": TEAM, "context_team_id": TEAM, "context_enterprise_id": null,
        "api_app_id": APP_ID, "event": event_body, "type": "event_callback",
        "event_id": format!("Ev{number:010}"), "event_time": now, "event_context": format!("4-demo-{number}"),
        "is_ext_shared_channel": state.room(&message.channel).is_some_and(|room| room.channel.shared_externally),
        "authorizations": [{
            "enterprise_id": null, "team_id": TEAM, "user_id": BOT_USER, "is_bot": true,
            "is_enterprise_install": false,
        }],
    }))
}
