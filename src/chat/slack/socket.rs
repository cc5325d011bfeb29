//! Socket Mode: the bot connects out, so it needs no public address. The same requests as over HTTP, in envelopes; each is
//! handed on and acknowledged at once. Reconnects by itself. The websocket's address holds a ticket: it is never logged.

use super::api::SlackApi;
use super::parse::{ParsedRequest, SlackParser};
use crate::config;
use futures::{SinkExt, StreamExt};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Slack pings every few seconds; a socket that is silent for so long is dead.
const SILENCE: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between attempts to connect, doubled each time.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// A connection to Slack that is kept up.
pub struct Socket {
    api: SlackApi,
    parser: SlackParser,
}

/// Slack's wrapping of a request. Source: <https://api.slack.com/apis/socket-mode#events>.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    envelope_id: Option<String>,
    #[serde(default)]
    payload: Value,
}

impl Socket {
    /// `app_token` is the app-level token with `connections:write`. Fails if the system has no certificates to trust.
    pub fn new(config: &config::SlackSettings, app_token: &SecretString) -> anyhow::Result<Self> {
        Ok(Socket {
            api: SlackApi::new(&config.api_url, app_token)?,
            parser: SlackParser::new(&config.workspaces),
        })
    }

    /// Passes every request to `deliver`, which must not wait: the acknowledgement follows it. Runs until it is dropped.
    pub async fn run(&self, deliver: impl Fn(ParsedRequest) + Send + Sync) {
        let mut backoff = MIN_BACKOFF;
        loop {
            let mut greeted = false;
            let outcome = self.session(&mut greeted, &deliver).await;
            if greeted || outcome.is_ok() {
                backoff = MIN_BACKOFF;
            }
            if let Err(why) = outcome {
                tracing::warn!(why, "connecting to Slack again");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }

    /// One websocket, from opening to its end. It ends without an error when Slack moves us to another server.
    async fn session(
        &self,
        greeted: &mut bool,
        deliver: &(impl Fn(ParsedRequest) + Send + Sync),
    ) -> Result<(), String> {
        let mut socket = self.connect().await?;
        loop {
            let text = match tokio::time::timeout(SILENCE, socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Err("closed".to_owned()),
                // Pings are answered by the library.
                Ok(Some(Ok(_))) => continue,
                Err(_) => return Err("silent".to_owned()),
            };
            let Ok(envelope) = serde_json::from_str::<Envelope>(&text) else {
                tracing::warn!("a message of Socket Mode can't be read");
                continue;
            };
            match envelope.kind.as_str() {
                "hello" => *greeted = true,
                "disconnect" => return Ok(()),
                kind => self.deliver(kind, &envelope.payload, deliver),
            }
            // What can't be read is acknowledged as well: sent again, it would be no better.
            if let Some(id) = envelope.envelope_id {
                let acknowledgement = json!({ "envelope_id": id }).to_string();
                socket.send(Message::text(acknowledgement)).await.map_err(|_| "closed")?;
            }
        }
    }

    fn deliver(&self, kind: &str, payload: &Value, deliver: &impl Fn(ParsedRequest)) {
        let payload = payload.to_string();
        let parsed = match kind {
            "slash_commands" => self.parser.command_json(&payload),
            "interactive" => self.parser.interaction_json(&payload),
            "events_api" => self.parser.event(&payload),
            _ => Ok(ParsedRequest::Ignore),
        };
        match parsed {
            Ok(ParsedRequest::Unreadable(malformed)) | Err(malformed) => {
                tracing::warn!(kind, %malformed, "a request of Socket Mode");
            }
            Ok(parsed) => deliver(parsed),
        }
    }

    async fn connect(&self) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, String> {
        let opened = self.api.post("apps.connections.open", &json!({})).await;
        let answer = opened.map_err(|error| error.to_string())?;
        let url = answer["url"].as_str().ok_or("no address")?;
        match tokio::time::timeout(CONNECT_TIMEOUT, tokio_tungstenite::connect_async(url)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            // The error's text could hold the address.
            Ok(Err(_)) => Err("connection".to_owned()),
            Err(_) => Err("timeout".to_owned()),
        }
    }
}
