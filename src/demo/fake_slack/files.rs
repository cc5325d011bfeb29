//! Sharing files: ask for an address, send the bytes there, say where the file belongs.

use axum::body::Bytes;
use axum::extract::{Path, State as AxumState};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::{ApiError, Args};
use super::state::{State, Upload};
use super::view::{FileShown, Message};
use super::{BOT_USER, Workspace, chat};

pub(super) fn upload_url(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let name = args.need("filename", "invalid_arguments")?.to_owned();
    let length = args.0["length"].as_u64().or_else(|| args.text("length")?.parse().ok());
    let size = length.filter(|length| *length > 0).and_then(|length| usize::try_from(length).ok());
    let size = size.ok_or("invalid_arguments")?;
    let id = format!("F{:08}", state.next());
    let file = FileShown { id: id.clone(), title: name.clone(), name, size };
    state.uploads.insert(id.clone(), Upload { file, bytes: None, shared: false });
    Ok(json!({"upload_url": format!("http://{}/upload/{id}", state.address), "file_id": id}))
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

pub(super) fn complete(state: &mut State, args: &Args) -> Result<Value, ApiError> {
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
        if let Some(upload) = state.uploads.get_mut(&file.id) {
            upload.shared = true;
        }
    }
    Ok(json!({"files": shared.iter().map(|f| json!({"id": f.id, "title": f.title})).collect::<Vec<_>>()}))
}

/// Hands a shared file to the page, always as a download.
pub(super) async fn download(
    AxumState(workspace): AxumState<Workspace>,
    Path(id_and_name): Path<(String, String)>,
) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, "attachment")];
    match workspace.file(&id_and_name.0) {
        Some(bytes) => (headers, bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
