//! The Web API: arguments, token, rate limits, faults and the log, and the methods about people, channels, groups, views and
//! files. A file is shared in three steps: ask for an address, send the bytes there, say where the file belongs.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State as AxumState, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

use super::state::{Account, ChannelState, Fault, Kind, Organisation, Payload, State, Upload};
use super::view::{Message, SharedFile};
use super::{BOT_USER, ORGANISATION, TEAM, TEAM_NAME, Workspace, chat, home, modals, scopes};

/// Largest body taken, in bytes: files are uploaded whole.
const BODY_LIMIT: usize = 64 << 20;

/// Methods that only read: they take their arguments as a form or a query, never as JSON.
const READ_METHODS: [&str; 6] = [
    "chat.getPermalink",
    "users.info",
    "users.list",
    "conversations.info",
    "conversations.members",
    "usergroups.users.list",
];

pub(super) fn routes() -> Router<Workspace> {
    Router::new()
        .route("/api/{method}", any(call))
        .route("/upload/{id}", post(upload))
        .route("/files/{id}/{name}", get(download))
        .route("/response/{id}", post(chat::respond))
        .route("/link/", get(link))
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
        let mut fields: Map<String, Value> = serde_urlencoded::from_str(query).ok()?;
        if content_type.starts_with("application/x-www-form-urlencoded") {
            fields.extend(serde_urlencoded::from_bytes::<Map<String, Value>>(body).ok()?);
        } else if content_type.starts_with("application/json") && !body.is_empty() {
            fields.extend(serde_json::from_slice::<Map<String, Value>>(body).ok()?);
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
        logged.as_object_mut().map(|fields| fields.remove("token"));
        logged
    }
}

async fn call(
    workspace: AxumState<Workspace>,
    Path(method): Path<String>,
    head: Parts,
    body: Bytes,
) -> Response {
    let content_type =
        head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_json = content_type.starts_with("application/json");
    let Some(args) = Args::parse(head.uri.query().unwrap_or(""), content_type, &body) else {
        let error = if is_json { "invalid_json" } else { "invalid_form_data" };
        let refused = |_: &mut State| Err::<(), _>(ApiError::from(error));
        return workspace.perform(&method, json!(String::from_utf8_lossy(&body)), refused).into_response();
    };
    let work = |state: &mut State| {
        authorise(&method, &head.headers, &args)?;
        if is_json && head.method == Method::POST && READ_METHODS.contains(&method.as_str()) {
            return Err("invalid_arguments".into());
        }
        limit(state, &method, &args)?;
        scopes::require(state, &method, &args)?;
        let mut answer = dispatch(state, &method, &args)?;
        answer["ok"] = json!(true);
        Ok(Json(answer))
    };
    let scopes = workspace.state().settings.scopes.join(",");
    let mut response = workspace.serve(&method, args.logged(), work).await;
    if let Ok(scopes) = scopes.parse() {
        response.headers_mut().insert("x-oauth-scopes", scopes);
    }
    response
}

