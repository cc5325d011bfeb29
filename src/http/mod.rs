//! The server: the platforms' routes, liveness and readiness, the supervisor, and the end of the process.

use crate::chat::ingress::{Ingress, Verified};
use crate::chat::{self, ChatPlatform};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::model::PlatformKind;
use crate::workflow::Workflow;
use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::routing::get;
use metrics::MetricsPage;
use readiness::Readiness;
use rustix::process::{Resource, getrlimit};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod connections;
mod metrics;
mod readiness;
mod serve;
mod stream;

pub use connections::{ConnectionCounts, ConnectionLimits, OpenConnections};

/// File descriptors for the store, for calls to the platforms, and for what a process has anyway.
const OTHER_DESCRIPTORS: usize = 128;
/// New connections that wait to be accepted; the system bounds them, too (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// Limit, at the end, for requests that were begun: a client that never sends the rest must not keep the process.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A bot that listens.
pub struct HttpServer {
    pub address: SocketAddr,
    /// The address of `/metrics`.
    pub metrics_address: Option<SocketAddr>,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
    workflow: Arc<Workflow>,
    platforms: Vec<Arc<dyn ChatPlatform>>,
    connections: Arc<OpenConnections>,
    shutdown_delay: Duration,
    shutdown_timeout: Duration,
}

/// Listens with room for as many new connections as the system allows: one that finds none comes again only after a second or more.
fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = listener(address).with_context(|| format!("listening on {address}"))?;
    let address = listener.local_addr().context("listening")?;
    Ok((listener, address))
}

impl HttpServer {
    /// Assembles the bot and binds its address.
    /// Fails on a mistake in a command or an access rule, a store that can't be opened, an address in use.
    pub async fn bind(config: Config) -> anyhow::Result<HttpServer> {
        let Config { listen, metrics_listen, shutdown_delay, shutdown_timeout, .. } = config;
        let app = crate::bootstrap::assemble(config).await?;
        app.environments.check_audit_log_server().await.context("opening the audit log")?;
        let platforms = chat::platforms(&app)?;
        let connections = OpenConnections::new(connection_limits(&app.config));
        let workflow = Workflow::new(app, chat::senders(&platforms));
        let (listener, address) = bind(listen)?;
        let (metrics_listener, metrics_address) = metrics_listen.map(bind).transpose()?.unzip();
        Ok(HttpServer {
            address,
            metrics_address,
            listener,
            metrics_listener,
            workflow,
            platforms,
            connections,
            shutdown_delay,
            shutdown_timeout,
        })
    }

    /// The server's connections, for whoever counts them.
    pub fn connections(&self) -> Arc<OpenConnections> {
        Arc::clone(&self.connections)
    }

    /// Serves until `stop` is done: then it is not ready any more, serves on for the delay, and drains. Fails when a platform can't be
    /// set up.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        // Ended with this future, also when it is dropped.
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&self.workflow).supervise());
        let draining = CancellationToken::new();
        let ingress = Ingress::new(Arc::clone(&self.workflow));
        let app = &self.workflow.app;
        let readiness = Readiness::new(&app.audit.store, &app.metrics);
        background.spawn(Arc::clone(&readiness).watch());
        let probed = Arc::clone(&readiness);
        let mut router = Router::new()
            .route("/healthz", get(|| async { "ok" }))
            .route("/readyz", get(|| async move { probed.answer() }));
        let platforms = self.platforms.clone();
        let preparing = async move {
            let preparations = platforms.iter().map(|platform| platform.prepare());
            futures::future::try_join_all(preparations).await?;
            std::future::pending::<anyhow::Result<()>>().await
        };
        for platform in self.platforms {
            for connection in platform.connections(Arc::clone(&ingress))? {
                let draining = draining.clone();
                background.spawn(async move {
                    draining.run_until_cancelled(connection).await;
                });
            }
            let name = platform.name();
            let routes = platform.routes(Arc::clone(&ingress))?;
            router = router.merge(measured(routes, name, &app.metrics));
        }
        if let (Some(listener), Some(address)) = (self.metrics_listener, self.metrics_address) {
            tracing::info!(%address, "serving metrics");
            background.spawn(serve_metrics(listener, MetricsPage::router(app)));
        }
        tracing::info!(address = %self.address, "listening");
        let draining_trigger = draining.clone();
        let stopping = async move {
            stop.await;
            tracing::info!(delay = ?self.shutdown_delay, "told to stop; not ready any more");
            readiness.shut_down();
            tokio::time::sleep(self.shutdown_delay).await;
            draining_trigger.cancel();
            std::future::pending::<()>().await;
        };
        let serving = serve::serve(self.listener, router, self.connections, draining.clone());
        tokio::select! {
            () = serving => {}
            () = stopping => {}
            result = preparing => return result,
            () = async { draining.cancelled().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => {
                tracing::warn!("closing with an incomplete request still open");
            }
        }
        tracing::info!("waiting for running commands to finish");
        self.workflow.shut_down(self.shutdown_timeout).await;
        Ok(())
    }
}

/// Serves the page that Prometheus scrapes until the process ends: it shows the drain, too.
async fn serve_metrics(listener: TcpListener, page: Router) {
    let connections = OpenConnections::new(ConnectionLimits::fewest());
    serve::serve(listener, page, connections, CancellationToken::new()).await;
}

/// Routes whose acknowledgements and refusals are counted.
fn measured(routes: Router, platform: PlatformKind, metrics: &Arc<Metrics>) -> Router {
    let (metrics, platform) = (Arc::clone(metrics), platform.word());
    let count = move |request: Request, next: Next| {
        let metrics = Arc::clone(&metrics);
        async move {
            let started = Instant::now();
            let response = next.run(request).await;
            match response.extensions().get::<Verified>() {
                Some(Verified) => metrics.acknowledged(platform, started.elapsed()),
                None => metrics.refused(platform, response.status().as_u16()),
            }
            response
        }
    };
    routes.route_layer(middleware::from_fn(count))
}

/// The limits that leave file descriptors for the store and for PostgreSQL.
fn connection_limits(config: &Config) -> ConnectionLimits {
    let of_environment = |environment: &crate::config::Environment| {
        environment.connections + environment.servers.len() * environment.logins.len()
    };
    let others = OTHER_DESCRIPTORS + config.environments.iter().map(of_environment).sum::<usize>();
    let descriptors = getrlimit(Resource::Nofile).current;
    let limits = ConnectionLimits::within(descriptors, others);
    if limits != ConnectionLimits::within(None, others) {
        tracing::warn!(
            descriptors,
            connections = limits.open,
            "the limit of open files allows fewer connections"
        );
    }
    limits
}

/// The signals that tell the process to end: Ctrl-C and SIGTERM.
pub struct ShutdownSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl ShutdownSignals {
    /// Listens from now on: none of them ends the process by itself any more.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn listen() -> std::io::Result<ShutdownSignals> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(ShutdownSignals { interrupt, terminate })
    }

    /// Completes at the next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
