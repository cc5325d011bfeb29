//! The door of Teams: the token, then the activity, then the hand-over. A message is acknowledged at once; a click's client waits
//! for the card that takes the place of the one that was clicked.

use super::{Admission, Ingress, LARGEST_BODY, LogLimiter};
use crate::chat::teams::parse::Malformed;
use crate::chat::teams::{Parsed, Parser, TeamsPlatform, Verifier};
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
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// What the Teams route needs.
pub(super) struct TeamsRoutes {
    verifier: Verifier,
    parser: Parser,
    platform: Arc<TeamsPlatform>,
    entry: Ingress,
    refused: LogLimiter,
    foreign: LogLimiter,
}

impl TeamsRoutes {
    /// # Errors
    /// When the system has no certificates to trust.
    pub(super) fn new(
        config: &config::Teams,
        platform: Arc<TeamsPlatform>,
        entry: Ingress,
    ) -> anyhow::Result<TeamsRoutes> {
        let verifier = Verifier::new(config).context("setting up the door of Teams")?;
        let parser = Parser::new(config);
        let (refused, foreign) = (LogLimiter::default(), LogLimiter::default());
        Ok(TeamsRoutes { verifier, parser, platform, entry, refused, foreign })
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
            Ok(Parsed::Deliver(incoming)) => {
                self.platform.remember_service(&incoming.place, &vouched.service_url);
                match incoming.handle.as_ref().map(|handle| handle.url.clone()) {
                    None => match self.entry.deliver(*incoming) {
                        Admission::On | Admission::Before => StatusCode::OK.into_response(),
                        // Teams sends a message again that it was told to.
                        Admission::Not => StatusCode::TOO_MANY_REQUESTS.into_response(),
                    },
                    Some(click) => {
                        let card = self.platform.card_for(&click);
                        let taken = self.entry.deliver(*incoming);
                        self.answer(taken, card).await
                    }
                }
            }
            Ok(Parsed::Ignore) => StatusCode::OK.into_response(),
            Ok(Parsed::Unknown) => StatusCode::NOT_IMPLEMENTED.into_response(),
            Ok(Parsed::Foreign) => {
                if let Some(left_out) = self.foreign.turn(Instant::now()) {
                    tracing::warn!(left_out, "ignored an activity of a tenant that is not listened to");
                }
                StatusCode::OK.into_response()
            }
            Err(why @ Malformed::NotVouched) => self.refuse(StatusCode::FORBIDDEN, &why),
            Err(why @ Malformed::Unreadable) => self.refuse(StatusCode::BAD_REQUEST, &why),
        }
    }

    /// Never empty: without a card the client would show an error of its own.
    async fn answer(&self, taken: Admission, card: tokio::sync::oneshot::Receiver<Value>) -> Response {
        let words = match taken {
            Admission::On => match tokio::time::timeout(ANSWER_WITHIN, card).await {
                Ok(Ok(card)) => return invoked("application/vnd.microsoft.card.adaptive", card),
                _ => "Countersign is at it. The message tells what becomes of it.",
            },
            Admission::Before => "Countersign has this click already. The message tells what becomes of it.",
            Admission::Not => {
                "Countersign has too much to do at once: nothing was done. Try again in a moment."
            }
        };
        invoked("application/vnd.microsoft.activity.message", json!(words))
    }

    fn refuse(&self, status: StatusCode, why: &dyn std::fmt::Display) -> Response {
        if let Some(left_out) = self.refused.turn(Instant::now()) {
            tracing::warn!(%why, left_out, "refused a request");
        }
        status.into_response()
    }
}

fn invoked(kind: &str, value: Value) -> Response {
    Json(json!({ "statusCode": 200, "type": kind, "value": value })).into_response()
}

/// What announces itself as too large is refused before any of it is read.
async fn whole(body: Body) -> Option<Bytes> {
    let announced = HttpBody::size_hint(&body).lower();
    if announced > LARGEST_BODY as u64 {
        return None;
    }
    axum::body::to_bytes(body, LARGEST_BODY).await.ok()
}

async fn messages(State(door): State<Arc<TeamsRoutes>>, request: Request) -> Response {
    door.acknowledge(request).await
}