fn authorise(method: &str, headers: &HeaderMap, args: &Args) -> Result<(), ApiError> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).or_else(|| args.text("token"));
    let (expected, other) = match method {
        "apps.connections.open" => (super::APP_TOKEN, super::BOT_TOKEN),
        _ => (super::BOT_TOKEN, super::APP_TOKEN),
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
        "auth.test" => Ok(json!({
            "url": "https://creatorbridge.slack.com/", "team": TEAM_NAME, "user": "countersign",
            "team_id": TEAM, "user_id": BOT_USER, "bot_id": "B0DEMO001", "is_enterprise_install": false,
        })),
        "chat.postMessage" => chat::post_message(state, args),
        "chat.postEphemeral" => chat::post_ephemeral(state, args),
        "chat.update" => chat::update(state, args),
        "chat.delete" => chat::delete(state, args),
        "chat.getPermalink" => permalink(state, args),
        "users.info" => user_info(state, args),
        "users.list" => {
            let members: Vec<_> = state.people.iter().map(Account::to_json).collect();
            Ok(json!({"members": members, "response_metadata": {"next_cursor": ""}}))
        }
        "conversations.info" => channel_info(state, args),
        "conversations.open" => open_dm(state, args),
        "conversations.members" => channel_members(state, args),
        "usergroups.users.list" => group_members(state, args),
        "views.open" => modals::open(state, args),
        "views.publish" => home::publish(state, args),
        "files.getUploadURLExternal" => upload_url(state, args),
        "files.completeUploadExternal" => complete(state, args),
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

    /// Answers a call with its work, or with the fault that is set for its method, or for its method and the user that it names.
    pub(super) async fn serve<T: IntoResponse>(
        &self,
        method: &str,
        body: Value,
        work: impl FnOnce(&mut State) -> Result<T, ApiError>,
    ) -> Response {
        let call = match body["user"].as_str() {
            Some(user) => format!("{method} {user}"),
            None => method.to_owned(),
        };
        let fault = self.state().fault_for(&call);
        match fault {
            Some(Fault::Held) => {
                let holds =
                    |(prefix, fault): &(String, Fault)| *fault == Fault::Held && call.starts_with(prefix);
                let released = || (!self.state().faults.iter().any(holds)).then_some(());
                self.inner.changes.until(released).await;
            }
            Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        let error = match fault {
            Some(Fault::Status(status)) => Some(ApiError {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                ..ApiError::from(format!("http {status}").as_str())
            }),
            Some(Fault::RateLimited { retry_after, .. }) => Some(ApiError::rate_limited(retry_after)),
            Some(Fault::Hang) => Some("hang".into()),
            Some(Fault::Error(error)) => Some(error.into()),
            Some(Fault::BlocksRefused)
                if body["blocks"].as_array().is_some_and(|blocks| !blocks.is_empty()) =>
            {
                Some("invalid_blocks".into())
            }
            _ => None,
        };
        let result = self.perform(method, body, |state| error.map_or_else(|| work(state), Err));
        match (fault, result) {
            (Some(Fault::Hang), _) => std::future::pending().await,
            (Some(Fault::Status(_)), Err(error)) => error.status.into_response(),
            (_, Err(error)) if error.retry_after.is_some() => error.into_response(),
            (Some(Fault::AnswerLost), _) => StatusCode::BAD_GATEWAY.into_response(),
            (_, result) => result.into_response(),
        }
    }
}

impl Account {
    pub(super) fn team(&self) -> &'static str {
        if self.kind == Kind::External { "T0OTHER01" } else { TEAM }
    }

    /// The name that Slack sends as `user_name`.
    pub(super) fn handle(&self) -> String {
        self.name.to_lowercase().replace(' ', ".")
    }

    fn to_json(&self) -> Value {
        let handle = self.handle();
        let email = format!("{handle}@creatorbridge.example");
        let mut account = json!({
            "id": self.id, "team_id": self.team(), "name": handle, "deleted": self.kind == Kind::Deactivated,
            "real_name": self.name, "tz": "Etc/UTC", "tz_offset": 0,
            "profile": {"real_name": self.name, "display_name": self.name, "email": email},
            "is_admin": false, "is_owner": false, "is_restricted": self.kind == Kind::Guest,
            "is_ultra_restricted": false, "is_bot": self.kind == Kind::Bot,
            "is_stranger": self.kind == Kind::External, "is_app_user": false, "updated": 1_763_000_000,
        });
        if let Some(Organisation { other_id, home, workspaces }) = &self.organisation {
            account["team_id"] = json!(home);
            account["enterprise_user"] = json!({
                "id": other_id, "enterprise_id": ORGANISATION, "enterprise_name": TEAM_NAME, "teams": workspaces,
            });
        }
        account
    }
}

fn user_info(state: &State, args: &Args) -> Result<Value, ApiError> {
    let person = state.person(args.need("user", "user_not_found")?).ok_or("user_not_found")?;
    Ok(json!({"user": person.to_json()}))
}

fn visible_room<'a>(state: &'a State, args: &Args) -> Result<&'a ChannelState, ApiError> {
    let room = state.room(args.need("channel", "channel_not_found")?);
    let visible = room.filter(|room| room.channel.is_bot_member || !room.channel.private);
    visible.ok_or_else(|| "channel_not_found".into())
}

fn channel_info(state: &State, args: &Args) -> Result<Value, ApiError> {
    let ChannelState { channel, archived, im_user } = visible_room(state, args)?;
    let mut info = json!({
        "id": channel.id, "created": 1_763_000_000, "is_archived": archived, "is_im": im_user.is_some(),
        "is_org_shared": false, "is_mpim": false,
    });
    if let Some(user) = im_user {
        info["user"] = json!(user);
    } else {
        info["name"] = json!(channel.name);
        info["is_channel"] = json!(true);
        info["is_group"] = json!(false);
        info["is_private"] = json!(channel.private);
        info["is_member"] = json!(channel.is_bot_member);
        info["is_shared"] = json!(channel.shared_externally);
        info["is_ext_shared"] = json!(channel.shared_externally);
    }
    Ok(json!({"channel": info}))
}

