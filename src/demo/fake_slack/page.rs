//! The page in the browser: the same conversation as the bot has it, for people to try.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::{Query, State as AxumState};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::deliver::Ack;
use super::view::MessageRef;
use super::{Kind, Workspace};

pub(super) fn routes() -> Router<Workspace> {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("page.html")) }))
        .route("/page.css", get(|| async { file("text/css; charset=utf-8", include_str!("page.css")) }))
        .route("/page.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("page.js")) }))
        .route(
            "/blocks.js",
            get(|| async { file("text/javascript; charset=utf-8", include_str!("blocks.js")) }),
        )
        .route("/page/changes", get(changes))
        .route("/page/state", get(shown))
        .route("/page/say", post(say))
        .route("/page/click", post(click))
        .route("/page/restart", post(restart))
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let policy = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    (headers, content).into_response()
}

/// Tells the page that something changed; it then asks for what its person sees.
async fn changes(
    AxumState(workspace): AxumState<Workspace>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = workspace.inner.changed.subscribe();
    let events = stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first {
            receiver.changed().await.ok()?;
        }
        let version = *receiver.borrow_and_update();
        Some((Ok(Event::default().data(version.to_string())), (receiver, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// Everything that the page shows to one person, with the messages of one channel.
async fn shown(
    AxumState(workspace): AxumState<Workspace>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let user = query.get("user").map(String::as_str).unwrap_or_default();
    let can_restart = workspace.restart_hook().is_some();
    let mut state = workspace.state();
    let ordinary = state.person(user).is_some_and(|person| matches!(person.kind, Kind::Member | Kind::Guest));
    if ordinary {
        state.im(user);
    }
    let rooms: Vec<_> = state.channels.iter().filter(|room| state.is_in(user, &room.channel.id)).collect();
    let channels: Vec<_> = rooms
        .iter()
        .map(|room| {
            let messages = state.visible(user, &room.channel.id);
            json!({
                "id": room.channel.id, "name": room.channel.name, "private": room.channel.private,
                "shared": room.channel.shared_externally, "im": room.im_user.is_some(), "archived": room.archived,
                "count": messages.len(), "latest": messages.last().map(|message| message.ts.clone()),
            })
        })
        .collect();
    let messages = query.get("channel").map(|channel| state.visible(user, channel)).unwrap_or_default();
    let settings = &state.settings;
    Json(json!({
        "team": settings.team_name, "bot": settings.bot_user, "command": settings.command,
        "people": state.people, "channels": channels, "messages": messages, "guide": settings.guide,
        "can_restart": can_restart, "suggestions": settings.suggestions,
    }))
}

#[derive(Deserialize)]
struct TypedForm {
    user: String,
    channel: String,
    text: String,
    thread: Option<String>,
}

async fn say(AxumState(workspace): AxumState<Workspace>, Json(said): Json<TypedForm>) -> Json<Value> {
    let mention = format!("<@{}>", workspace.settings().bot_user);
    let text = said.text.replace("@Countersign", &mention).replace("@countersign", &mention);
    let Some(thread) = said.thread.filter(|_| !said.text.starts_with('/')) else {
        return outcome(&workspace.says(&said.user, &said.channel, &text).await);
    };
    outcome(&workspace.mentions(&said.user, &said.channel, Some(&thread), &text).await)
}

#[derive(Deserialize)]
struct ClickForm {
    user: String,
    channel: String,
    ts: String,
    action: String,
}

async fn click(AxumState(workspace): AxumState<Workspace>, Json(clicked): Json<ClickForm>) -> Json<Value> {
    let at = MessageRef { channel: clicked.channel, ts: clicked.ts };
    outcome(&workspace.clicks(&clicked.user, &at, &clicked.action).await)
}

fn outcome(ack: &Ack) -> Json<Value> {
    let error = match &ack.problem {
        Some(problem) => Some(problem.clone()),
        None if !ack.ok() => Some(format!("the app answered with HTTP {}", ack.status)),
        None => None,
    };
    Json(json!({"ok": error.is_none(), "error": error, "ms": ack.elapsed.as_millis()}))
}

async fn restart(AxumState(workspace): AxumState<Workspace>, Json(_): Json<Value>) -> Response {
    let Some(hook) = workspace.restart_hook() else { return StatusCode::NOT_FOUND.into_response() };
    let outcome = match hook().await {
        Ok(text) => json!({"ok": true, "text": text}),
        Err(error) => json!({"ok": false, "error": error}),
    };
    Json(outcome).into_response()
}

impl Workspace {
    fn restart_hook(&self) -> Option<std::sync::Arc<super::Restart>> {
        self.inner.restart.lock().clone()
    }
}
