//! Sharing files: ask for an address, send the bytes there, say where the file belongs.

use axum::body::Bytes;
use axum::extract::{Path, State as AxumState};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::Args;
use super::blocks::Refusal;
use super::state::{State, Upload, draft};
use super::view::{FileShown, Message};
use super::{Workspace, chat};

pub(super) fn upload_url(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    let name = args.need("filename", "invalid_arguments")?.to_owned();
    let length = args.0.get("length").and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()));
    let Some(size) = length.filter(|length| *length > 0).and_then(|length| usize::try_from(length).ok())
    else {
        return Err(Refusal::new("invalid_arguments"));
    };
    let id = format!("F{:08}", state.next());
    let file = FileShown { id: id.clone(), title: name.clone(), name, size };
    state.uploads.insert(id.clone(), Upload { file, bytes: None, shared: false });
    Ok(json!({"upload_url": format!("/upload/{id}"), "file_id": id}))
}

/// Takes the bytes of a file, raw.
pub(super) async fn upload(
    AxumState(workspace): AxumState<Workspace>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    workspace.change(|state| match state.uploads.get_mut(&id) {
        Some(upload) if upload.file.size == body.len() && upload.bytes.is_none() => {
            upload.bytes = Some(body.to_vec());
            format!("OK - {}", body.len()).into_response()
        }
        Some(_) => (StatusCode::BAD_REQUEST, "length does not match").into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

pub(super) fn complete(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    let files = args.json("files").and_then(|files| files.as_array().cloned()).unwrap_or_default();
    if files.is_empty() {
        return Err(Refusal::new("invalid_arguments"));
    }
    let mut shown = Vec::new();
    for file in &files {
        let id = file["id"].as_str().unwrap_or("");
        let upload = state.uploads.get(id).filter(|upload| upload.bytes.is_some() && !upload.shared);
        let mut found = upload.ok_or_else(|| Refusal::new("file_not_found"))?.file.clone();
        if let Some(title) = file["title"].as_str() {
            found.title = title.to_owned();
        }
        shown.push(found);
    }
    if let Some(channel) = args.text("channel_id") {
        let channel = chat::target(state, channel)?;
        let thread_ts = chat::thread(state, &channel, args.text("thread_ts"))?;
        let text = args.text("initial_comment").unwrap_or("").to_owned();
        let bot = state.settings.bot_user.clone();
        state.post(Message { thread_ts, files: shown.clone(), ..draft(&channel, &bot, text) });
    }
    for file in &shown {
        if let Some(upload) = state.uploads.get_mut(&file.id) {
            upload.shared = true;
        }
    }
    Ok(json!({"files": shown.iter().map(|f| json!({"id": f.id, "title": f.title})).collect::<Vec<_>>()}))
}

/// Hands a shared file to the page, always as a download.
pub(super) async fn download(
    AxumState(workspace): AxumState<Workspace>,
    Path((id, _name)): Path<(String, String)>,
) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, header::HeaderValue::from_static("attachment"));
    match workspace.file(&id) {
        Some(bytes) => (headers, bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
