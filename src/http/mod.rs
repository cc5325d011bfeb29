//! Routes. A request is verified, parsed and handed over, and only then acknowledged: at once, whatever PostgreSQL, the store
//! or the platform's API do. The only file that names the platforms together.

pub use shutdown::shutdown_signal;

use crate::chat::slack::{
    ParsedRequest, SignatureVerifier, SlackParser, SlackPlatform, parse::MalformedRequest, socket::Socket,
};
use crate::chat::teams::TeamsPlatform;
use crate::config::Config;
use crate::model::IncomingEvent;
use crate::platform::Platform;
use crate::workflow::Workflow;
use anyhow::Context;
use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::FutureExt;
use futures::future::OptionFuture;
use parking_lot::Mutex;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

mod shutdown;
mod teams;

use teams::TeamsRoutes;

/// Slack's largest payload is a click on a message of 50 blocks, well below 256 KiB; a body is read before it can be verified.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Events handled at the same time; beyond them the sender is asked to try again.
const MAX_IN_FLIGHT: usize = 256;

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

/// State of the Slack routes.
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
        if let Err(refusal) = self.verifier.verify(headers, body) {
            self.log_refusal(&refusal);
            return StatusCode::UNAUTHORIZED.into_response();
        }
        match parse(&self.parser, body) {
            Ok(ParsedRequest::Deliver(incoming)) => match self.ingress.deliver(*incoming) {
                Admission::Accepted | Admission::Duplicate => StatusCode::OK.into_response(),
                Admission::Overloaded => overloaded(),
            },
            Ok(ParsedRequest::Challenge(challenge)) => challenge.into_response(),
            Ok(ParsedRequest::Ignore) => StatusCode::OK.into_response(),
            Ok(ParsedRequest::Foreign) => {
                if let Some(suppressed) = self.foreign.next_line(Instant::now()) {
                    tracing::warn!(suppressed, "ignored a request of a workspace that is not listened to");
                }
                StatusCode::OK.into_response()
            }
            Err(malformed) => {
                self.log_refusal(&malformed);
                StatusCode::BAD_REQUEST.into_response()
            }
        }
    }

    fn log_refusal(&self, error: &dyn std::fmt::Display) {
        if let Some(suppressed) = self.refused.next_line(Instant::now()) {
            tracing::warn!(%error, suppressed, "refused a request");
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
}

/// Result of handing an event over.
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
///
/// # Errors
/// When the system has no certificates to trust.
pub fn platforms(config: &Config) -> anyhow::Result<Vec<Arc<dyn Platform>>> {
    let teams = teams_platform(config)?;
    platforms_with(config, teams.as_ref())
}

fn teams_platform(config: &Config) -> anyhow::Result<Option<Arc<TeamsPlatform>>> {
    let teams = config.teams.as_ref().map(TeamsPlatform::new).transpose();
    Ok(teams.context("setting up Teams")?.map(Arc::new))
}

fn platforms_with(
    config: &Config,
    teams: Option<&Arc<TeamsPlatform>>,
) -> anyhow::Result<Vec<Arc<dyn Platform>>> {
    let mut platforms: Vec<Arc<dyn Platform>> = Vec::new();
    if let Some(slack) = &config.slack {
        platforms.push(Arc::new(SlackPlatform::new(slack).context("setting up Slack")?));
    }
    if let Some(teams) = teams {
        platforms.push(Arc::clone(teams) as Arc<dyn Platform>);
    }
    Ok(platforms)
}

impl HttpServer {
    /// Assembles the bot and binds its address.
    ///
    /// # Errors
    /// A mistake in a command or in the access rules, a store that can't be opened, an address in use.
    pub async fn bind(config: Config) -> anyhow::Result<HttpServer> {
        let app = crate::bootstrap::assemble(config.clone())?;
        let teams = teams_platform(&config)?;
        let workflow = Workflow::new(app, platforms_with(&config, teams.as_ref())?);
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listening on {}", config.listen))?;
        let address = listener.local_addr().context("listening")?;
        Ok(HttpServer { address, listener, workflow, teams, config })
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        // Ended with this future, also when it is dropped.
        let mut beside = JoinSet::new();
        beside.spawn(Arc::clone(&self.workflow).supervise());
        let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let ingress = Ingress { workflow: Arc::clone(&self.workflow), permits, dropped: Arc::default() };
        let mut socket = None;
        let mut router = Router::new().route("/healthz", get(|| async { "ok" }));
        if let Some(slack) = &self.config.slack {
            let routes = SlackRoutes {
                verifier: SignatureVerifier::new(&slack.signing_secrets),
                parser: SlackParser::new(&slack.workspaces),
                ingress: ingress.clone(),
                refused: LogLimiter::default(),
                foreign: LogLimiter::default(),
            };
            router = router.merge(slack_routes(routes));
            if let Some(app_token) = &slack.app_token {
                let connection = Socket::new(slack, app_token).context("setting up Socket Mode")?;
                socket = Some(beside.spawn(listen(connection, ingress.clone())));
            }
        }
        if let (Some(config), Some(platform)) = (&self.config.teams, &self.teams) {
            let routes = TeamsRoutes::new(config, Arc::clone(platform), ingress.clone())?;
            router = router.merge(routes.routes());
        }
        tracing::info!(address = %self.address, "listening");
        let ending = CancellationToken::new();
        let told = ending.clone();
        let stop = async move {
            stop.await;
            // Slack gives what comes now to another process, or keeps it for the next.
            socket.inspect(AbortHandle::abort);
            told.cancel();
        };
        tokio::select! {
            served = axum::serve(self.listener, router).with_graceful_shutdown(stop).into_future() => {
                served.context("serving")?;
            }
            () = async { ending.cancelled().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => {
                tracing::warn!("a request that was never sent whole is not waited for");
            }
        }
        tracing::info!("letting what runs come to its end");
        self.workflow.shut_down(self.config.finish_within).await;
        Ok(())
    }
}

/// Socket Mode: the same events through a connection that the bot opens.
async fn listen(socket: Socket, ingress: Ingress) {
    let deliver = |parsed: ParsedRequest| {
        if let ParsedRequest::Deliver(incoming) = parsed {
            ingress.deliver(*incoming);
        }
    };
    socket.run(deliver).await;
}

fn slack_routes(routes: SlackRoutes) -> Router {
    Router::new()
        .route("/slack/commands", post(commands))
        .route("/slack/interactions", post(interactions))
        .route("/slack/events", post(events))
        .with_state(Arc::new(routes))
}

type SlackState = State<Arc<SlackRoutes>>;

fn commands(State(routes): SlackState, request: Request) -> impl Future<Output = Response> {
    read(routes, request, SlackParser::command)
}

fn interactions(State(routes): SlackState, request: Request) -> impl Future<Output = Response> {
    read(routes, request, SlackParser::interaction)
}

fn events(State(routes): SlackState, request: Request) -> impl Future<Output = Response> {
    read(routes, request, SlackParser::event)
}

type ParseBody = fn(&SlackParser, &str) -> Result<ParsedRequest, MalformedRequest>;

/// Only what is needed later lives on while the body is read: one small allocation a request, where the allocator is quick.
fn read(routes: Arc<SlackRoutes>, request: Request, parse: ParseBody) -> impl Future<Output = Response> {
    let (head, body) = request.into_parts();
    let headers = head.headers;
    // What announces itself as too large is refused before any of it is read.
    let announced = HttpBody::size_hint(&body).lower();
    let read = (announced <= MAX_BODY_BYTES as u64).then(|| axum::body::to_bytes(body, MAX_BODY_BYTES));
    OptionFuture::from(read).map(move |read| match read {
        Some(Ok(body)) => routes.acknowledge(&headers, &body, parse),
        _ => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    })
}

/// Received, and not taken on: Slack shows this to the sender alone.
fn overloaded() -> Response {
    let words = r#"{"response_type":"ephemeral","text":"Countersign has too much to do at once: nothing was done. Try again in a moment."}"#;
    ([(header::CONTENT_TYPE, "application/json")], words).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_logged_once_a_second_and_the_others_are_counted() {
        let (seldom, now) = (LogLimiter::default(), Instant::now());
        assert_eq!(seldom.next_line(now), Some(0));
        assert_eq!(seldom.next_line(now), None);
        assert_eq!(seldom.next_line(now + LOG_INTERVAL / 2), None);
        assert_eq!(seldom.next_line(now + LOG_INTERVAL), Some(2));
        assert_eq!(seldom.next_line(now + LOG_INTERVAL), None);
    }
}
