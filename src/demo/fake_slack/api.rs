//! The entrance of the Web API: arguments, token, rate limits, faults and the log. The methods themselves have files of their own.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as AxumState};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::state::State;
use super::{Fault, Payload, Workspace, accounts, chat, files};

/// Largest body taken, in bytes: files are uploaded whole.
const BODY_LIMIT: usize = 64 << 20;

/// Methods that only read: they take their arguments as a form or a query, never as JSON.
const READ_METHODS: [&str; 5] =
    ["users.info", "users.list", "conversations.info", "conversations.members", "usergroups.users.list"];

pub(super) fn routes() -> Router<Workspace> {
    Router::new()
        .route("/api/{method}", any(call))
        .route("/upload/{id}", post(files::upload))
        .route("/files/{id}/{name}", get(files::download))
        .route("/response/{id}", post(chat::respond))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// The error that Slack answers a call with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Slack's code.
    pub error: String,
    /// One line for each fault in blocks.
    pub messages: Vec<String>,
    /// The HTTP status: 200 for most errors of the Web API.
    pub status: StatusCode,
    /// Seconds; with 429.
    pub retry_after: Option<u64>,
}

impl From<&str> for ApiError {
    fn from(error: &str) -> ApiError {
        ApiError { error: error.to_owned(), messages: Vec::new(), status: StatusCode::OK, retry_after: None }
    }
}

impl ApiError {
    pub(super) fn rate_limited(seconds: u64) -> ApiError {
        let status = StatusCode::TOO_MANY_REQUESTS;
        ApiError { status, retry_after: Some(seconds), ..ApiError::from("ratelimited") }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({"ok": false, "error": self.error});
        if !self.messages.is_empty() {
            let marked: Vec<_> = self.messages.iter().map(|message| format!("[ERROR] {message}")).collect();
            body["errors"] = json!(self.messages);
            body["response_metadata"] = json!({"messages": marked});
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The arguments of a call, by query, form or JSON.
pub(super) struct Args(pub Value);

impl Args {
    /// A string argument; empty strings count as absent, as in Slack.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn need(&self, key: &str, error: &str) -> Result<&str, ApiError> {
        self.text(key).ok_or_else(|| error.into())
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

    /// The same for the log: JSON in form fields parsed, and no token.
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

async fn call(
    AxumState(workspace): AxumState<Workspace>,
    Path(method): Path<String>,
    verb: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_json = content_type.starts_with("application/json");
    let Some(args) = Args::parse(uri.query().unwrap_or(""), content_type, &body) else {
        let error = if is_json { "invalid_json" } else { "invalid_form_data" };
        let refused = workspace
            .perform(&method, json!(String::from_utf8_lossy(&body)), |_| Err::<Json<Value>, _>(error.into()));
        return refused.into_response();
    };
    let work = |state: &mut State| {
        authorise(&method, &headers, &args)?;
        if is_json && verb == Method::POST && READ_METHODS.contains(&method.as_str()) {
            return Err("invalid_arguments".into());
        }
        limit(state, &method, &args)?;
        let mut answer = dispatch(state, &method, &args)?;
        answer["ok"] = json!(true);
        Ok(Json(answer))
    };
    workspace.serve(&method, args.logged(), work).await
}

fn authorise(method: &str, headers: &HeaderMap, args: &Args) -> Result<(), ApiError> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).or_else(|| args.text("token"));
    let (expected, other) = if method == "apps.connections.open" {
        (super::APP_TOKEN, super::BOT_TOKEN)
    } else {
        (super::BOT_TOKEN, super::APP_TOKEN)
    };
    match token {
        None => Err("not_authed".into()),
        Some(token) if token == expected => Ok(()),
        Some(token) if token == other => Err("not_allowed_token_type".into()),
        Some(_) => Err("invalid_auth".into()),
    }
}

/// Slack's tiers, as calls per minute for each method; messages count for each channel instead.
fn limit(state: &mut State, method: &str, args: &Args) -> Result<(), ApiError> {
    if method == "chat.postMessage" {
        let channel = args.text("channel").unwrap_or("");
        return state.limit_messages(&format!("{method} {channel}"));
    }
    let per_minute = match method {
        "auth.test" => 600.0,
        "apps.connections.open" => 10.0,
        "usergroups.users.list" | "users.list" => 20.0,
        "chat.update" | "chat.delete" | "conversations.info" | "conversations.open" => 50.0,
        _ => 100.0,
    };
    let burst = state.settings.tier_burst.map_or(per_minute, f64::from);
    state.limit(method, burst, per_minute / 60.0)
}

fn dispatch(state: &mut State, method: &str, args: &Args) -> Result<Value, ApiError> {
    match method {
        "apps.connections.open" => Ok(json!({"url": state.socket_url()})),
        "auth.test" => Ok(accounts::auth_test()),
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
        _ => Err("unknown_method".into()),
    }
}

impl Workspace {
    /// Does the work of a call and writes it into the log, as one change.
    pub(super) fn perform<T>(
        &self,
        method: &str,
        body: Value,
        work: impl FnOnce(&mut State) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.change(|state| {
            let result = work(state);
            let error = result.as_ref().err().cloned();
            state.payloads.push(Payload { method: method.to_owned(), body, error });
            result
        })
    }

    /// Answers a call with its work, or with the fault that is set for its method.
    pub(super) async fn serve<T: IntoResponse>(
        &self,
        method: &str,
        body: Value,
        work: impl FnOnce(&mut State) -> Result<T, ApiError>,
    ) -> Response {
        let fault = self.state().fault_for(method);
        let error = match fault {
            None | Some(Fault::AnswerLost | Fault::Clear) => None,
            Some(Fault::Held) => {
                self.released(method).await;
                None
            }
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                None
            }
            Some(Fault::Status(status)) => Some(ApiError {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                ..ApiError::from(format!("http {status}").as_str())
            }),
            Some(Fault::RateLimited { retry_after, .. }) => Some(ApiError::rate_limited(retry_after)),
            Some(Fault::Hang) => Some("hang".into()),
            Some(Fault::Error(error)) => Some(error.into()),
        };
        let result = match error {
            Some(error) => self.perform(method, body, |_| Err(error)),
            None => self.perform(method, body, work),
        };
        match (fault, result) {
            (Some(Fault::Hang), _) => std::future::pending().await,
            (Some(Fault::Status(_)), Err(error)) => error.status.into_response(),
            (_, Err(error)) if error.retry_after.is_some() => error.into_response(),
            (Some(Fault::AnswerLost), _) => StatusCode::BAD_GATEWAY.into_response(),
            (_, result) => result.into_response(),
        }
    }

    /// Waits for as long as calls of the method are held.
    async fn released(&self, method: &str) {
        let mut changes = self.inner.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let holds =
                |(prefix, fault): &(String, Fault)| *fault == Fault::Held && method.starts_with(prefix);
            let holds = self.state().faults.iter().any(holds);
            if !holds || changes.changed().await.is_err() {
                return;
            }
        }
    }
}
