//! A stand-in for Slack's servers that says what it is told to and remembers what it was asked.

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use countersign::config;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// One request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub authorization: Option<String>,
    /// A JSON body, or the query.
    pub arguments: Value,
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, VecDeque<(u16, Value)>>,
    asked: Vec<Asked>,
}

/// The stand-in; its server ends with the test's runtime.
#[derive(Clone)]
pub struct Wire {
    pub base: String,
    script: Arc<Mutex<Script>>,
    /// What a websocket says, in order, and where the words of the bot go.
    socket: Arc<Mutex<VecDeque<Vec<Value>>>>,
    heard: mpsc::UnboundedSender<Value>,
}

impl Wire {
    pub async fn start() -> (Self, mpsc::UnboundedReceiver<Value>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (heard, ears) = mpsc::unbounded_channel();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let wire = Wire { base, script: Arc::default(), socket: Arc::default(), heard };
        let router = axum::Router::new()
            .route("/api/{method}", any(call))
            .route("/{kind}/{id}", any(address))
            .with_state(wire.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (wire, ears)
    }

    /// The next answer to a method (or to an address: "response", "upload"); without one it is `{"ok": true}`.
    pub fn answers(&self, method: &str, status: u16, body: Value) -> &Self {
        let mut script = self.script.lock().unwrap();
        script.answers.entry(method.to_owned()).or_default().push_back((status, body));
        self
    }

    pub fn refuses(&self, method: &str, code: &str) -> &Self {
        self.answers(method, 200, json!({ "ok": false, "error": code }))
    }

    /// What one websocket will say; then it closes.
    pub fn say(&self, words: Vec<Value>) {
        self.socket.lock().unwrap().push_back(words);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }

    pub fn methods(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.method).collect()
    }

    pub fn config(&self) -> config::SlackSettings {
        config::SlackSettings {
            groups: BTreeMap::new(),
            api_url: format!("{}/api", self.base),
            bot_token: "xoxb-1".to_owned().into(),
            signing_secrets: vec!["secret".to_owned().into()],
            app_token: Some("xapp-1".to_owned().into()),
            workspaces: vec!["T1".to_owned()],
            command: "/db".to_owned(),
            terminal_channel: None,
        }
    }

    fn reply(&self, asked: Asked, default: Value) -> Response {
        let mut script = self.script.lock().unwrap();
        let (status, body) =
            script.answers.get_mut(&asked.method).and_then(VecDeque::pop_front).unwrap_or((200, default));
        script.asked.push(asked);
        let status = StatusCode::from_u16(status).unwrap();
        let wait = body["retry_after"].as_u64().unwrap_or(0).to_string();
        match body {
            Value::String(text) => (status, text).into_response(),
            body => (status, [("retry-after", wait)], axum::Json(body)).into_response(),
        }
    }
}

fn asked(method: String, headers: &HeaderMap, uri: &Uri, body: &[u8]) -> Asked {
    let query: HashMap<String, String> =
        serde_urlencoded::from_str(uri.query().unwrap_or_default()).unwrap_or_default();
    let arguments = serde_json::from_slice(body).unwrap_or_else(|_| json!(query));
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    Asked { method, authorization, arguments }
}

async fn call(
    State(wire): State<Wire>,
    (Path(method), headers, uri): (Path<String>, HeaderMap, Uri),
    body: Bytes,
) -> Response {
    let asked = asked(method, &headers, &uri, &body);
    let default = match asked.method.as_str() {
        "chat.postMessage" => json!({ "ok": true, "channel": asked.arguments["channel"], "ts": "200.1" }),
        "conversations.open" => json!({ "ok": true, "channel": { "id": "D1" } }),
        "files.getUploadURLExternal" => {
            json!({ "ok": true, "upload_url": format!("{}/upload/1", wire.base), "file_id": "F1" })
        }
        "apps.connections.open" => {
            json!({ "ok": true, "url": wire.base.replacen("http", "ws", 1) + "/socket/1" })
        }
        _ => json!({ "ok": true }),
    };
    wire.reply(asked, default)
}

/// A `response_url`, an upload address, or a websocket.
async fn address(
    State(wire): State<Wire>,
    (Path((kind, _)), headers, uri): (Path<(String, String)>, HeaderMap, Uri),
    socket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    body: Bytes,
) -> Response {
    let Ok(upgrade) = socket else { return wire.reply(asked(kind, &headers, &uri, &body), json!("ok")) };
    upgrade.on_upgrade(async move |mut socket| {
        let words = wire.socket.lock().unwrap().pop_front();
        // Nothing more to say: stay open and silent.
        let Some(words) = words else { return std::future::pending().await };
        for word in words {
            let answered = word["envelope_id"].is_string() && word["unanswered"] != true;
            let text = word.as_str().map_or_else(|| word.to_string(), str::to_owned);
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
            if answered && let Some(Ok(Message::Text(text))) = socket.recv().await {
                let _ = wire.heard.send(serde_json::from_str(&text).unwrap());
            }
        }
    })
}
