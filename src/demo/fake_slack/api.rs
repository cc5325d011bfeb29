//! The door of the Web API: arguments, token, rate limits, faults and the log. What methods do is elsewhere.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as AxumState};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use serde_json::{Map, Value, json};

use super::blocks::Refusal;
use super::state::State;
use super::{Fault, Payload, Workspace, accounts, chat, files, respond};

/// Largest body taken, in bytes: files are uploaded whole.
const BODY_LIMIT: usize = 64 << 20;

pub(super) fn routes() -> Router<Workspace> {
    Router::new()
        .route("/api/{method}", any(call))
        .route("/upload/{id}", post(files::upload))
        .route("/files/{id}/{name}", axum::routing::get(files::download))
        .route("/response/{id}", post(respond::respond))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// The arguments of a call, whatever way they came in.
pub(super) struct Args(pub Value);

impl Args {
    /// A string argument; empty strings count as absent, as in Slack.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn need(&self, key: &str, error: &str) -> Result<&str, Refusal> {
        self.text(key).ok_or_else(|| Refusal::new(error))
    }

    /// A JSON argument, which forms and some clients send as a string.
    pub(super) fn json(&self, key: &str) -> Option<Value> {
        match self.0.get(key)? {
            Value::Null => None,
            Value::String(text) => Some(serde_json::from_str(text).unwrap_or_else(|_| json!(text))),
            other => Some(other.clone()),
        }
    }

    fn parse(query: &str, content_type: &str, body: &[u8]) -> Option<Args> {
        let mut fields = form(query.as_bytes())?;
        if content_type.starts_with("application/json") {
            if !body.is_empty() {
                fields.extend(serde_json::from_slice::<Map<String, Value>>(body).ok()?);
            }
        } else if content_type.starts_with("application/x-www-form-urlencoded") {
            fields.extend(form(body)?);
        }
        Some(Args(Value::Object(fields)))
    }

    /// The same with JSON in form fields parsed, for the log.
    fn logged(&self) -> Value {
        let mut logged = self.0.clone();
        for key in ["blocks", "attachments", "files", "view", "metadata"] {
            if let Some(value) = self.json(key) {
                logged[key] = value;
            }
        }
        if let Some(fields) = logged.as_object_mut() {
            fields.remove("token");
        }
        logged
    }
}

fn form(bytes: &[u8]) -> Option<Map<String, Value>> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(bytes).ok()?;
    Some(pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect())
}

/// The JSON answer to a call.
pub(super) fn answer(result: Result<Value, Refusal>) -> Response {
    let body = match result {
        Ok(Value::Object(mut fields)) => {
            fields.insert("ok".into(), json!(true));
            Value::Object(fields)
        }
        Ok(other) => other,
        Err(refusal) => {
            let marked: Vec<_> =
                refusal.messages.iter().map(|message| format!("[ERROR] {message}")).collect();
            let mut body = json!({"ok": false, "error": refusal.error});
            if !marked.is_empty() {
                body["errors"] = json!(refusal.messages);
                body["response_metadata"] = json!({"messages": marked});
            }
            body
        }
    };
    axum::Json(body).into_response()
}

pub(super) fn rate_limited(seconds: u64) -> Response {
    let body = axum::Json(json!({"ok": false, "error": "ratelimited"}));
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], body).into_response()
}

async fn call(
    AxumState(workspace): AxumState<Workspace>,
    Path(method): Path<String>,
    (verb, uri, headers): (Method, Uri, HeaderMap),
    body: Bytes,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let parsed = Args::parse(uri.query().unwrap_or(""), content_type, &body);
    let Some(args) = parsed else {
        let error =
            if content_type.starts_with("application/json") { "invalid_json" } else { "invalid_form_data" };
        return workspace.record(&method, json!(String::from_utf8_lossy(&body)), Err(Refusal::new(error)));
    };
    let ignores_json = verb == Method::POST && content_type.starts_with("application/json") && reads(&method);
    let fault = workspace.state().fault_for(&method);
    if let Some(response) = workspace.early_fault(&method, args.logged(), fault.as_ref()).await {
        return response;
    }
    let allowed = authorised(&workspace.state(), &method, &headers, &args);
    if let Err(error) = allowed {
        return workspace.record(&method, args.logged(), Err(Refusal::new(error)));
    }
    if ignores_json {
        return workspace.record(&method, args.logged(), Err(Refusal::new("invalid_arguments")));
    }
    let limited = limit(&mut workspace.state(), &method, &args);
    if let Err(seconds) = limited {
        workspace.record(&method, args.logged(), Err(Refusal::new("ratelimited")));
        return rate_limited(seconds);
    }
    let base = workspace.base_url();
    let response = match method.as_str() {
        "apps.connections.open" => {
            let url = workspace.socket_url();
            workspace.record(&method, args.logged(), Ok(json!({"url": url})))
        }
        _ => answer(workspace.perform(&method, args.logged(), |state| {
            dispatch(state, &method, &args).map(|value| complete_urls(value, &base))
        })),
    };
    if fault == Some(Fault::AnswerLost) { StatusCode::BAD_GATEWAY.into_response() } else { response }
}

