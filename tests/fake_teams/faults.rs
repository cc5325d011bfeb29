//! What stands around every call: counting, faults on demand, the bearer token, how fast calls may come.

use super::World;
use super::people::Fault;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::{Duration, Instant};

/// So many calls in so long to one conversation.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/rate-limit>.
const PACES: [(usize, Duration); 4] = [
    (7, Duration::from_secs(1)),
    (8, Duration::from_secs(2)),
    (60, Duration::from_secs(30)),
    (1800, Duration::from_secs(3600)),
];

/// Counts the call, plays the fault that is set for it, and does the work where none stands in the way.
pub(super) async fn called(world: &World, method: &str, work: impl AsyncFnOnce() -> Response) -> Response {
    let fault = world.change(|state| {
        *state.calls.entry(method.to_owned()).or_default() += 1;
        state.fault_for(method)
    });
    match fault {
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            return connector_error(status, ("ServiceError", "A fault on demand."));
        }
        Some(Fault::Refused(status, code)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            return connector_error(status, (code, "A refusal on demand."));
        }
        Some(Fault::RateLimited { retry_after, .. }) => return too_many(retry_after),
        Some(Fault::Hang) => std::future::pending::<()>().await,
        Some(Fault::Held) => world.released(method).await,
        Some(Fault::AnswerLost) => {
            work().await;
            return StatusCode::BAD_GATEWAY.into_response();
        }
        Some(Fault::Clear) | None => {}
    }
    work().await
}

impl World {
    /// Makes calls fail: `metadata`, `keys`, `token`, `post`, `put`, `delete`, `create`, `member`, `members`; of the calls of
    /// `post` also `targeted` ones alone, and those in a `thread`.
    /// A later fault replaces the earlier; [`Fault::Clear`] removes it.
    pub fn fault(&self, method: &str, fault: Fault) {
        self.change(|state| {
            state.faults.retain(|(name, _)| name != method);
            if fault != Fault::Clear {
                state.faults.push((method.to_owned(), fault));
            }
        });
    }

    pub(super) fn has_fault(&self, method: &str) -> bool {
        self.state().faults.iter().any(|(name, _)| name == method)
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> usize {
        self.state().calls.get(method).copied().unwrap_or(0)
    }

    /// Waits for as long as calls of the method are held.
    async fn released(&self, method: &str) {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let held = |(name, fault): &(String, Fault)| *fault == Fault::Held && name == method;
            if !self.state().faults.iter().any(held) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether the call carries a token that the managed identity gave out not too long ago.
    pub(super) fn authorised(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
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

    /// Whether one more message may go to the conversation now.
    pub(super) fn paced(&self, conversation: &str) -> Result<(), Box<Response>> {
        let mut state = self.state();
        if !state.settings.rate_limits {
            return Ok(());
        }
        let now = Instant::now();
        let sent = state.sent.entry(conversation.to_owned()).or_default();
        for (most, within) in PACES {
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

fn too_many(seconds: u64) -> Response {
    let mut response = connector_error(
        StatusCode::TOO_MANY_REQUESTS,
        ("429", "API calls quota exceeded! maximum admitted 7 per 1 second."),
    );
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// The Bot Framework's way to say no.
pub(super) fn connector_error(status: StatusCode, (code, message): (&str, &str)) -> Response {
    (status, axum::Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

pub(super) fn plain_error(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({ "message": message }))).into_response()
}
