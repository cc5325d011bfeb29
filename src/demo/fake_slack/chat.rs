//! Posting, changing and deleting messages: the `chat.*` methods, and response URLs, which live 30 minutes and take 5 messages,
//! without a token, also where the bot is no member.

use std::collections::HashMap;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Path, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::{ApiError, Args};
use super::state::State;
use super::view::Message;
use super::{APP_ID, BOT_USER, TEAM, Workspace, blocks};

/// Longest `text` of a new message; Slack advises 4 000.
const POST_CHARS: usize = 40_000;
/// Longest `text` of a changed message.
const UPDATE_CHARS: usize = 4_000;
/// Messages that a response URL takes.
const RESPONSE_USES: usize = 5;
/// The method name of response URLs, in the log and for faults.
const RESPONSE: &str = "response";

/// The id of the channel that the bot may post to: its own, or a conversation when given a user's id.
pub(super) fn target(state: &mut State, channel: &str) -> Result<String, ApiError> {
    if state.person(channel).is_some() {
        return Ok(state.dm_channel(channel));
    }
    let room = state.room(channel).ok_or("channel_not_found")?;
    match (room.channel.is_bot_member, room.channel.private) {
        (false, true) => Err("channel_not_found".into()),
        _ if room.archived => Err("is_archived".into()),
        (false, false) => Err("not_in_channel".into()),
        (true, _) => Ok(room.channel.id.clone()),
    }
}

/// Text and blocks, checked as every way of posting does, and the ids of the blocks filled in.
fn content(state: &mut State, args: &Args, text_max: usize) -> Result<(String, Vec<Value>), ApiError> {
    if args.json("attachments").is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty())) {
        return Err("invalid_attachments".into());
    }
    let text = args.text("text").unwrap_or("");
    let blocks = args.json("blocks").unwrap_or_else(|| json!([]));
    blocks::check(&blocks)?;
    let mut blocks: Vec<Value> = serde_json::from_value(blocks).unwrap_or_default();
    if text.is_empty() && blocks.is_empty() {
        return Err("no_text".into());
    }
    if text.chars().count() > text_max {
        return Err("msg_too_long".into());
    }
    blocks.iter_mut().for_each(|block| fill_ids(state, block, true));
    Ok((text.to_owned(), blocks))
}

pub(super) fn fill_ids(state: &mut State, value: &mut Value, is_block: bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill_ids(state, item, false)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| fill_ids(state, field, false));
            let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
            let interactive = matches!(kind, "button" | "static_select" | "overflow");
            if is_block && !fields.contains_key("block_id") {
                fields.insert("block_id".into(), json!(format!("b{}", state.next_number())));
            }
            if interactive && !fields.contains_key("action_id") {
                fields.insert("action_id".into(), json!(format!("a{}", state.next_number())));
            }
        }
        _ => {}
    }
}

/// The thread's first message, given that one or any reply to it.
pub(super) fn thread(state: &mut State, channel: &str, ts: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(ts) = ts else { return Ok(None) };
    let message = state.find(channel, ts).ok_or("thread_not_found")?;
    if message.ephemeral_to.is_some() {
        return Err("cannot_reply_to_message".into());
    }
    Ok(Some(message.thread_ts.clone().unwrap_or_else(|| message.ts.clone())))
}

pub(super) fn message_json(message: &Message) -> Value {
    let mut value = json!({
        "type": "message", "user": message.author, "bot_id": "B0DEMO001", "app_id": APP_ID, "text": message.text,
        "ts": message.ts, "team": TEAM, "blocks": message.blocks,
    });
    message.thread_ts.iter().for_each(|thread| value["thread_ts"] = json!(thread));
    if message.edited > 0 {
        value["edited"] = json!({"user": message.author, "ts": message.ts});
    }
    value
}

fn post(state: &mut State, args: &Args, channel: &str, only_to: Option<&str>) -> Result<Message, ApiError> {
    let thread_ts = thread(state, channel, args.text("thread_ts"))?;
    let (text, blocks) = content(state, args, POST_CHARS)?;
    let (draft, ephemeral_to) = (Message::new(channel, BOT_USER, text), only_to.map(str::to_owned));
    Ok(state.post(Message { thread_ts, blocks, ephemeral_to, ..draft }))
}

pub(super) fn post_message(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let channel = target(state, args.need("channel", "channel_not_found")?)?;
    let message = post(state, args, &channel, None)?;
    Ok(json!({"channel": channel, "ts": message.ts, "message": message_json(&message)}))
}

