//! The floors: what any Slack bot on axum must do before it may acknowledge, and nothing else; and the same with an answer of a fixed
//! message. This program runs itself again as one of these servers.

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A server that this program can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Verifies, parses, acknowledges.
    Acknowledges,
    /// Answers, too: by one POST of a fixed message to the command's `response_url`.
    Answers,
}

impl Kind {
    /// The argument that makes this program such a server; the address follows it.
    pub fn argument(self) -> &'static str {
        match self {
            Kind::Acknowledges => "floor",
            Kind::Answers => "answering-floor",
        }
    }

    pub fn of_argument(argument: &str) -> Option<Kind> {
        [Kind::Acknowledges, Kind::Answers].into_iter().find(|kind| kind.argument() == argument)
    }
}

/// The shortest message that Slack shows.
const MESSAGE: &str =
    r#"{"response_type":"ephemeral","text":"You aren't in the configuration.","replace_original":false}"#;

/// The environment variable with the signing secret.
pub const SECRET: &str = "SLACK_SIGNING_SECRET";

/// Slack's tolerance in seconds.
const TOLERANCE: u64 = 300;

#[derive(Deserialize)]
struct Command {
    team_id: String,
    channel_id: String,
    user_id: String,
    user_name: String,
    text: String,
    response_url: String,
    trigger_id: String,
}

struct Floor {
    secret: String,
    /// For the answers, if it is to answer.
    http: Option<reqwest::Client>,
}

/// Serves until it is killed.
pub async fn serve(kind: Kind, address: &str) -> anyhow::Result<()> {
    let secret = std::env::var(SECRET).context("the signing secret")?;
    let http = match kind {
        Kind::Acknowledges => None,
        Kind::Answers => Some(reqwest::Client::builder().no_proxy().build().context("the client")?),
    };
    let floor = Arc::new(Floor { secret, http });
    let router = Router::new().route("/slack/commands", post(command)).with_state(floor);
    let listener = tokio::net::TcpListener::bind(address).await.context("listening")?;
    axum::serve(listener, router).await.context("serving")
}

async fn command(State(floor): State<Arc<Floor>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match verified(&floor.secret, &headers, &body) {
        Some(true) => {}
        _ => return StatusCode::UNAUTHORIZED,
    }
    match serde_urlencoded::from_bytes::<Command>(&body) {
        Ok(command) => {
            std::hint::black_box((command.team_id, command.channel_id, command.user_id, command.user_name));
            std::hint::black_box((command.text, command.trigger_id));
            if let Some(http) = floor.http.clone() {
                tokio::spawn(answer(http, command.response_url));
            }
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

async fn answer(http: reqwest::Client, response_url: String) {
    let request = http.post(response_url).header("content-type", "application/json; charset=utf-8");
    // The measurement counts the answers that arrive.
    let _ = request.body(MESSAGE).send().await;
}

fn verified(secret: &str, headers: &HeaderMap, body: &[u8]) -> Option<bool> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let timestamp = header("x-slack-request-timestamp")?;
    let signature = hex::decode(header("x-slack-signature")?.strip_prefix("v0=")?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let fresh = now.abs_diff(timestamp.parse().ok()?) <= TOLERANCE;
    Some(fresh && mac.verify_slice(&signature).is_ok())
}
