//! Socket Mode: the bot opens a WebSocket, envelopes come down, acknowledgements go up. While a socket is open,
//! everything is delivered through it instead of over HTTP.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use axum::Router;
use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::Workspace;
use super::deliver::Ack;
use super::requests::Outgoing;

#[derive(Default)]
pub(super) struct Sockets {
    /// Each ticket opens one socket.
    tickets: HashSet<String>,
    open: Vec<(u64, mpsc::UnboundedSender<Frame>)>,
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
    let known = query.get("ticket").is_some_and(|ticket| workspace.sockets().tickets.remove(ticket));
    if !known {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    upgrade.on_upgrade(move |socket| async move { workspace.serve_socket(socket).await })
}

impl Workspace {
    fn sockets(&self) -> parking_lot::MutexGuard<'_, Sockets> {
        self.inner.sockets.lock()
    }

    /// How many sockets the bot has open.
    pub fn open_sockets(&self) -> usize {
        self.sockets().open.len()
    }

    /// Tells every socket to go away and closes it, as Slack does every few hours.
    pub fn drop_sockets(&self) {
        let gone = std::mem::take(&mut self.sockets().open);
        for (_, sender) in gone {
            let notice = json!({"type": "disconnect", "reason": "refresh_requested", "debug_info": {}});
            let _ = sender.send(Frame::Text(notice.to_string().into()));
            let _ = sender.send(Frame::Close(None));
        }
        self.change(|_| ());
    }

    pub(super) fn socket_url(&self) -> String {
        let ticket = format!("{:032x}", super::state::scramble(self.state().next()));
        self.sockets().tickets.insert(ticket.clone());
        format!("ws://{}/link/?ticket={ticket}&app_id={}", self.inner.addr, self.settings().app_id)
    }

    async fn serve_socket(self, mut socket: WebSocket) {
        let (sender, mut outgoing) = mpsc::unbounded_channel();
        let id = self.state().next();
        let connections = self.sockets().open.len() + 1;
        let hello = json!({
            "type": "hello", "num_connections": connections,
            "connection_info": {"app_id": self.settings().app_id},
            "debug_info": {"host": "demo", "build_number": 1, "approximate_connection_time": 18060},
        });
        if socket.send(Frame::Text(hello.to_string().into())).await.is_err() {
            return;
        }
        self.sockets().open.push((id, sender));
        self.change(|_| ());
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
        self.sockets().open.retain(|(open, _)| *open != id);
        self.change(|_| ());
    }

    fn acknowledged(&self, text: &str) {
        let Ok(ack) = serde_json::from_str::<Value>(text) else { return };
        let id = ack["envelope_id"].as_str().unwrap_or_default();
        if let Some(waiting) = self.sockets().waiting.remove(id) {
            let _ = waiting.send(ack.get("payload").cloned().unwrap_or(Value::Null));
        }
    }

    /// Delivers through a socket; `None` when none is open.
    pub(super) async fn deliver_by_socket(&self, outgoing: &Outgoing) -> Option<Ack> {
        let number = self.state().next();
        let id = format!("{:032x}", super::state::scramble(number));
        let (sender, answer) = oneshot::channel();
        let mut envelope = json!({
            "envelope_id": id, "type": outgoing.kind, "payload": outgoing.payload,
            "accepts_response_payload": outgoing.kind != "events_api",
        });
        if outgoing.kind == "events_api" {
            envelope["retry_attempt"] = json!(u8::from(outgoing.retry.is_some()));
            envelope["retry_reason"] = json!(outgoing.retry.clone().unwrap_or_default());
        }
        {
            let mut sockets = self.sockets();
            let (_, socket) = sockets.open.last()?.clone();
            sockets.waiting.insert(id, sender);
            socket.send(Frame::Text(envelope.to_string().into())).ok()?;
        }
        let begun = Instant::now();
        let limit = self.settings().ack_limit;
        let ack = match tokio::time::timeout(limit, answer).await {
            Ok(Ok(payload)) => {
                let body = if payload.is_null() { String::new() } else { payload.to_string() };
                Ack { status: 200, body, ..Ack::default() }
            }
            _ => Ack { problem: Some("operation_timeout".into()), ..Ack::default() },
        };
        Some(Ack { elapsed: begun.elapsed(), ..ack })
    }
}