pub(super) fn post_ephemeral(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let channel = target(state, args.need("channel", "channel_not_found")?)?;
    let user = args.need("user", "user_not_in_channel")?;
    if !state.is_in(user, &channel) {
        return Err("user_not_in_channel".into());
    }
    let message = post(state, args, &channel, Some(user))?;
    Ok(json!({"message_ts": message.ts}))
}

/// The bot's own public message. Ephemeral ones cannot be found by the Web API.
fn own<'a>(state: &'a mut State, args: &Args, foreign: &str) -> Result<&'a mut Message, ApiError> {
    let channel = args.need("channel", "channel_not_found")?;
    let room = state.room(channel).ok_or("channel_not_found")?;
    if room.channel.private && !room.channel.is_bot_member {
        return Err("channel_not_found".into());
    }
    if room.archived {
        return Err("is_archived".into());
    }
    let ts = args.need("ts", "message_not_found")?;
    match state.find(channel, ts).filter(|message| message.ephemeral_to.is_none()) {
        None => Err("message_not_found".into()),
        Some(message) if message.author != BOT_USER => Err(foreign.into()),
        Some(message) => Ok(message),
    }
}

/// Replaces text and blocks together: what is left out is gone.
pub(super) fn update(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let at = own(state, args, "cant_update_message")?.at();
    let content = content(state, args, UPDATE_CHARS)?;
    let message = state.replace(&at, content).ok_or("message_not_found")?;
    let json = message_json(&message);
    Ok(json!({"channel": message.channel, "ts": message.ts, "text": message.text, "message": json}))
}

pub(super) fn delete(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let deleted = own(state, args, "cant_delete_message")?.at();
    state.messages.retain(|message| message.at() != deleted);
    Ok(json!({"channel": deleted.channel, "ts": deleted.ts}))
}

pub(super) async fn respond(
    workspace: AxumState<Workspace>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let Some(args) = response_args(&body) else {
        let logged = json!(String::from_utf8_lossy(&body));
        let _ = workspace.perform(RESPONSE, logged, |_| Err::<(), _>("invalid_payload".into()));
        return (StatusCode::BAD_REQUEST, "invalid_payload").into_response();
    };
    let work = |state: &mut State| {
        state.limit_messages(&format!("{RESPONSE} {id}"))?;
        use_response_url(state, &id, &args).map(|()| "ok").map_err(|error| {
            let of_url = error.error.ends_with("_url");
            ApiError { status: if of_url { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST }, ..error }
        })
    };
    workspace.serve(RESPONSE, args.0.clone(), work).await
}

/// JSON, or a form with a `payload` field.
fn response_args(body: &[u8]) -> Option<Args> {
    let from_form = || {
        let fields: HashMap<String, String> = serde_urlencoded::from_bytes(body).ok()?;
        serde_json::from_str(fields.get("payload")?).ok()
    };
    serde_json::from_slice(body).ok().or_else(from_form).filter(Value::is_object).map(Args)
}

fn use_response_url(state: &mut State, id: &str, args: &Args) -> Result<(), ApiError> {
    let response = state.responses.get(id).ok_or("invalid_url")?;
    if response.expires <= Instant::now() {
        return Err("expired_url".into());
    }
    if response.uses >= RESPONSE_USES {
        return Err("used_url".into());
    }
    let (channel, user) = (response.channel.clone(), response.user.clone());
    let flag = |key: &str| args.0[key] == true;
    let original = response.message.clone().filter(|_| flag("replace_original") || flag("delete_original"));
    match original {
        Some(at) if flag("delete_original") => state.messages.retain(|message| message.at() != at),
        Some(at) if state.find(&at.channel, &at.ts).is_some() => {
            let content = content(state, args, POST_CHARS)?;
            state.replace(&at, content);
        }
        _ => post_response(state, args, &channel, &user)?,
    }
    state.responses.entry(id.to_owned()).and_modify(|response| response.uses += 1);
    Ok(())
}

fn post_response(state: &mut State, args: &Args, channel: &str, user: &str) -> Result<(), ApiError> {
    let only_to = match args.text("response_type") {
        Some("in_channel") => None,
        None | Some("ephemeral") => Some(user),
        Some(_) => return Err("invalid_response_type".into()),
    };
    post(state, args, channel, only_to).map(drop)
}

/// Posts the body of a slash command's acknowledgement, which is a message when there is one.
pub(super) fn acknowledge(state: &mut State, args: &Args, user: &str, channel: &str) -> Result<(), ApiError> {
    if args.text("text").is_none() && args.json("blocks").is_none() {
        return Ok(());
    }
    post_response(state, args, channel, user)
}
