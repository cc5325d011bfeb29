//! Socket Mode: the bot connects out, so it needs no public address. The same requests as over HTTP, in envelopes; each is
//! handed on and acknowledged at once. Reconnects by itself. The websocket's address holds a ticket: it is never logged.

use super::api::{SlackApi, SlackApiError};
use super::parse::{ParsedRequest, SlackParser};
use crate::config;
use crate::metrics::Metrics;
use crate::model::PlatformKind;
use crate::rate_limits::RateLimits;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, SinkExt, StreamExt};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Slack pings every few seconds; a socket that is silent for so long is dead.
const SILENCE: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between attempts to connect, doubled each time.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A connection that lives so long was a good one: the next is opened without a growing pause.
const STABLE_PERIOD: Duration = Duration::from_secs(10);

/// The answer to a request whose client waits for one.
type Answer = BoxFuture<'static, Option<Value>>;

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
    /// Of a `disconnect`.
    reason: Option<String>,
}

/// The end of a connection.
#[derive(Debug)]
enum End {
    /// Slack moves the connection to another server.
    Refresh,
    /// Slack asks not to open another one for so long.
    RateLimited(Duration),
    /// Slack closes it for a reason that somebody has to see to: `too_many_websockets`, `link_disabled`.
    Disconnected(String),
    Broken(String),
}

impl Socket {
    /// `app_token` is the app-level token with `connections:write`. Fails if the system has no certificates to trust.
    pub fn new(
        config: &config::SlackSettings,
        app_token: &SecretString,
        limits: &Arc<RateLimits>,
    ) -> anyhow::Result<Self> {
        Ok(Socket {
            api: SlackApi::new(&config.api_url, app_token, Arc::clone(limits))?,
            parser: SlackParser::new(&config.workspaces),
        })
    }

    /// Counts its acknowledgements and the failures of its calls there.
    pub fn measure_in(&self, metrics: &Arc<Metrics>) {
        self.api.metrics.get_or_init(|| Arc::clone(metrics));
    }

    /// Passes every request to `deliver`, which must not wait: the acknowledgement follows it, or the answer that is returned. Runs until it is dropped. The pause
    /// between connections grows until one has lived for a while; a connection that Slack moves then is opened again at once.
    pub async fn run(&self, deliver: impl Fn(ParsedRequest) -> Option<Answer> + Send + Sync) {
        let mut backoff = MIN_BACKOFF;
        loop {
            let started = Instant::now();
            let end = self.session(&deliver).await;
            let has_lived = started.elapsed() >= STABLE_PERIOD;
            if has_lived {
                backoff = MIN_BACKOFF;
            }
            let pause = match &end {
                End::Refresh if has_lived => continue,
                End::RateLimited(wait) => backoff.max(*wait),
                End::Refresh | End::Disconnected(_) | End::Broken(_) => backoff,
            };
            match &end {
                End::Disconnected(reason) => {
                    tracing::error!(
                        reason,
                        ?pause,
                        "Slack closed the connection; an operator has to see to it"
                    );
                }
                End::Broken(reason) => tracing::warn!(reason, ?pause, "connecting to Slack again"),
                End::Refresh | End::RateLimited(_) => tracing::warn!(?pause, "connecting to Slack again"),
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// One websocket, from opening to its end.
    async fn session(&self, deliver: &(impl Fn(ParsedRequest) -> Option<Answer> + Send + Sync)) -> End {
        let mut socket = match self.connect().await {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        let mut answers = FuturesUnordered::new();
        loop {
            let received = tokio::select! {
                received = tokio::time::timeout(SILENCE, socket.next()) => received,
                Some((received_at, answer)) = answers.next() => match self.acknowledge(&mut socket, received_at, answer).await {
                    Ok(()) => continue,
                    Err(end) => return end,
                },
            };
            let text = match received {
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return broken("closed"),
                // Pings are answered by the library.
                Ok(Some(Ok(_))) => continue,
                Err(_) => return broken("silent"),
            };
            let received_at = Instant::now();
            let Ok(envelope) = serde_json::from_str::<Envelope>(&text) else {
                tracing::warn!("a message of Socket Mode can't be read");
                continue;
            };
            match envelope.kind.as_str() {
                "hello" => continue,
                "disconnect" => return end_of(envelope.reason.as_deref()),
                kind => {
                    if let Some(answer) = self.deliver(kind, &envelope.payload, deliver) {
                        let acknowledged =
                            answer.map(move |payload| (received_at, acknowledgement(&envelope, payload)));
                        answers.push(acknowledged);
                        continue;
                    }
                }
            }
            let acknowledgement = acknowledgement(&envelope, None);
            if let Err(end) = self.acknowledge(&mut socket, received_at, acknowledgement).await {
                return end;
            }
        }
    }

    fn deliver(
        &self,
        kind: &str,
        payload: &Value,
        deliver: &impl Fn(ParsedRequest) -> Option<Answer>,
    ) -> Option<Answer> {
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
                None
            }
            Ok(parsed) => deliver(parsed),
        }
    }

    /// Sends the acknowledgement of a message that was received then; `None` if it gets none.
    async fn acknowledge(
        &self,
        socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>,
        received_at: Instant,
        acknowledgement: Option<Value>,
    ) -> Result<(), End> {
        let Some(acknowledgement) = acknowledgement else { return Ok(()) };
        let sent = socket.send(Message::text(acknowledgement.to_string())).await;
        sent.map_err(|_| broken("closed"))?;
        if let Some(metrics) = self.api.metrics.get() {
            metrics.acknowledged(PlatformKind::Slack.word(), received_at.elapsed());
        }
        Ok(())
    }

    async fn connect(&self) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, End> {
        let opened = self.api.post("apps.connections.open", &json!({})).await;
        let answer = opened.map_err(|error| match error {
            SlackApiError::RateLimited(wait) => End::RateLimited(wait),
            error => End::Broken(error.to_string()),
        })?;
        let url = answer["url"].as_str().ok_or_else(|| broken("no address"))?;
        match tokio::time::timeout(CONNECT_TIMEOUT, tokio_tungstenite::connect_async(url)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            // The error's text could hold the address.
            Ok(Err(_)) => Err(broken("connection")),
            Err(_) => Err(broken("timeout")),
        }
    }
}

fn broken(reason: &str) -> End {
    End::Broken(reason.to_owned())
}

/// The end that Slack gives as the reason of a `disconnect`. Source:
/// <https://docs.slack.dev/apis/events-api/using-socket-mode#disconnect>.
fn end_of(reason: Option<&str>) -> End {
    match reason {
        Some("warning" | "refresh_requested") | None => End::Refresh,
        Some(reason) => End::Disconnected(reason.chars().take(60).collect()),
    }
}

/// The acknowledgement of an envelope, whether or not it could be read: sent again, it would be no better. `None` if it gets none.
fn acknowledgement(envelope: &Envelope, payload: Option<Value>) -> Option<Value> {
    let id = envelope.envelope_id.as_ref()?;
    Some(match payload {
        Some(payload) => json!({ "envelope_id": id, "payload": payload }),
        None => json!({ "envelope_id": id }),
    })
}
