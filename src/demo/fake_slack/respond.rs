//! Response URLs: 30 minutes, 5 messages, no token; the bot need not be in the channel.

use axum::body::Bytes;
use axum::extract::{Path, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::{ApiError, Args};
use super::state::State;
use super::{Workspace, chat};

/// A `response_url` takes so many messages.
const USES: usize = 5;
/// The method name in the log and for faults.
const METHOD: &str = "response";

pub(super) async fn respond(
    AxumState(workspace): AxumState<Workspace>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let Some(args) = parse(&body) else {
        let refused = workspace.perform(METHOD, json!(String::from_utf8_lossy(&body)), |_| {
            Err::<(), _>(ApiError { status: StatusCode::BAD_REQUEST, ..ApiError::from("invalid_payload") })
        });
        return refused.into_response();
    };
    let work = |state: &mut State| {
        state.limit_messages(&format!("{METHOD} {id}"))?;
        apply(state, &id, &args).map(|()| "ok").map_err(|error| {
            let is_of_url = error.error.ends_with("_url");
            let status = if is_of_url { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
            ApiError { status, ..error }
        })
    };
    workspace.serve(METHOD, args.0.clone(), work).await
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

fn apply(state: &mut State, id: &str, args: &Args) -> Result<(), ApiError> {
    let response = state.responses.get(id).ok_or("invalid_url")?;
    if response.is_expired() {
        return Err("expired_url".into());
    }
    if response.uses >= USES {
        return Err("used_url".into());
    }
    let (channel, user) = (response.channel.clone(), response.user.clone());
    let flag = |key: &str| args.0[key] == true;
    let original = response.message.clone().filter(|_| flag("replace_original") || flag("delete_original"));
    match original {
        Some(at) if flag("delete_original") => state.messages.retain(|message| message.at() != at),
        Some(at) if state.find(&at.channel, &at.ts).is_some() => {
            let content = chat::content(state, args, chat::POST_CHARS)?;
            if let Some(message) = state.find(&at.channel, &at.ts) {
                message.replace(content);
            }
        }
        _ => post(state, args, &channel, user)?,
    }
    if let Some(response) = state.responses.get_mut(id) {
        response.uses += 1;
    }
    Ok(())
}

fn post(state: &mut State, args: &Args, channel: &str, user: String) -> Result<(), ApiError> {
    let ephemeral_to = match args.text("response_type") {
        Some("in_channel") => None,
        None | Some("ephemeral") => Some(user),
        Some(_) => return Err("invalid_response_type".into()),
    };
    chat::post(state, args, channel, ephemeral_to)?;
    Ok(())
}

/// Posts the body of a slash command's acknowledgement, which is a message when there is one.
pub(super) fn post_acknowledgement(
    state: &mut State,
    body: &str,
    user: &str,
    channel: &str,
) -> Result<(), ApiError> {
    let args = match serde_json::from_str::<Value>(body) {
        Ok(value) if value.is_object() => Args(value),
        _ => Args(json!({"text": body})),
    };
    if args.text("text").is_none() && args.json("blocks").is_none() {
        return Ok(());
    }
    post(state, &args, channel, user.to_owned())
}
