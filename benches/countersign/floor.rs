//! The floor: what any Slack bot on axum must do before it may acknowledge, and nothing else. This program runs itself again
//! as this server.

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

/// The argument that makes this program the floor; behind it stands the address.
pub const ARGUMENT: &str = "floor";
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

/// Serves until it is killed.
pub async fn serve(address: &str) -> anyhow::Result<()> {
    let secret: Arc<str> = std::env::var(SECRET).context("the signing secret")?.into();
    let router = Router::new().route("/slack/commands", post(command)).with_state(secret);
    let listener = tokio::net::TcpListener::bind(address).await.context("listening")?;
    axum::serve(listener, router).await.context("serving")
}

async fn command(State(secret): State<Arc<str>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match verified(&secret, &headers, &body) {
        Some(true) => {}
        _ => return StatusCode::UNAUTHORIZED,
    }
    match serde_urlencoded::from_bytes::<Command>(&body) {
        Ok(command) => {
            std::hint::black_box((command.team_id, command.channel_id, command.user_id, command.user_name));
            std::hint::black_box((command.text, command.response_url, command.trigger_id));
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
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
