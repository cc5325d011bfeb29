//! The page in the browser: the conversation that the bot sees, for people to try.

use std::collections::HashMap;

use axum::extract::{Query, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::deliver::Ack;
use super::view::MessageRef;
use super::{BOT_USER, Kind, TEAM_NAME, Workspace, modals, scopes};
use crate::demo::page::{html, script, style};

pub(super) fn routes() -> Router<Workspace> {
    Router::new()
        .route("/", get(html(include_str!("page.html"))))
        .route("/page.css", get(style(include_str!("page.css"))))
        .route("/page.js", get(script(include_str!("page.js"))))
        .route("/blocks.js", get(script(include_str!("blocks.js"))))
        .route("/completion.js", get(script(include_str!("completion.js"))))
        .route("/modal.js", get(script(include_str!("modal.js"))))
        .route("/modal.css", get(style(include_str!("modal.css"))))
        .route("/page/changes", get(changes))
        .route("/page/state", get(state))
        .route("/page/commands", get(commands))
        .route("/page/say", post(say))
        .route("/page/click", post(click))
        .route("/page/shortcut", post(use_shortcut))
        .route("/page/home", post(open_home))
        .route("/page/home/click", post(click_home))
        .route("/page/restart", post(restart))
        .merge(modals::page_routes())
}

/// Tells the page that something changed; it then asks for what its person sees.
async fn changes(workspace: AxumState<Workspace>) -> impl IntoResponse {
    workspace.inner.changes.events()
}

/// Everything that the page shows to one person, with the messages of one channel.
async fn state(workspace: AxumState<Workspace>, query: Query<HashMap<String, String>>) -> Json<Value> {
    let user = query.get("user").map(String::as_str).unwrap_or_default();
    let mut state = workspace.state();
    let has_dm = state.person(user).is_some_and(|person| matches!(person.kind, Kind::Member | Kind::Guest));
    if has_dm {
        state.dm_channel(user);
    }
    let mut channels = Vec::new();
    for room in state.channels.iter().filter(|room| state.is_in(user, &room.channel.id)) {
        let messages = state.visible_messages(user, &room.channel.id);
        channels.push(json!({
            "id": room.channel.id, "name": room.channel.name, "private": room.channel.private,
            "shared": room.channel.shared_externally, "im": room.im_user.is_some(), "archived": room.archived,
            "count": messages.len(), "latest": messages.last().map(|message| message.ts.clone()),
        }));
    }
    if has_dm {
        channels.push(json!({"id": "home", "name": "Home", "home": true, "im": true, "count": 0}));
    }
    let messages =
        query.get("channel").map(|channel| state.visible_messages(user, channel)).unwrap_or_default();
    let shortcuts = scopes::message_shortcuts().into_iter().map(|(name, id)| json!({"name": name, "id": id}));
    let shortcuts: Vec<Value> = shortcuts.collect();
    Json(json!({
        "team": TEAM_NAME, "bot": BOT_USER, "command": "/db", "people": state.people, "channels": channels,
        "messages": messages, "modal": state.modal(user), "guide": state.settings.guide, "can_restart": state.restart.is_some(), "teams": state.settings.teams_view.is_some(),
        "shortcuts": shortcuts, "situation": state.situation, "home": state.home(user).map(|home| home.blocks),
    }))
}

/// The commands that the page completes.
async fn commands(workspace: AxumState<Workspace>) -> Json<Value> {
    Json(json!(workspace.state().commands))
}

#[derive(Deserialize)]
struct TypedForm {
    user: String,
    channel: String,
    text: String,
    thread: Option<String>,
}

async fn say(AxumState(workspace): AxumState<Workspace>, Json(typed): Json<TypedForm>) -> Json<Value> {
    let mention = format!("<@{BOT_USER}>");
    let text = typed.text.replace("@Countersign", &mention).replace("@countersign", &mention);
    let ack = match typed.thread.filter(|_| !typed.text.starts_with('/')) {
        Some(thread) => workspace.mention_bot(&typed.user, &typed.channel, Some(&thread), &text).await,
        None => workspace.say(&typed.user, &typed.channel, &text).await,
    };
    ack_json(&ack)
}

#[derive(Deserialize)]
struct ClickForm {
    user: String,
    channel: String,
    ts: String,
    action: String,
}

async fn click(AxumState(workspace): AxumState<Workspace>, Json(click): Json<ClickForm>) -> Json<Value> {
    let at = MessageRef { channel: click.channel, ts: click.ts };
    ack_json(&workspace.click_button(&click.user, &at, &click.action).await)
}

/// The shortcut's callback id is the action.
async fn use_shortcut(
    AxumState(workspace): AxumState<Workspace>,
    Json(click): Json<ClickForm>,
) -> Json<Value> {
    let at = MessageRef { channel: click.channel, ts: click.ts };
    ack_json(&workspace.use_shortcut(&click.user, &at, &click.action).await)
}

#[derive(Deserialize)]
struct HomeForm {
    user: String,
    /// The button to click.
    action: Option<String>,
}

async fn open_home(AxumState(workspace): AxumState<Workspace>, Json(form): Json<HomeForm>) -> Json<Value> {
    ack_json(&workspace.open_home(&form.user).await)
}

async fn click_home(AxumState(workspace): AxumState<Workspace>, Json(form): Json<HomeForm>) -> Json<Value> {
    ack_json(&workspace.click_home(&form.user, &form.action.unwrap_or_default()).await)
}

pub(super) fn ack_json(ack: &Ack) -> Json<Value> {
    let failed = || (!ack.ok()).then(|| format!("the app answered with HTTP {}", ack.status));
    let error = ack.problem.clone().or_else(failed);
    Json(json!({"ok": error.is_none(), "error": error, "ms": ack.elapsed.as_millis()}))
}

async fn restart(AxumState(workspace): AxumState<Workspace>, Json(_): Json<Value>) -> Response {
    let hook = workspace.state().restart.clone();
    let Some(hook) = hook else { return StatusCode::NOT_FOUND.into_response() };
    match hook().await {
        Ok(text) => Json(json!({"ok": true, "text": text})).into_response(),
        Err(error) => Json(json!({"ok": false, "error": error})).into_response(),
    }
}
