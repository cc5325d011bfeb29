//! The route of Teams: the token, then the activity, then the hand-over. A message is acknowledged at once; a click's client waits
//! for the card that takes the place of the one that was clicked.

use super::form;
use super::parse::ActivityError;
use super::verify::VerifiedToken;
use super::{ParsedActivity, TeamsParser, TeamsPlatform, TokenVerifier};
use crate::chat::ingress::{Admission, Ingress, read_body, verified};
use crate::model::ChatEventKind;
use crate::workflow::OVERLOADED;
use anyhow::Context;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Teams gives up on an invoke after ten to fifteen seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

const NO_CLICKER: &str =
    "Teams sent this click without your account. Nothing was done. Sign in to Teams, then click again.";

/// State of the Teams route.
struct TeamsRoutes {
    verifier: TokenVerifier,
    parser: TeamsParser,
    platform: Arc<TeamsPlatform>,
    ingress: Arc<Ingress>,
}

/// Fails when the system has no certificates to trust.
pub fn router(platform: Arc<TeamsPlatform>, ingress: Arc<Ingress>) -> anyhow::Result<Router> {
    let verifier = TokenVerifier::new(&platform.config).context("setting up the endpoint of Teams")?;
    let parser = TeamsParser::new(&platform.config);
    let routes = Arc::new(TeamsRoutes { verifier, parser, platform, ingress });
    let messages = move |request| {
        let routes = Arc::clone(&routes);
        async move { routes.acknowledge(request).await }
    };
    Ok(Router::new().route("/teams/messages", post(messages)))
}

impl TeamsRoutes {
    async fn acknowledge(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        // Nothing of the body is read for somebody who isn't Teams.
        let token = match self.verifier.verify(&head.headers).await {
            Ok(token) => token,
            Err(error) => return self.ingress.refuse(StatusCode::UNAUTHORIZED, &error),
        };
        let Some(body) = read_body(body).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
        verified(self.respond(&body, &token).await)
    }

    async fn respond(&self, body: &[u8], token: &VerifiedToken) -> Response {
        match self.parser.parse_activity(body, token) {
            Ok(ParsedActivity::Deliver(incoming)) => {
                self.platform.remember_service(&incoming.conversation, &token.service_url);
                match incoming.handle.as_ref().map(|handle| handle.id.clone()) {
                    None => match self.ingress.deliver(*incoming) {
                        Admission::Accepted | Admission::Duplicate => StatusCode::OK.into_response(),
                        // Teams resends the message after a 429.
                        Admission::Overloaded => StatusCode::TOO_MANY_REQUESTS.into_response(),
                    },
                    Some(handle_id) => {
                        let card = self.platform.card_for(&handle_id);
                        let admission = self.ingress.deliver(*incoming);
                        self.answer(admission, card).await
                    }
                }
            }
            Ok(ParsedActivity::Form(incoming)) => {
                self.platform.remember_service(&incoming.conversation, &token.service_url);
                let (kind, value) = match incoming.event {
                    ChatEventKind::FormSubmission(_) => {
                        form::answer(&self.ingress.submit_form(*incoming).await)
                    }
                    _ => form::choices(&self.ingress.form_choices(*incoming).await),
                };
                invoke_response(kind, value)
            }
            Ok(ParsedActivity::Ignore) => StatusCode::OK.into_response(),
            Ok(ParsedActivity::Unknown) => StatusCode::NOT_IMPLEMENTED.into_response(),
            Ok(ParsedActivity::Foreign) => self.ingress.ignore_foreign(),
            Err(error @ ActivityError::TokenMismatch) => self.ingress.refuse(StatusCode::FORBIDDEN, &error),
            Err(error @ ActivityError::Unreadable(_)) => self.ingress.refuse(StatusCode::BAD_REQUEST, &error),
            Err(error @ ActivityError::NoSender(_)) => self.ingress.refuse(StatusCode::OK, &error),
            Err(error @ ActivityError::NoClicker(_)) => {
                let _ = self.ingress.refuse(StatusCode::OK, &error);
                message_response(NO_CLICKER)
            }
        }
    }

    /// Never empty: without a card the client would show an error of its own.
    async fn answer(&self, admission: Admission, card: oneshot::Receiver<Value>) -> Response {
        let text = match admission {
            Admission::Accepted => match tokio::time::timeout(ANSWER_TIMEOUT, card).await {
                Ok(Ok(card)) => return invoke_response("application/vnd.microsoft.card.adaptive", card),
                _ => "In progress. The message will show the outcome.",
            },
            Admission::Duplicate => "This click was already received. The message will show the outcome.",
            Admission::Overloaded => OVERLOADED,
        };
        message_response(text)
    }
}

fn message_response(text: &str) -> Response {
    invoke_response("application/vnd.microsoft.activity.message", json!(text))
}

fn invoke_response(kind: &str, value: Value) -> Response {
    Json(json!({ "statusCode": 200, "type": kind, "value": value })).into_response()
}
