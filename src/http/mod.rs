//! Routes. A request is verified, parsed and handed over, and only then acknowledged: at once, whatever PostgreSQL, the store
//! or the platform's API do. The only file that names the platforms together.

pub use shutdown::shutdown_signal;

use crate::chat::slack::{Parsed, Parser, SlackPlatform, Verifier, parse::Malformed, socket::Socket};
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
const LARGEST_BODY: usize = 256 * 1024;

/// Events in work at once. More than this is no incident channel; the sender is told to try again.
const MOST_AT_ONCE: usize = 256;

/// How often the same complaint is logged.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Told to end, it waits so long for requests that were begun: whoever never sends the rest must not keep it.
const DRAIN: Duration = Duration::from_secs(5);

/// A bot that listens.
pub struct Server {
    pub address: SocketAddr,
    listener: TcpListener,
    flow: Arc<Workflow>,
    teams: Option<Arc<TeamsPlatform>>,
    config: Config,
}

/// What the Slack routes share.
struct SlackRoutes {
    verifier: Verifier,
    parser: Parser,
    entry: Ingress,
    refused: LogLimiter,
    foreign: LogLimiter,
}

impl SlackRoutes {
    /// Verify, parse, hand over, acknowledge: nothing here waits.
    fn acknowledge(&self, headers: &HeaderMap, body: &[u8], parse: ParseBody) -> Response {
        let Ok(body) = std::str::from_utf8(body) else { return StatusCode::BAD_REQUEST.into_response() };
        if let Err(refusal) = self.verifier.verify(headers, body) {
            self.log_refusal(&refusal);
            return StatusCode::UNAUTHORIZED.into_response();
        }
        match parse(&self.parser, body) {
            Ok(Parsed::Deliver(incoming)) => match self.entry.deliver(*incoming) {
                Admission::On | Admission::Before => StatusCode::OK.into_response(),
                Admission::Not => overloaded(),
            },
            Ok(Parsed::Challenge(challenge)) => challenge.into_response(),
            Ok(Parsed::Ignore) => StatusCode::OK.into_response(),
            Ok(Parsed::Foreign) => {
                if let Some(left_out) = self.foreign.turn(Instant::now()) {
                    tracing::warn!(left_out, "ignored a request of a workspace that is not listened to");
                }
                StatusCode::OK.into_response()
            }
            Err(malformed) => {
                self.log_refusal(&malformed);
                StatusCode::BAD_REQUEST.into_response()
            }
        }
    }

    fn log_refusal(&self, why: &dyn std::fmt::Display) {
        if let Some(left_out) = self.refused.turn(Instant::now()) {
            tracing::warn!(%why, left_out, "refused a request");
        }
    }
}

/// Where events go in: as many at once as there is room for.
#[derive(Clone)]
struct Ingress {
    flow: Arc<Workflow>,
    room: Arc<Semaphore>,
    dropped: Arc<LogLimiter>,
}

/// One line a second for the log: whoever can reach the port must not fill the disk, nor slow down what is signed.
#[derive(Default)]
struct LogLimiter(Mutex<LogWindow>);

#[derive(Default)]
struct LogWindow {
    until: Option<Instant>,
    left_out: u64,
}

impl LogLimiter {
    /// How many lines were left out since the last; `None` when this one is left out, too.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut quiet = self.0.lock();
        if quiet.until.is_some_and(|until| now < until) {
            quiet.left_out += 1;
            return None;
        }
        quiet.until = Some(now + LOG_EVERY);
        Some(std::mem::take(&mut quiet.left_out))
    }
}

/// What became of an event at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    On,
    /// It was taken on when it came before.
    Before,
    /// There is no room.
    Not,
}

