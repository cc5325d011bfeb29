//! The loop of the server: accepts connections, serves each within the limits, and at the end lets requests finish that were begun.
//! hyper's own limit of a head's time would count between two requests as well, and there is none for bodies or connections.

use super::connections::{CHECK_INTERVAL, OpenConnection, OpenConnections};
use super::stream::{ClientStream, CountedBody};
use crate::chat::ingress::{LogLimiter, Verified};
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Buffer of one connection: enough for the heads that the platforms and their proxies send.
const MAX_BUFFER: usize = 16 * 1024;
/// Pause after the system couldn't accept a connection: it has no descriptors, for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is cancelled, and then until all requests are answered.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Arc<OpenConnections>,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let handler = Handler { service: TowerToHyperService::new(router), stop: stop.clone() };
    let accepting = async {
        let refused = LogLimiter::default();
        loop {
            let (stream, address) = accept(&listener, &refused).await;
            let connection = connections.admit(address.ip()).await;
            tasks.spawn(handler.clone().serve(stream, connection));
        }
    };
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let checking = async {
        loop {
            checks.tick().await;
            connections.end_overdue(Instant::now());
        }
    };
    let mut checking = pin!(checking);
    tokio::select! {
        () = stop.cancelled() => {}
        never = accepting => match never {},
        never = &mut checking => match never {},
    }
    drop(listener);
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        never = checking => match never {},
    }
}

async fn accept(listener: &TcpListener, refused: &LogLimiter) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_clients(error.kind()) => {}
            Err(error) => {
                if let Some(suppressed) = refused.next_line(std::time::Instant::now()) {
                    tracing::error!(%error, suppressed, "accepting a connection failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// True for the errors of one connection.
fn is_clients(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Serves one connection after the other in the same way.
#[derive(Clone)]
struct Handler {
    service: TowerToHyperService<Router>,
    stop: CancellationToken,
}

/// A connection's place, which is free when this is dropped.
struct Place(Arc<OpenConnection>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Handler {
    async fn serve(self, stream: TcpStream, connection: Arc<OpenConnection>) {
        let place = Place(Arc::clone(&connection));
        let io = TokioIo::new(ClientStream { stream, connection: Arc::clone(&connection) });
        let service = self.service;
        let service = service_fn(move |request| handle(service.clone(), Arc::clone(&connection), request));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_BUFFER);
        let mut serving = pin!(builder.serve_connection(io, service));
        let mut is_stopping = false;
        loop {
            tokio::select! {
                // An error is the client's, who is gone.
                _ = serving.as_mut() => return,
                () = place.0.leave.cancelled() => return,
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

async fn handle(
    service: TowerToHyperService<Router>,
    connection: Arc<OpenConnection>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let request = request.map(|body| CountedBody::new(body, Arc::clone(&connection)));
    let mut response = service.call(request).await?;
    connection.end_request(response.extensions_mut().remove::<Verified>().is_some());
    Ok(response)
}