/// Methods that only read take their arguments as a form or a query, never as JSON.
fn reads(method: &str) -> bool {
    matches!(
        method,
        "users.info"
            | "users.list"
            | "conversations.info"
            | "conversations.members"
            | "usergroups.users.list"
    )
}

/// Method functions do not know the address they are served at.
fn complete_urls(mut value: Value, base: &str) -> Value {
    if let Some(path) = value.get("upload_url").and_then(Value::as_str) {
        value["upload_url"] = json!(format!("{base}{path}"));
    }
    value
}

fn authorised(state: &State, method: &str, headers: &HeaderMap, args: &Args) -> Result<(), &'static str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).or_else(|| args.text("token"));
    let settings = &state.settings;
    let (expected, other) = match method {
        "apps.connections.open" => (&settings.app_token, &settings.bot_token),
        _ => (&settings.bot_token, &settings.app_token),
    };
    match token {
        None => Err("not_authed"),
        Some(token) if token == expected => Ok(()),
        Some(token) if token == other => Err("not_allowed_token_type"),
        Some(_) => Err("invalid_auth"),
    }
}

/// Slack's tiers, as calls per minute for each method; messages count for each channel instead.
fn limit(state: &mut State, method: &str, args: &Args) -> Result<(), u64> {
    if !state.settings.rate_limits {
        return Ok(());
    }
    if method == "chat.postMessage" {
        let burst = f64::from(state.settings.burst);
        return state.take(format!("{method} {}", args.text("channel").unwrap_or("")), burst, 1.0);
    }
    let per_minute = match method {
        "auth.test" => 600.0,
        "apps.connections.open" => 10.0,
        "usergroups.users.list" | "users.list" => 20.0,
        "chat.update" | "chat.delete" | "conversations.info" | "conversations.open" => 50.0,
        _ => 100.0,
    };
    let burst = state.settings.tier_burst.map_or(per_minute, f64::from);
    state.take(method.to_owned(), burst, per_minute / 60.0)
}

fn dispatch(state: &mut State, method: &str, args: &Args) -> Result<Value, Refusal> {
    match method {
        "auth.test" => Ok(accounts::auth_test(state)),
        "chat.postMessage" => chat::post_message(state, args),
        "chat.postEphemeral" => chat::post_ephemeral(state, args),
        "chat.update" => chat::update(state, args),
        "chat.delete" => chat::delete(state, args),
        "users.info" => accounts::user_info(state, args),
        "users.list" => Ok(accounts::user_list(state)),
        "conversations.info" => accounts::channel_info(state, args),
        "conversations.open" => accounts::open_dm(state, args),
        "conversations.members" => accounts::channel_members(state, args),
        "usergroups.users.list" => accounts::group_members(state, args),
        "views.open" => accounts::open_view(state, args),
        "files.getUploadURLExternal" => files::upload_url(state, args),
        "files.completeUploadExternal" => files::complete(state, args),
        _ => Err(Refusal::new("unknown_method")),
    }
}

impl Workspace {
    /// Does the work of a call and writes it into the log, as one change.
    pub(super) fn perform<T>(
        &self,
        method: &str,
        body: Value,
        work: impl FnOnce(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.change(|state| {
            let result = work(state);
            let refusal = result.as_ref().err();
            *state.calls.entry(method.to_owned()).or_default() += 1;
            state.payloads.push(Payload {
                method: method.to_owned(),
                body,
                ok: refusal.is_none(),
                error: refusal.map(|refusal| refusal.error.clone()),
                messages: refusal.map(|refusal| refusal.messages.clone()).unwrap_or_default(),
            });
            result
        })
    }

    /// Writes a call into the log and turns its result into the answer.
    pub(super) fn record(&self, method: &str, body: Value, result: Result<Value, Refusal>) -> Response {
        answer(self.perform(method, body, |_| result))
    }

    /// Waits for as long as calls of the method are held.
    async fn released(&self, method: &str) {
        let mut changes = self.inner.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let held =
                |(prefix, fault): &(String, Fault)| *fault == Fault::Held && method.starts_with(prefix);
            if !self.state().faults.iter().any(held) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Plays a fault that comes before any work; `None` when the work is to be done.
    pub(super) async fn early_fault(
        &self,
        method: &str,
        body: Value,
        fault: Option<&Fault>,
    ) -> Option<Response> {
        let failed = |why: String| self.record(method, body.clone(), Err(Refusal::new(&why)));
        match fault? {
            Fault::Status(status) => {
                failed(format!("http {status}"));
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Some(status.into_response())
            }
            Fault::RateLimited { retry_after, .. } => {
                failed("ratelimited".into());
                Some(rate_limited(*retry_after))
            }
            Fault::Hang => {
                failed("hang".into());
                std::future::pending().await
            }
            Fault::Error(error) => Some(failed((*error).to_owned())),
            Fault::Held => {
                self.released(method).await;
                None
            }
            Fault::Slow(delay) => {
                tokio::time::sleep(*delay).await;
                None
            }
            Fault::AnswerLost | Fault::Clear => None,
        }
    }
}
