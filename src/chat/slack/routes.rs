//! The routes of Slack: the signature, then the request, then the hand-over. Everything is acknowledged at once.

use super::parse::MalformedRequest;
use super::{ParsedRequest, SignatureVerifier, SlackParser, form};
use crate::chat::ingress::{Ingress, read_body, verified};
use crate::config;
use crate::model::{ChatEvent, ChatEventKind};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;

/// State of the Slack routes.
struct SlackRoutes {
    verifier: SignatureVerifier,
    parser: SlackParser,
    ingress: Arc<Ingress>,
}

type ParseBody = fn(&SlackParser, &str) -> Result<ParsedRequest, MalformedRequest>;

pub fn router(config: &config::SlackSettings, ingress: Arc<Ingress>) -> Router {
    let verifier = SignatureVerifier::new(&config.signing_secrets);
    let routes = Arc::new(SlackRoutes { verifier, parser: SlackParser::new(&config.workspaces), ingress });
    let route = |parse: ParseBody| {
        let routes = Arc::clone(&routes);
        post(move |request| acknowledge(Arc::clone(&routes), request, parse))
    };
    Router::new()
        .route("/slack/commands", route(SlackParser::command))
        .route("/slack/interactions", route(SlackParser::interaction))
        .route("/slack/events", route(SlackParser::event))
}

impl SlackRoutes {
    /// Verifies, parses, hands over and acknowledges. Nothing here waits, but for the client of a form.
    async fn acknowledge(&self, headers: &HeaderMap, body: &[u8], parse: ParseBody) -> Response {
        // Slack's bodies are UTF-8: what isn't has another signature once it is made readable.
        let body = String::from_utf8_lossy(body);
        if let Err(error) = self.verifier.verify(headers, &body) {
            return self.ingress.refuse(StatusCode::UNAUTHORIZED, &error);
        }
        let response = match parse(&self.parser, &body) {
            Ok(ParsedRequest::Form(incoming)) => {
                match Box::pin(form_answer(Arc::clone(&self.ingress), *incoming)).await {
                    Some(answer) => Json(answer).into_response(),
                    None => StatusCode::OK.into_response(),
                }
            }
            parsed => self.respond(parsed),
        };
        verified(response)
    }

    fn respond(&self, parsed: Result<ParsedRequest, MalformedRequest>) -> Response {
        match parsed {
            Ok(ParsedRequest::Deliver(incoming)) => {
                self.ingress.deliver_or_decline(*incoming);
                StatusCode::OK.into_response()
            }
            Ok(ParsedRequest::Challenge(challenge)) => challenge.into_response(),
            Ok(ParsedRequest::Ignore | ParsedRequest::Form(_)) => StatusCode::OK.into_response(),
            Ok(ParsedRequest::Foreign) => self.ingress.ignore_foreign(),
            Ok(ParsedRequest::Unreadable(error)) => self.ingress.refuse(StatusCode::OK, &error),
            Err(error) => self.ingress.refuse(StatusCode::BAD_REQUEST, &error),
        }
    }
}

/// The answer to the client of a form: choices, mistakes or the next form; `None` where the form closes.
pub(super) async fn form_answer(ingress: Arc<Ingress>, incoming: ChatEvent) -> Option<Value> {
    if let ChatEventKind::FormSubmission(input) = &incoming.event {
        let fields = input.values.clone();
        return form::answer(&ingress.submit_form(incoming).await, fields.keys());
    }
    Some(form::choices(&ingress.form_choices(incoming).await))
}

/// Keeps only the headers while the body is read, so that a request's future is one small allocation.
fn acknowledge(
    routes: Arc<SlackRoutes>,
    request: Request,
    parse: ParseBody,
) -> impl Future<Output = Response> {
    let (head, body) = request.into_parts();
    let headers = head.headers;
    async move {
        match read_body(body).await {
            Some(body) => routes.acknowledge(&headers, &body, parse).await,
            None => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        }
    }
}