/// Source: <https://docs.slack.dev/reference/methods/chat.getPermalink>.
fn permalink(state: &State, args: &Args) -> Result<Value, ApiError> {
    let channel = visible_room(state, args)?.channel.id.clone();
    let ts = args.need("message_ts", "message_not_found")?;
    // A message for one person alone is in no archive.
    let mut posted = state.messages.iter().filter(|message| message.ephemeral_to.is_none());
    let message = posted.find(|message| message.channel == channel && message.ts == ts);
    let message = message.ok_or("message_not_found")?;
    let mut url = format!("https://creatorbridge.slack.com/archives/{channel}/p{}", ts.replace('.', ""));
    if let Some(thread) = message.thread_ts.as_deref().filter(|thread| *thread != ts) {
        url = format!("{url}?thread_ts={thread}&cid={channel}");
    }
    Ok(json!({"channel": channel, "permalink": url}))
}

fn channel_members(state: &State, args: &Args) -> Result<Value, ApiError> {
    let id = &visible_room(state, args)?.channel.id;
    let members: Vec<_> = state.people.iter().filter(|p| state.is_in(&p.id, id)).map(|p| &p.id).collect();
    Ok(json!({"members": members, "response_metadata": {"next_cursor": ""}}))
}

fn open_dm(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let user = args.need("users", "users_list_not_supplied")?;
    match state.person(user).map(|person| person.kind) {
        None => Err("user_not_found".into()),
        Some(Kind::Deactivated) => Err("user_disabled".into()),
        Some(Kind::Bot) => Err("cannot_dm_bot".into()),
        Some(_) => Ok(json!({"channel": {"id": state.dm_channel(user)}})),
    }
}

fn group_members(state: &State, args: &Args) -> Result<Value, ApiError> {
    let people = state.groups.get(args.need("usergroup", "no_such_subteam")?).ok_or("no_such_subteam")?;
    let active = |id: &&String| state.person(id).is_some_and(|person| person.kind != Kind::Deactivated);
    Ok(json!({"users": people.iter().filter(active).collect::<Vec<_>>()}))
}

fn upload_url(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let name = args.need("filename", "invalid_arguments")?.to_owned();
    let length = args.0["length"].as_u64().or_else(|| args.text("length")?.parse().ok());
    let size = length.and_then(|length| usize::try_from(length).ok()).filter(|size| *size > 0);
    let size = size.ok_or("invalid_arguments")?;
    let id = format!("F{:08}", state.next_number());
    let file = SharedFile { id: id.clone(), title: name.clone(), name, size };
    state.uploads.insert(id.clone(), Upload { file, bytes: None, shared: false });
    Ok(json!({"upload_url": format!("http://{}/upload/{id}", state.address), "file_id": id}))
}

/// Takes the bytes of a file, raw.
async fn upload(workspace: AxumState<Workspace>, Path(id): Path<String>, body: Bytes) -> Response {
    workspace.change(|state| match state.uploads.get_mut(&id) {
        Some(upload) if upload.file.size == body.len() && upload.bytes.is_none() => {
            upload.bytes = Some(body.to_vec());
            format!("OK - {}", body.len()).into_response()
        }
        Some(_) => (StatusCode::BAD_REQUEST, "length does not match").into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

fn complete(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let files = args.json("files").and_then(|files| files.as_array().cloned()).unwrap_or_default();
    if files.is_empty() {
        return Err("invalid_arguments".into());
    }
    let mut shared = Vec::new();
    for file in &files {
        let upload = state.uploads.get(file["id"].as_str().unwrap_or(""));
        let upload = upload.filter(|upload| upload.bytes.is_some() && !upload.shared);
        let mut shown = upload.ok_or("file_not_found")?.file.clone();
        if let Some(title) = file["title"].as_str() {
            shown.title = title.to_owned();
        }
        shared.push(shown);
    }
    if let Some(channel) = args.text("channel_id") {
        let channel = chat::target(state, channel)?;
        let thread_ts = chat::thread(state, &channel, args.text("thread_ts"))?;
        let text = args.text("initial_comment").unwrap_or("").to_owned();
        let draft = Message::new(&channel, BOT_USER, text);
        state.post(Message { thread_ts, files: shared.clone(), ..draft });
    }
    for file in &shared {
        state.uploads.entry(file.id.clone()).and_modify(|upload| upload.shared = true);
    }
    Ok(json!({"files": shared.iter().map(|f| json!({"id": f.id, "title": f.title})).collect::<Vec<_>>()}))
}

/// Hands a shared file to the page, always as a download.
async fn download(workspace: AxumState<Workspace>, Path((id, _)): Path<(String, String)>) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, "attachment")];
    match workspace.file(&id) {
        Some(bytes) => (headers, bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn link(
    AxumState(workspace): AxumState<Workspace>,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let known = query.get("ticket").is_some_and(|ticket| workspace.state().tickets.remove(ticket));
    if !known {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    upgrade.on_upgrade(move |socket| workspace.serve_socket(socket))
}
