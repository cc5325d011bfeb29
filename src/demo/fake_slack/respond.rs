//! Response URLs: 30 minutes, 5 messages, no token; the bot need not be in the channel.

use axum::body::Bytes;
use axum::extract::{Path, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::{Args, answer, rate_limited};
use super::blocks::Refusal;
use super::state::{RESPONSE_USES, State, draft};
use super::view::Message;
use super::{Fault, Workspace, chat};

/// Longest `text` of a response.
const RESPONSE_CHARS: usize = 40_000;
/// The method name in the log and for faults.
const METHOD: &str = "response";

pub(super) async fn respond(
    AxumState(workspace): AxumState<Workspace>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let Some(args) = parse(&body) else {
        workspace.record(METHOD, json!(String::from_utf8_lossy(&body)), Err(Refusal::new("invalid_payload")));
        return (StatusCode::BAD_REQUEST, "invalid_payload").into_response();
    };
    let fault = workspace.state().fault_for(METHOD);
    if let Some(response) = workspace.early_fault(METHOD, args.0.clone(), fault.as_ref()).await {
        return response;
    }
    let limited = {
        let mut state = workspace.state();
        let burst = f64::from(state.settings.burst);
        if state.settings.rate_limits { state.take(format!("{METHOD} {id}"), burst, 1.0) } else { Ok(()) }
    };
    if let Err(seconds) = limited {
        workspace.record(METHOD, args.0, Err(Refusal::new("ratelimited")));
        return rate_limited(seconds);
    }
    let result = workspace.perform(METHOD, args.0.clone(), |state| apply(state, &id, &args));
    if fault == Some(Fault::AnswerLost) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    match result {
        Ok(()) => "ok".into_response(),
        Err(refusal) if refusal.error.ends_with("_url") => {
            (StatusCode::NOT_FOUND, answer(Err(refusal))).into_response()
        }
        Err(refusal) => (StatusCode::BAD_REQUEST, answer(Err(refusal))).into_response(),
    }
}

/// JSON, or a form with a `payload` field.
fn parse(body: &[u8]) -> Option<Args> {
    let from_form = || {
        let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(body).ok()?;
        let payload = fields.into_iter().find(|(key, _)| key == "payload")?.1;
        serde_json::from_str(&payload).ok()
    };
    serde_json::from_slice(body).ok().or_else(from_form).filter(Value::is_object).map(Args)
}

fn apply(state: &mut State, id: &str, args: &Args) -> Result<(), Refusal> {
    let Some(response) = state.responses.get(id) else { return Err(Refusal::new("invalid_url")) };
    if response.is_expired() {
        return Err(Refusal::new("expired_url"));
    }
    if response.uses >= RESPONSE_USES {
        return Err(Refusal::new("used_url"));
    }
    let (channel, user, message) =
        (response.channel.clone(), response.user.clone(), response.message.clone());
    let flag = |key: &str| args.0.get(key) == Some(&json!(true));
    let original = message.filter(|_| flag("replace_original") || flag("delete_original"));
    if let (Some(at), true) = (&original, flag("delete_original")) {
        state.messages.retain(|message| message.at() != *at);
    } else {
        let text = args.text("text").unwrap_or("").to_owned();
        let blocks = state.checked_content(&text, args.json("blocks"), RESPONSE_CHARS)?;
        let existing = original.as_ref().and_then(|at| state.find(&at.channel, &at.ts));
        if let Some(message) = existing {
            message.text = text;
            message.blocks = blocks;
            message.edited += 1;
        } else {
            show(state, (&channel, &user), args, (text, blocks))?;
        }
    }
    if let Some(response) = state.responses.get_mut(id) {
        response.uses += 1;
    }
    Ok(())
}

fn show(
    state: &mut State,
    (channel, user): (&str, &str),
    args: &Args,
    (text, blocks): (String, Value),
) -> Result<(), Refusal> {
    let thread_ts = chat::thread(state, channel, args.text("thread_ts"))?;
    let ephemeral_to = match args.text("response_type") {
        Some("in_channel") => None,
        None | Some("ephemeral") => Some(user.to_owned()),
        Some(_) => return Err(Refusal::new("invalid_response_type")),
    };
    let bot = state.settings.bot_user.clone();
    state.post(Message { thread_ts, blocks, ephemeral_to, ..draft(channel, &bot, text) });
    Ok(())
}

impl State {
    /// Shows the body of a slash command's acknowledgement, which is a message when there is one.
    pub(super) fn show_acknowledgement(
        &mut self,
        body: &str,
        user: &str,
        channel: &str,
    ) -> Result<(), Refusal> {
        let args = match serde_json::from_str::<Value>(body) {
            Ok(value) if value.is_object() => Args(value),
            _ => Args(json!({"text": body})),
        };
        let empty = args.text("text").is_none() && args.json("blocks").is_none();
        if body.trim().is_empty() || empty {
            return Ok(());
        }
        let text = args.text("text").unwrap_or("").to_owned();
        let blocks = self.checked_content(&text, args.json("blocks"), RESPONSE_CHARS)?;
        show(self, (channel, user), &args, (text, blocks))
    }
}
