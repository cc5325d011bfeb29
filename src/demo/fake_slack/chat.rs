//! The `chat.*` methods: posting, changing and deleting messages.

use serde_json::{Value, json};

use super::api::Args;
use super::blocks::Refusal;
use super::state::{State, draft};
use super::view::Message;

/// Longest `text` of a new message; Slack advises 4 000.
const POST_CHARS: usize = 40_000;
/// Longest `text` of a changed message.
const UPDATE_CHARS: usize = 4_000;

/// The id of the channel that the bot may post to: its own, or a conversation when given a user's id.
pub(super) fn target(state: &mut State, channel: &str) -> Result<String, Refusal> {
    if state.person(channel).is_some() {
        return Ok(state.im(channel));
    }
    let Some(room) = state.room(channel) else { return Err(Refusal::new("channel_not_found")) };
    match (room.channel.bot_in, room.channel.private) {
        (false, true) => Err(Refusal::new("channel_not_found")),
        _ if room.archived => Err(Refusal::new("is_archived")),
        (false, false) => Err(Refusal::new("not_in_channel")),
        (true, _) => Ok(room.channel.id.clone()),
    }
}

fn content(state: &mut State, args: &Args, text_max: usize) -> Result<(String, Value), Refusal> {
    if args.json("attachments").is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty())) {
        return Err(Refusal::new("invalid_attachments"));
    }
    let text = args.text("text").unwrap_or("").to_owned();
    let blocks = state.checked_content(&text, args.json("blocks"), text_max)?;
    Ok((text, blocks))
}

/// A thread is named by the message that began it, or by any reply to it.
pub(super) fn thread(state: &mut State, channel: &str, ts: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(ts) = ts else { return Ok(None) };
    match state.find(channel, ts) {
        None => Err(Refusal::new("thread_not_found")),
        Some(message) if message.ephemeral_to.is_some() => Err(Refusal::new("cannot_reply_to_message")),
        Some(message) => Ok(Some(message.thread_ts.clone().unwrap_or_else(|| message.ts.clone()))),
    }
}

/// The message object in answers and in interactions.
pub(super) fn message_json(state: &State, message: &Message) -> Value {
    let settings = &state.settings;
    let mut value = json!({
        "type": "message", "user": message.author, "bot_id": "B0DEMO001", "app_id": settings.app_id,
        "text": message.text, "ts": message.ts, "team": settings.team, "blocks": message.blocks,
    });
    if let Some(thread) = &message.thread_ts {
        value["thread_ts"] = json!(thread);
    }
    if message.edited > 0 {
        value["edited"] = json!({"user": message.author, "ts": message.ts});
    }
    value
}

pub(super) fn post_message(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    let channel = target(state, args.need("channel", "channel_not_found")?)?;
    let thread_ts = thread(state, &channel, args.text("thread_ts"))?;
    let (text, blocks) = content(state, args, POST_CHARS)?;
    let bot = state.settings.bot_user.clone();
    let message = state.post(Message { thread_ts, blocks, ..draft(&channel, &bot, text) });
    Ok(json!({"channel": channel, "ts": message.ts, "message": message_json(state, &message)}))
}

pub(super) fn post_ephemeral(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    let channel = target(state, args.need("channel", "channel_not_found")?)?;
    let user = args.need("user", "user_not_in_channel")?.to_owned();
    if !state.is_in(&user, &channel) {
        return Err(Refusal::new("user_not_in_channel"));
    }
    let thread_ts = thread(state, &channel, args.text("thread_ts"))?;
    let (text, blocks) = content(state, args, POST_CHARS)?;
    let bot = state.settings.bot_user.clone();
    let message = Message { thread_ts, blocks, ephemeral_to: Some(user), ..draft(&channel, &bot, text) };
    let message = state.post(message);
    Ok(json!({"message_ts": message.ts}))
}

/// The bot's own public message. Ephemeral ones cannot be found by the Web API.
fn own<'a>(state: &'a mut State, args: &Args, foreign: &str) -> Result<&'a mut Message, Refusal> {
    let channel = args.need("channel", "channel_not_found")?.to_owned();
    let Some(room) = state.room(&channel) else { return Err(Refusal::new("channel_not_found")) };
    if room.channel.private && !room.channel.bot_in {
        return Err(Refusal::new("channel_not_found"));
    }
    if room.archived {
        return Err(Refusal::new("is_archived"));
    }
    let bot = state.settings.bot_user.clone();
    let ts = args.need("ts", "message_not_found")?;
    match state.find(&channel, ts).filter(|message| message.ephemeral_to.is_none()) {
        None => Err(Refusal::new("message_not_found")),
        Some(message) if message.author != bot => Err(Refusal::new(foreign)),
        Some(message) => Ok(message),
    }
}

/// Replaces text and blocks together: what is left out is gone.
pub(super) fn update(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    own(state, args, "cant_update_message")?;
    let (text, blocks) = content(state, args, UPDATE_CHARS)?;
    let message = own(state, args, "cant_update_message")?;
    message.text = text;
    message.blocks = blocks;
    message.edited += 1;
    let message = message.clone();
    let shown = message_json(state, &message);
    Ok(json!({"channel": message.channel, "ts": message.ts, "text": message.text, "message": shown}))
}

pub(super) fn delete(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    let gone = own(state, args, "cant_delete_message")?.at();
    state.messages.retain(|message| message.at() != gone);
    Ok(json!({"channel": gone.channel, "ts": gone.ts}))
}
