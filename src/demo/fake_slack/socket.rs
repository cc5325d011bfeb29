//! Socket Mode: the bot opens a WebSocket, envelopes come down, acknowledgements go up. While a socket is open,
//! everything is delivered through it instead of over HTTP.

use std::collections::HashMap;
use std::time::Instant;

use axum::Router;
use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::deliver::Ack;
use super::requests::Outgoing;
use super::{APP_ID, Workspace};

#[derive(Default)]
pub(super) struct Sockets {
    open: Vec<(u64, mpsc::UnboundedSender<Frame>)>,
    /// Envelope id → the sender of its acknowledgement.
    waiting: HashMap<String, oneshot::Sender<Value>>,
}

pub(super) fn routes() -> Router<Workspace> {
    Router::new().route("/link/", get(link))
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
    upgrade.on_upgrade(move |socket| async move { workspace.serve_socket(socket).await })
}

impl Workspace {
    /// Number of sockets that the bot has open.
    pub fn open_sockets(&self) -> usize {
        self.state().sockets.open.len()
    }

    /// Tells every socket to go away and closes it, as Slack does every few hours.
    pub fn drop_sockets(&self) {
        let notice = json!({"type": "disconnect", "reason": "refresh_requested", "debug_info": {}});
        self.change(|state| {
            for (_, sender) in state.sockets.open.drain(..) {
                let _ = sender.send(Frame::Text(notice.to_string().into()));
                let _ = sender.send(Frame::Close(None));
            }
        });
    }

    async fn serve_socket(self, mut socket: WebSocket) {
        let (sender, mut outgoing) = mpsc::unbounded_channel();
        let id = self.state().next();
        let hello = json!({
            "type": "hello", "num_connections": self.open_sockets() + 1, "connection_info": {"app_id": APP_ID},
            "debug_info": {"host": "demo", "build_number": 1, "approximate_connection_time": 18060},
        });
        if socket.send(Frame::Text(hello.to_string().into())).await.is_err() {
            return;
        }
        self.change(|state| state.sockets.open.push((id, sender)));
        loop {
            tokio::select! {
                frame = outgoing.recv() => match frame {
                    Some(frame) => if socket.send(frame).await.is_err() { break },
                    None => break,
                },
                frame = socket.recv() => match frame {
                    Some(Ok(Frame::Text(text))) => self.acknowledged(&text),
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
        }
        self.change(|state| state.sockets.open.retain(|(open, _)| *open != id));
    }

    fn acknowledged(&self, text: &str) {
        let Ok(ack) = serde_json::from_str::<Value>(text) else { return };
        let id = ack["envelope_id"].as_str().unwrap_or_default();
        if let Some(waiting) = self.state().sockets.waiting.remove(id) {
            let _ = waiting.send(ack.get("payload").cloned().unwrap_or(Value::Null));
        }
    }

    /// Delivers through a socket; `None` when none is open.
    pub(super) async fn deliver_by_socket(&self, outgoing: &Outgoing) -> Option<Ack> {
        let (sender, answer) = oneshot::channel();
        let is_event = outgoing.kind == "events_api";
        let limit = {
            let mut state = self.state();
            let (_, socket) = state.sockets.open.last()?.clone();
            let id = state.next_id();
            let mut envelope = json!({
                "envelope_id": id, "type": outgoing.kind, "payload": outgoing.payload,
                "accepts_response_payload": !is_event,
            });
            if is_event {
                envelope["retry_attempt"] = json!(u8::from(outgoing.retry_reason.is_some()));
                envelope["retry_reason"] = json!(outgoing.retry_reason.unwrap_or_default());
            }
            state.sockets.waiting.insert(id, sender);
            socket.send(Frame::Text(envelope.to_string().into())).ok()?;
            state.settings.ack_limit
        };
        let started = Instant::now();
        let ack = match tokio::time::timeout(limit, answer).await {
            Ok(Ok(payload)) => {
                let body = if payload.is_null() { String::new() } else { payload.to_string() };
                Ack { status: 200, body, ..Ack::default() }
            }
            _ => Ack::none("operation_timeout"),
        };
        Some(Ack { elapsed: started.elapsed(), ..ack })
    }
}
