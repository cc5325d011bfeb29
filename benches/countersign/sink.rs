//! Where the bot's answers arrive: a `response_url` that takes anything at once, or nothing at all.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::oneshot;

type Expected = HashMap<String, oneshot::Sender<(Instant, String)>>;

/// Clones are handles to the same one.
#[derive(Clone)]
pub struct Sink {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    expected: Mutex<Expected>,
    answered: AtomicUsize,
    hangs: AtomicBool,
}

impl Sink {
    pub async fn start() -> anyhow::Result<Sink> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let sink = Sink { address: listener.local_addr()?, inner: Arc::default() };
        let router = Router::new().route("/answer/{id}", post(take)).with_state(Arc::clone(&sink.inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(sink)
    }

    /// When the answer with that id has arrived whole, and what it says. Ask before the question is sent.
    pub fn expect(&self, id: &str) -> oneshot::Receiver<(Instant, String)> {
        let (sender, receiver) = oneshot::channel();
        self.inner.expected.lock().insert(id.to_owned(), sender);
        receiver
    }

    /// How many answers were taken so far.
    pub fn answered(&self) -> usize {
        self.inner.answered.load(Ordering::Relaxed)
    }

    /// From now on answers are read and never acknowledged; or taken again.
    pub fn hang(&self, hangs: bool) {
        self.inner.hangs.store(hangs, Ordering::Relaxed);
    }
}

async fn take(State(inner): State<Arc<Inner>>, Path(id): Path<String>, body: String) -> &'static str {
    let arrived = Instant::now();
    if inner.hangs.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    inner.answered.fetch_add(1, Ordering::Relaxed);
    let expected = inner.expected.lock().remove(&id);
    if let Some(expected) = expected {
        // Whoever asked may have given up.
        let _ = expected.send((arrived, body));
    }
    "ok"
}
