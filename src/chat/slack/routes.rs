//! The routes of Slack: the signature, then the request, then the hand-over. Everything is acknowledged at once.

use super::parse::MalformedRequest;
use super::{ParsedRequest, SignatureVerifier, SlackParser};
use crate::chat::ingress::{Ingress, read_body, verified};
use crate::config;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
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
    /// Verifies, parses, hands over and acknowledges. Nothing here waits.
    fn acknowledge(&self, headers: &HeaderMap, body: &[u8], parse: ParseBody) -> Response {
        // Slack's bodies are UTF-8: what isn't has another signature once it is made readable.
        let body = String::from_utf8_lossy(body);
        if let Err(error) = self.verifier.verify(headers, &body) {
            return self.ingress.refuse(StatusCode::UNAUTHORIZED, &error);
        }
        verified(self.respond(&body, parse))
    }

    fn respond(&self, body: &str, parse: ParseBody) -> Response {
        match parse(&self.parser, body) {
            Ok(ParsedRequest::Deliver(incoming)) => {
                self.ingress.deliver_or_decline(*incoming);
                StatusCode::OK.into_response()
            }
            Ok(ParsedRequest::Challenge(challenge)) => challenge.into_response(),
            Ok(ParsedRequest::Ignore) => StatusCode::OK.into_response(),
            Ok(ParsedRequest::Foreign) => self.ingress.ignore_foreign(),
            Ok(ParsedRequest::Unreadable(error)) => self.ingress.refuse(StatusCode::OK, &error),
            Err(error) => self.ingress.refuse(StatusCode::BAD_REQUEST, &error),
        }
    }
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
            Some(body) => routes.acknowledge(&headers, &body, parse),
            None => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        }
    }
}
