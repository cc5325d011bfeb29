//! Routes. A request is verified, parsed and handed over, and only then acknowledged: at once, whatever PostgreSQL, the store
//! or the platform's API do. The only file that names the platforms together.

use crate::chat::slack::{
    ParsedRequest, SignatureVerifier, SlackParser, SlackPlatform, parse::MalformedRequest, socket::Socket,
};
use crate::chat::teams::TeamsPlatform;
use crate::config::Config;
use crate::model::IncomingEvent;
use crate::platform::Platform;
use crate::workflow::Workflow;
use anyhow::Context;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::json;
use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

mod teams;

use teams::TeamsRoutes;

/// Slack's largest payload is a click on a message of 50 blocks, well below 256 KiB; a body is read before it can be verified.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Events handled at the same time; beyond them the sender is asked to try again.
const MAX_IN_FLIGHT: usize = 256;
const OVERLOADED: &str = "Countersign is overloaded: nothing was executed. Try again in a moment.";
/// Time between two log lines about the same kind of refusal.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Limit, at the end, for requests that were begun: a client that never sends the rest must not keep the process.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A bot that listens.
pub struct HttpServer {
    pub address: SocketAddr,
    listener: TcpListener,
    workflow: Arc<Workflow>,
    teams: Option<Arc<TeamsPlatform>>,
    config: Config,
}

struct SlackRoutes {
    verifier: SignatureVerifier,
    parser: SlackParser,
    ingress: Ingress,
    refused: LogLimiter,
    foreign: LogLimiter,
}

impl SlackRoutes {
    /// Verifies, parses, hands over and acknowledges. Nothing here waits.
    fn acknowledge(&self, headers: &HeaderMap, body: &[u8], parse: ParseBody) -> Response {
        let Ok(body) = std::str::from_utf8(body) else { return StatusCode::BAD_REQUEST.into_response() };
        if let Err(error) = self.verifier.verify(headers, body) {
            return self.refused.refuse(StatusCode::UNAUTHORIZED, &error);
        }
        match parse(&self.parser, body) {
            Ok(ParsedRequest::Deliver(incoming)) => match self.ingress.deliver(*incoming) {
                Admission::Accepted | Admission::Duplicate => StatusCode::OK.into_response(),
                // Slack shows it to the sender alone.
                Admission::Overloaded => {
                    Json(json!({ "response_type": "ephemeral", "text": OVERLOADED })).into_response()
                }
            },
            Ok(ParsedRequest::Challenge(challenge)) => challenge.into_response(),
            Ok(ParsedRequest::Ignore) => StatusCode::OK.into_response(),
            Ok(ParsedRequest::Foreign) => {
                if let Some(suppressed) = self.foreign.next_line(Instant::now()) {
                    tracing::warn!(suppressed, "ignored a request of a workspace that is not listened to");
                }
                StatusCode::OK.into_response()
            }
            Err(error) => self.refused.refuse(StatusCode::BAD_REQUEST, &error),
        }
    }
}

/// Entrance of events, with a limit of those in flight.
#[derive(Clone)]
struct Ingress {
    workflow: Arc<Workflow>,
    permits: Arc<Semaphore>,
    dropped: Arc<LogLimiter>,
}

/// Limits the log to one line a second: a client that can reach the port must neither fill the disk nor delay signed requests.
#[derive(Default)]
struct LogLimiter(Mutex<LogWindow>);

#[derive(Default)]
struct LogWindow {
    until: Option<Instant>,
    suppressed: u64,
}

impl LogLimiter {
    /// Number of lines suppressed since the last; `None` when this one is suppressed as well.
    fn next_line(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        if window.until.is_some_and(|until| now < until) {
            window.suppressed += 1;
            return None;
        }
        window.until = Some(now + LOG_INTERVAL);
        Some(std::mem::take(&mut window.suppressed))
    }

    fn refuse(&self, status: StatusCode, error: &dyn Display) -> Response {
        if let Some(suppressed) = self.next_line(Instant::now()) {
            tracing::warn!(%error, suppressed, "refused a request");
        }
        status.into_response()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Accepted,
    /// A repeated delivery of an event that was accepted before.
    Duplicate,
    /// Too many events are in flight.
    Overloaded,
}

impl Ingress {
    fn deliver(&self, incoming: IncomingEvent) -> Admission {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            if let Some(suppressed) = self.dropped.next_line(Instant::now()) {
                tracing::error!(suppressed, max = MAX_IN_FLIGHT, "event dropped: too many events in flight");
            }
            return Admission::Overloaded;
        };
        // Before a task is spawned for it: what a platform sends again costs next to nothing.
        if !self.workflow.first_time(&incoming) {
            return Admission::Duplicate;
        }
        self.workflow.spawn_event(incoming, permit);
        Admission::Accepted
    }
}

