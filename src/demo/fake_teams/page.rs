//! The view of Teams on the demo's page: the conversations that the bot sees, with its cards drawn by Microsoft's own renderer.

use std::collections::HashMap;

use axum::extract::{Query, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::ActivityAck;
use super::state::{ActivityRef, ConversationKind, TeamsMessage, TenantUser, UserRole};
use super::{Tenant, split};
use crate::demo::page::{script, style};

/// The text by which people mention the bot on the page.
const MENTION: &str = "@Countersign";

/// The routes of the view, below `/teams/` on the demo's page.
pub fn page_routes(tenant: Tenant) -> Router {
    Router::new()
        .route("/teams/view.js", get(script(include_str!("view.js"))))
        .route("/teams/markdown.js", get(script(include_str!("markdown.js"))))
        .route("/teams/host_config.js", get(script(include_str!("host_config.js"))))
        .route("/teams/view.css", get(style(include_str!("view.css"))))
        .route("/teams/adaptivecards.min.js", get(script(include_str!("adaptivecards.min.js"))))
        .route("/teams/page/changes", get(changes))
        .route("/teams/page/state", get(state))
        .route("/teams/page/say", post(say))
        .route("/teams/page/click", post(click))
        .route("/teams/page/search", post(search))
        .with_state(tenant)
}

/// Tells the page that something changed; it then asks for what its user sees.
async fn changes(tenant: AxumState<Tenant>) -> impl IntoResponse {
    tenant.inner.changes.events()
}

/// Everything that the page shows to one user, with the messages of one conversation.
async fn state(AxumState(tenant): AxumState<Tenant>, query: Query<HashMap<String, String>>) -> Json<Value> {
    let user = query.get("user").map(String::as_str).unwrap_or_default();
    let is_known = tenant.state().person(user).is_some();
    if is_known {
        tenant.personal(user);
    }
    let conversation = query.get("conversation").map(String::as_str).unwrap_or_default();
    let messages = tenant.visible_messages(user, conversation);
    let conversations: Vec<(String, ConversationKind)> = {
        let state = tenant.state();
        let of_user = state.conversations.iter().filter(|room| state.is_in(user, &room.id));
        of_user.map(|room| (room.id.clone(), room.kind)).collect()
    };
    let conversations = conversations.into_iter().map(|(id, kind)| {
        let messages = tenant.visible_messages(user, &id);
        json!({ "id": id, "name": conversation_name(&id), "kind": kind, "count": messages.len() })
    });
    let conversations: Vec<Value> = conversations.collect();
    let people: Vec<Value> = tenant.state().people.iter().map(person).collect();
    Json(json!({ "people": people, "conversations": conversations, "messages": messages }))
}

fn person(user: &TenantUser) -> Value {
    let is_bot = user.role == UserRole::Bot;
    json!({ "name": user.name, "role_label": user.role_label, "bot": is_bot, "deactivated": user.deactivated })
}

/// The name of a channel or a chat, from its id: `19:incident-42@thread.tacv2`.
fn conversation_name(id: &str) -> &str {
    let name = id.split_once(':').map_or(id, |(_, name)| name);
    name.split_once('@').map_or(name, |(name, _)| name)
}

#[derive(Deserialize)]
struct TypedForm {
    user: String,
    /// The conversation's id, with a thread if the message is a reply.
    conversation: String,
    text: String,
}

/// Delivers a typed message: to the bot if it is mentioned, if the message is a slash command, and in a personal chat.
async fn say(AxumState(tenant): AxumState<Tenant>, Json(typed): Json<TypedForm>) -> Response {
    let TypedForm { user, conversation, text } = typed;
    if !tenant.state().is_in(&user, split(&conversation).0) {
        return unknown(&format!("{user} is not in {conversation}"));
    }
    let is_personal = || {
        let state = tenant.state();
        state.conversation(&conversation).is_some_and(|room| room.kind == ConversationKind::Personal)
    };
    let ack = if let Some(line) = text.strip_prefix('/') {
        tenant.slash(&user, &conversation, line.strip_prefix("db ").unwrap_or(line)).await
    } else if let Some(line) = strip_mention(&text) {
        tenant.say(&user, &conversation, line).await
    } else if is_personal() {
        tenant.say(&user, &conversation, &text).await
    } else {
        return match tenant.say_without_mention(&user, &conversation, &text) {
            Ok(()) => Json(json!({ "ok": true })).into_response(),
            Err(error) => unknown(&error),
        };
    };
    answer(&ack)
}

/// The text behind a mention of the bot, in any case.
fn strip_mention(text: &str) -> Option<&str> {
    let mention = text.get(..MENTION.len()).filter(|start| start.eq_ignore_ascii_case(MENTION))?;
    Some(text[mention.len()..].trim_start())
}

/// A message on which a user acts.
#[derive(Deserialize)]
struct Target {
    user: String,
    conversation: String,
    message: String,
}

impl Target {
    /// The message as the user sees it now.
    fn shown(&self, tenant: &Tenant) -> Option<TeamsMessage> {
        let at = ActivityRef { conversation: self.conversation.clone(), id: self.message.clone() };
        tenant.visible_message(&self.user, &at)
    }
}

#[derive(Deserialize)]
struct ClickForm {
    #[serde(flatten)]
    target: Target,
    /// The action of the button, with the values of the card's inputs in its data.
    action: Value,
}

async fn click(AxumState(tenant): AxumState<Tenant>, Json(form): Json<ClickForm>) -> Response {
    match form.target.shown(&tenant) {
        Some(shown) => answer(&tenant.click(&form.target.user, &shown, &form.action).await),
        None => unknown("the message is no longer there"),
    }
}

#[derive(Deserialize)]
struct SearchForm {
    #[serde(flatten)]
    target: Target,
    /// The id of the input.
    input: String,
    text: String,
}

async fn search(AxumState(tenant): AxumState<Tenant>, Json(form): Json<SearchForm>) -> Response {
    let Some(shown) = form.target.shown(&tenant) else { return unknown("the form is no longer there") };
    match tenant.search_choices(&form.target.user, &shown, &form.input, &form.text).await {
        Ok(choices) => {
            let choice = |(value, title)| json!({ "value": value, "title": title });
            let choices: Vec<Value> = choices.into_iter().map(choice).collect();
            Json(json!({ "ok": true, "choices": choices })).into_response()
        }
        Err(error) => Json(json!({ "ok": false, "error": error })).into_response(),
    }
}

/// A refusal of a request about a user, a conversation or a message that doesn't exist.
fn unknown(error: &str) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "ok": false, "error": error }))).into_response()
}

/// The acknowledgement for the page, with the message that Teams shows beside the card, if the bot answered with one.
fn answer(ack: &ActivityAck) -> Response {
    let failed = || (!ack.ok()).then(|| format!("the app answered with HTTP {}", ack.status));
    let error = ack.problem.clone().or_else(failed);
    let notice = ack.body["value"].as_str().or(ack.body["value"]["message"].as_str());
    Json(json!({ "ok": error.is_none(), "error": error, "notice": notice })).into_response()
}