impl Ingress {
    fn deliver(&self, incoming: IncomingEvent) -> Admission {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            if let Some(left_out) = self.dropped.turn(Instant::now()) {
                tracing::error!(left_out, "too much at once: an event was dropped");
            }
            return Admission::Not;
        };
        // Before a task is spawned for it: what a platform sends again costs next to nothing.
        if !self.flow.first_time(&incoming) {
            return Admission::Before;
        }
        self.flow.take_on(incoming, permit);
        Admission::On
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

impl Server {
    /// Assembles the bot and binds its address.
    ///
    /// # Errors
    /// A mistake in a command or in the access rules, a store that can't be opened, an address in use.
    pub async fn bind(config: Config) -> anyhow::Result<Server> {
        let app = crate::bootstrap::assemble(config.clone())?;
        let teams = teams_platform(&config)?;
        let flow = Workflow::new(app, platforms_with(&config, teams.as_ref())?);
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listening on {}", config.listen))?;
        let address = listener.local_addr().context("listening")?;
        Ok(Server { address, listener, flow, teams, config })
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        // Ended with this future, also when it is dropped.
        let mut beside = JoinSet::new();
        beside.spawn(Arc::clone(&self.flow).keep());
        let room = Arc::new(Semaphore::new(MOST_AT_ONCE));
        let entry = Ingress { flow: Arc::clone(&self.flow), room, dropped: Arc::default() };
        let mut socket = None;
        let mut router = Router::new().route("/healthz", get(|| async { "ok" }));
        if let Some(slack) = &self.config.slack {
            let door = SlackRoutes {
                verifier: Verifier::new(&slack.signing_secrets),
                parser: Parser::new(&slack.workspaces),
                entry: entry.clone(),
                refused: LogLimiter::default(),
                foreign: LogLimiter::default(),
            };
            router = router.merge(slack_routes(door));
            if let Some(app_token) = &slack.app_token {
                let connection = Socket::new(slack, app_token).context("setting up Socket Mode")?;
                socket = Some(beside.spawn(listen(connection, entry.clone())));
            }
        }
        if let (Some(config), Some(platform)) = (&self.config.teams, &self.teams) {
            let door = TeamsRoutes::new(config, Arc::clone(platform), entry.clone())?;
            router = router.merge(door.routes());
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
            () = async { ending.cancelled().await; tokio::time::sleep(DRAIN).await } => {
                tracing::warn!("a request that was never sent whole is not waited for");
            }
        }
        tracing::info!("letting what runs come to its end");
        self.flow.finish(self.config.finish_within).await;
        Ok(())
    }
}

/// Socket Mode: the same events through a connection that the bot opens.
async fn listen(socket: Socket, entry: Ingress) {
    let deliver = |parsed: Parsed| {
        if let Parsed::Deliver(incoming) = parsed {
            entry.deliver(*incoming);
        }
    };
    socket.run(deliver).await;
}

fn slack_routes(door: SlackRoutes) -> Router {
    Router::new()
        .route("/slack/commands", post(commands))
        .route("/slack/interactions", post(interactions))
        .route("/slack/events", post(events))
        .with_state(Arc::new(door))
}

type SlackState = State<Arc<SlackRoutes>>;

fn commands(State(door): SlackState, request: Request) -> impl Future<Output = Response> {
    read(door, request, Parser::command)
}

fn interactions(State(door): SlackState, request: Request) -> impl Future<Output = Response> {
    read(door, request, Parser::interaction)
}

fn events(State(door): SlackState, request: Request) -> impl Future<Output = Response> {
    read(door, request, Parser::event)
}

type ParseBody = fn(&Parser, &str) -> Result<Parsed, Malformed>;

/// Only what is needed later lives on while the body is read: one small allocation a request, where the allocator is quick.
fn read(door: Arc<SlackRoutes>, request: Request, parse: ParseBody) -> impl Future<Output = Response> {
    let (head, body) = request.into_parts();
    let headers = head.headers;
    // What announces itself as too large is refused before any of it is read.
    let announced = HttpBody::size_hint(&body).lower();
    let read = (announced <= LARGEST_BODY as u64).then(|| axum::body::to_bytes(body, LARGEST_BODY));
    OptionFuture::from(read).map(move |read| match read {
        Some(Ok(body)) => door.acknowledge(&headers, &body, parse),
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
        assert_eq!(seldom.turn(now), Some(0));
        assert_eq!(seldom.turn(now), None);
        assert_eq!(seldom.turn(now + LOG_EVERY / 2), None);
        assert_eq!(seldom.turn(now + LOG_EVERY), Some(2));
        assert_eq!(seldom.turn(now + LOG_EVERY), None);
    }
}