/// The chat platforms of the configuration, to send to.
pub struct ChatPlatforms {
    pub all: Vec<Arc<dyn Platform>>,
    teams: Option<Arc<TeamsPlatform>>,
}

impl ChatPlatforms {
    /// Fails when the system has no certificates to trust.
    pub fn new(config: &Config) -> anyhow::Result<ChatPlatforms> {
        let mut all: Vec<Arc<dyn Platform>> = Vec::new();
        if let Some(slack) = &config.slack {
            all.push(Arc::new(SlackPlatform::new(slack).context("setting up Slack")?));
        }
        let teams = config.teams.as_ref().map(TeamsPlatform::new).transpose();
        let teams = teams.context("setting up Teams")?.map(Arc::new);
        all.extend(teams.clone().map(|teams| teams as Arc<dyn Platform>));
        Ok(ChatPlatforms { all, teams })
    }
}

impl HttpServer {
    /// Assembles the bot and binds its address.
    /// Fails on a mistake in a command or an access rule, a store that can't be opened, an address in use.
    pub async fn bind(config: Config) -> anyhow::Result<HttpServer> {
        let app = crate::bootstrap::assemble(config.clone())?;
        let platforms = ChatPlatforms::new(&config)?;
        let workflow = Workflow::new(app, platforms.all);
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listening on {}", config.listen))?;
        let address = listener.local_addr().context("listening")?;
        Ok(HttpServer { address, listener, workflow, teams: platforms.teams, config })
    }

    /// Serves until `stop` is done. Fails when the listener breaks.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        // Ended with this future, also when it is dropped.
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&self.workflow).supervise());
        let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let ingress = Ingress { workflow: Arc::clone(&self.workflow), permits, dropped: Arc::default() };
        let mut socket = None;
        let mut router = Router::new().route("/healthz", get(|| async { "ok" }));
        if let Some(slack) = &self.config.slack {
            router = router.merge(slack_router(SlackRoutes {
                verifier: SignatureVerifier::new(&slack.signing_secrets),
                parser: SlackParser::new(&slack.workspaces),
                ingress: ingress.clone(),
                refused: LogLimiter::default(),
                foreign: LogLimiter::default(),
            }));
            if let Some(app_token) = &slack.app_token {
                let connection = Socket::new(slack, app_token).context("setting up Socket Mode")?;
                let ingress = ingress.clone();
                socket = Some(background.spawn(async move {
                    let deliver = |request| {
                        if let ParsedRequest::Deliver(incoming) = request {
                            ingress.deliver(*incoming);
                        }
                    };
                    connection.run(deliver).await;
                }));
            }
        }
        if let (Some(config), Some(platform)) = (&self.config.teams, &self.teams) {
            let routes = TeamsRoutes::new(config, Arc::clone(platform), ingress.clone())?;
            router = router.merge(routes.router());
        }
        tracing::info!(address = %self.address, "listening");
        let draining = CancellationToken::new();
        let drain = draining.clone();
        let stop = async move {
            stop.await;
            // Slack gives what comes now to another process, or keeps it for the next.
            socket.inspect(AbortHandle::abort);
            drain.cancel();
        };
        tokio::select! {
            served = axum::serve(self.listener, router).with_graceful_shutdown(stop).into_future() => {
                served.context("serving")?;
            }
            () = async { draining.cancelled().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => {
                tracing::warn!("a request that was never sent whole is not waited for");
            }
        }
        tracing::info!("letting what runs come to its end");
        self.workflow.shut_down(self.config.finish_within).await;
        Ok(())
    }
}

type ParseBody = fn(&SlackParser, &str) -> Result<ParsedRequest, MalformedRequest>;

fn slack_router(routes: SlackRoutes) -> Router {
    let routes = Arc::new(routes);
    let route = |parse: ParseBody| {
        let routes = Arc::clone(&routes);
        post(move |request| acknowledge(Arc::clone(&routes), request, parse))
    };
    Router::new()
        .route("/slack/commands", route(SlackParser::command))
        .route("/slack/interactions", route(SlackParser::interaction))
        .route("/slack/events", route(SlackParser::event))
}

/// Only what is needed later lives on while the body is read: one small allocation a request, where the allocator is quick.
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

/// Reads a body; `None` if it is too large. One that announces itself as too large is refused before any of it is read.
async fn read_body(body: Body) -> Option<Bytes> {
    if HttpBody::size_hint(&body).lower() > MAX_BODY_BYTES as u64 {
        return None;
    }
    axum::body::to_bytes(body, MAX_BODY_BYTES).await.ok()
}

/// Completes on Ctrl-C or SIGTERM.
pub async fn shutdown_signal() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
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
