//! What the routes of the chat platforms share: the limit of events in flight, of a body's size, and of log lines.

use crate::model::{ChatEvent, FieldError, FormOption};
use crate::workflow::{FormAnswer, MAX_PRESENT_OF_PERSON, OVERLOADED, Turn, Workflow};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slack's largest payload is a click on a message of 50 blocks, well below 256 KiB; a body is read before it can be verified.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Events that are queued, in work or being answered at the same time; beyond them the sender is asked to try again: of four persons
/// who have as many commands, clicks and looks at cards there as one person may have.
const MAX_IN_FLIGHT: usize = 4 * 3 * MAX_PRESENT_OF_PERSON;
/// A client waits three seconds for the answer to a form.
const FORM_TIMEOUT: Duration = Duration::from_millis(2_700);
/// Time between two log lines about the same kind of refusal.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Entrance of events, with a limit of those in flight.
pub struct Ingress {
    workflow: Arc<Workflow>,
    permits: Arc<Semaphore>,
    dropped_log: LogLimiter,
    refused_log: LogLimiter,
    foreign_log: LogLimiter,
}

/// Outcome of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Accepted,
    /// A repeated delivery of an event that was accepted before.
    Duplicate,
    /// Too many events are in flight.
    Overloaded,
}

impl Ingress {
    /// The one entrance of a process: its platforms share the limit.
    pub fn new(workflow: Arc<Workflow>) -> Arc<Ingress> {
        let (dropped_log, refused_log, foreign_log) = Default::default();
        let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        Arc::new(Ingress { workflow, permits, dropped_log, refused_log, foreign_log })
    }

    /// Hands an event over, to be handled in the background.
    pub fn deliver(&self, incoming: ChatEvent) -> Admission {
        let Some((permit, turn)) = self.admit(&incoming) else { return Admission::Overloaded };
        // Before a task is spawned for it: what a platform sends again costs next to nothing.
        if !self.workflow.is_first_delivery(&incoming) {
            return Admission::Duplicate;
        }
        self.workflow.spawn_event(incoming, turn, permit);
        Admission::Accepted
    }

    /// As [`Ingress::deliver`], for a platform to which every event is acknowledged: the sender of one that isn't accepted gets a
    /// refusal, together with others of theirs.
    pub fn deliver_or_decline(&self, incoming: ChatEvent) {
        if !self.workflow.is_first_delivery(&incoming) {
            return;
        }
        match self.admit(&incoming) {
            Some((permit, turn)) => self.workflow.spawn_event(incoming, turn, permit),
            None => self.workflow.decline(incoming),
        }
    }

    /// Answers a submitted form whose client waits, and hands a complete one over.
    pub async fn submit_form(&self, incoming: ChatEvent) -> FormAnswer {
        let refused = |message: &str| {
            FormAnswer::Invalid(vec![FieldError { field: String::new(), message: message.to_owned() }])
        };
        let Some((permit, turn)) = self.admit(&incoming) else { return refused(OVERLOADED) };
        let checked = self.workflow.answer_form(&incoming, turn);
        let Ok(answer) = tokio::time::timeout(FORM_TIMEOUT, checked).await else {
            return refused(OVERLOADED);
        };
        drop(permit);
        if answer == FormAnswer::Accepted {
            self.deliver_or_decline(incoming);
        }
        answer
    }

    /// The choices of a form's field, for a client that waits.
    pub async fn form_choices(&self, incoming: ChatEvent) -> Vec<FormOption> {
        let Some((permit, turn)) = self.admit(&incoming) else { return Vec::new() };
        let found = self.workflow.form_choices(&incoming, turn);
        let options = tokio::time::timeout(FORM_TIMEOUT, found).await.unwrap_or_default();
        drop(permit);
        options
    }

    /// The places of an event; `None`, which is logged, if there are none.
    fn admit(&self, incoming: &ChatEvent) -> Option<(OwnedSemaphorePermit, Turn)> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        let places = permit.zip(self.workflow.enter(incoming));
        if places.is_none()
            && let Some(suppressed) = self.dropped_log.next_line(Instant::now())
        {
            tracing::error!(suppressed, "event dropped: too many events in flight, in all or of one person");
        }
        places
    }

    /// The response to a request that is not accepted, and its log line.
    pub fn refuse(&self, status: StatusCode, error: &dyn Display) -> Response {
        if let Some(suppressed) = self.refused_log.next_line(Instant::now()) {
            tracing::warn!(%error, suppressed, "refused a request");
        }
        status.into_response()
    }

    /// The response to a request of a workspace that is not listened to, and its log line.
    pub fn ignore_foreign(&self) -> Response {
        if let Some(suppressed) = self.foreign_log.next_line(Instant::now()) {
            tracing::warn!(suppressed, "ignored a request of a workspace that is not listened to");
        }
        StatusCode::OK.into_response()
    }
}

/// Limits the log to one line a second: a client that can reach the port must neither fill the disk nor delay signed requests.
#[derive(Default)]
pub struct LogLimiter(Mutex<LogWindow>);

#[derive(Default)]
struct LogWindow {
    ends_at: Option<Instant>,
    suppressed: u64,
}

impl LogLimiter {
    /// Number of lines suppressed since the last; `None` when this one is suppressed as well.
    pub fn next_line(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        if window.ends_at.is_some_and(|end| now < end) {
            window.suppressed += 1;
            return None;
        }
        window.ends_at = Some(now + LOG_INTERVAL);
        Some(std::mem::take(&mut window.suppressed))
    }
}

/// The mark of a response to a request that a platform had signed: the server's limits are for everybody else.
#[derive(Debug, Clone, Copy)]
pub struct Verified;

/// Marks the response to a request whose signature or token is good.
pub fn verified(mut response: Response) -> Response {
    response.extensions_mut().insert(Verified);
    response
}

/// Reads a body; `None` if it is too large. One that announces itself as too large is refused before any of it is read.
pub async fn read_body(body: Body) -> Option<Bytes> {
    if HttpBody::size_hint(&body).lower() > MAX_BODY_BYTES as u64 {
        return None;
    }
    axum::body::to_bytes(body, MAX_BODY_BYTES).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_logged_once_a_second_and_the_others_are_counted() {
        let (limiter, now) = (LogLimiter::default(), Instant::now());
        assert_eq!(limiter.next_line(now), Some(0));
        assert_eq!(limiter.next_line(now), None);
        assert_eq!(limiter.next_line(now + LOG_INTERVAL / 2), None);
        assert_eq!(limiter.next_line(now + LOG_INTERVAL), Some(2));
        assert_eq!(limiter.next_line(now + LOG_INTERVAL), None);
    }
}
