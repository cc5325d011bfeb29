//! Common to all calls: counting, faults on demand, the bearer token, rate limits.

use super::Tenant;
use super::state::ConnectorFault;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::{Duration, Instant};

/// Calls to one conversation within a time.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/rate-limit>.
const RATE_LIMITS: [(usize, Duration); 4] = [
    (7, Duration::from_secs(1)),
    (8, Duration::from_secs(2)),
    (60, Duration::from_secs(30)),
    (1800, Duration::from_secs(3600)),
];

/// Counts the call, and does the work unless a fault is set for it.
pub(super) async fn called(tenant: &Tenant, method: &str, work: impl AsyncFnOnce() -> Response) -> Response {
    let fault = tenant.change(|state| {
        *state.calls.entry(method.to_owned()).or_default() += 1;
        state.fault_for(method)
    });
    match fault {
        Some(ConnectorFault::Status(status)) => {
            return connector_error(http_status(status), "ServiceError", "A fault on demand.");
        }
        Some(ConnectorFault::Refused(status, code)) => {
            return connector_error(http_status(status), code, "A refusal on demand.");
        }
        Some(ConnectorFault::RateLimited { retry_after, .. }) => return too_many(retry_after),
        Some(ConnectorFault::Hang) => std::future::pending::<()>().await,
        Some(ConnectorFault::Held) => tenant.released(method).await,
        Some(ConnectorFault::AnswerLost) => {
            work().await;
            return StatusCode::BAD_GATEWAY.into_response();
        }
        Some(ConnectorFault::Clear) | None => {}
    }
    work().await
}

impl Tenant {
    /// Makes calls fail: `metadata`, `keys`, `token`, `post`, `put`, `delete`, `create`, `member`, `members`; of the calls of
    /// `post` also `targeted` ones alone, and those in a `thread`.
    /// A later fault replaces the earlier; [`ConnectorFault::Clear`] removes it.
    pub fn fault(&self, method: &str, fault: ConnectorFault) {
        self.change(|state| {
            state.faults.retain(|(name, _)| name != method);
            if fault != ConnectorFault::Clear {
                state.faults.push((method.to_owned(), fault));
            }
        });
    }

    pub(super) fn has_fault(&self, method: &str) -> bool {
        self.state().faults.iter().any(|(name, _)| name == method)
    }

    /// Number of calls of a method.
    pub fn calls(&self, method: &str) -> usize {
        self.state().calls.get(method).copied().unwrap_or(0)
    }

    /// Waits until calls of the method are no longer held.
    async fn released(&self, method: &str) {
        let held =
            |(name, fault): &(String, ConnectorFault)| *fault == ConnectorFault::Held && name == method;
        self.inner.changes.until(|| (!self.state().faults.iter().any(held)).then_some(())).await;
    }

    /// Refuses a call without a valid token of the managed identity.
    pub(super) fn check_token(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let state = self.state();
        match state.tokens.get(token) {
            Some(since) if since.elapsed() < state.settings.token_life => Ok(()),
            _ => {
                let body = json!({ "message": "Authorization has been denied for this request." });
                Err(Box::new((StatusCode::UNAUTHORIZED, axum::Json(body)).into_response()))
            }
        }
    }

    /// Refuses a message that comes faster than the conversation takes them.
    pub(super) fn limit_rate(&self, conversation: &str) -> Result<(), Box<Response>> {
        let mut state = self.state();
        if !state.settings.rate_limits {
            return Ok(());
        }
        let now = Instant::now();
        let sent = state.sent.entry(conversation.to_owned()).or_default();
        for (most, within) in RATE_LIMITS {
            let recent = sent.iter().filter(|at| now.duration_since(**at) < within).count();
            if recent >= most {
                let oldest = sent[sent.len() - recent];
                let wait = (within - now.duration_since(oldest)).as_secs_f64().ceil();
                return Err(Box::new(too_many(Duration::from_secs_f64(wait).as_secs().max(1))));
            }
        }
        sent.push(now);
        Ok(())
    }
}

/// The status of a fault; a number that is none is an internal error.
fn http_status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn too_many(seconds: u64) -> Response {
    let mut response = connector_error(
        StatusCode::TOO_MANY_REQUESTS,
        "429",
        "API calls quota exceeded! maximum admitted 7 per 1 second.",
    );
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// A refusal in the form of the Bot Framework.
pub(super) fn connector_error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

pub(super) fn plain_error(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({ "message": message }))).into_response()
}
