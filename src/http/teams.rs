//! The endpoint of Teams: the token, then the activity, then the hand-over. A message is acknowledged at once; a click's client waits
//! for the card that takes the place of the one that was clicked.

use super::{Admission, Ingress, LogLimiter, MAX_BODY_BYTES};
use crate::chat::teams::parse::ActivityError;
use crate::chat::teams::{ParsedActivity, TeamsParser, TeamsPlatform, TokenVerifier};
use crate::config;
use anyhow::Context;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Teams gives up on an invoke after ten to fifteen seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// State of the Teams route.
pub(super) struct TeamsRoutes {
    verifier: TokenVerifier,
    parser: TeamsParser,
    platform: Arc<TeamsPlatform>,
    ingress: Ingress,
    refused: LogLimiter,
    foreign: LogLimiter,
}

impl TeamsRoutes {
    /// # Errors
    /// When the system has no certificates to trust.
    pub(super) fn new(
        config: &config::TeamsSettings,
        platform: Arc<TeamsPlatform>,
        ingress: Ingress,
    ) -> anyhow::Result<TeamsRoutes> {
        let verifier = TokenVerifier::new(config).context("setting up the endpoint of Teams")?;
        let parser = TeamsParser::new(config);
        let (refused, foreign) = (LogLimiter::default(), LogLimiter::default());
        Ok(TeamsRoutes { verifier, parser, platform, ingress, refused, foreign })
    }

    pub(super) fn routes(self) -> Router {
        Router::new().route("/teams/messages", post(messages)).with_state(Arc::new(self))
    }

    async fn acknowledge(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        // Nothing of the body is read for somebody who isn't Teams.
        let vouched = match self.verifier.verify(&head.headers).await {
            Ok(vouched) => vouched,
            Err(refusal) => return self.refuse(StatusCode::UNAUTHORIZED, &refusal),
        };
        let Some(body) = whole(body).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
        match self.parser.activity(&body, &vouched) {
            Ok(ParsedActivity::Deliver(incoming)) => {
                self.platform.remember_service(&incoming.place, &vouched.service_url);
                match incoming.handle.as_ref().map(|handle| handle.url.clone()) {
                    None => match self.ingress.deliver(*incoming) {
                        Admission::Accepted | Admission::Duplicate => StatusCode::OK.into_response(),
                        // Teams sends a message again that it was told to.
                        Admission::Overloaded => StatusCode::TOO_MANY_REQUESTS.into_response(),
                    },
                    Some(click) => {
                        let card = self.platform.card_for(&click);
                        let taken = self.ingress.deliver(*incoming);
                        self.answer(taken, card).await
                    }
                }
            }
            Ok(ParsedActivity::Ignore) => StatusCode::OK.into_response(),
            Ok(ParsedActivity::Unknown) => StatusCode::NOT_IMPLEMENTED.into_response(),
            Ok(ParsedActivity::Foreign) => {
                if let Some(suppressed) = self.foreign.next_line(Instant::now()) {
                    tracing::warn!(suppressed, "ignored an activity of a tenant that is not listened to");
                }
                StatusCode::OK.into_response()
            }
            Err(error @ ActivityError::NotVouched) => self.refuse(StatusCode::FORBIDDEN, &error),
            Err(error @ ActivityError::Unreadable) => self.refuse(StatusCode::BAD_REQUEST, &error),
        }
    }

    /// Never empty: without a card the client would show an error of its own.
    async fn answer(&self, taken: Admission, card: tokio::sync::oneshot::Receiver<Value>) -> Response {
        let words = match taken {
            Admission::Accepted => match tokio::time::timeout(ANSWER_TIMEOUT, card).await {
                Ok(Ok(card)) => return invoked("application/vnd.microsoft.card.adaptive", card),
                _ => "Countersign is at it. The message tells what becomes of it.",
            },
            Admission::Duplicate => {
                "Countersign has this click already. The message tells what becomes of it."
            }
            Admission::Overloaded => {
                "Countersign has too much to do at once: nothing was done. Try again in a moment."
            }
        };
        invoked("application/vnd.microsoft.activity.message", json!(words))
    }

    fn refuse(&self, status: StatusCode, error: &dyn std::fmt::Display) -> Response {
        if let Some(suppressed) = self.refused.next_line(Instant::now()) {
            tracing::warn!(%error, suppressed, "refused a request");
        }
        status.into_response()
    }
}

fn invoked(kind: &str, value: Value) -> Response {
    Json(json!({ "statusCode": 200, "type": kind, "value": value })).into_response()
}

/// Reads a body. One that announces itself as too large is refused before any of it is read.
async fn whole(body: Body) -> Option<Bytes> {
    let announced = HttpBody::size_hint(&body).lower();
    if announced > MAX_BODY_BYTES as u64 {
        return None;
    }
    axum::body::to_bytes(body, MAX_BODY_BYTES).await.ok()
}

async fn messages(State(routes): State<Arc<TeamsRoutes>>, request: Request) -> Response {
    routes.acknowledge(request).await
}
