//! Where the bot's answers arrive: a `response_url` that takes anything at once, or nothing at all. The bot takes it for Slack's only
//! at the Web API's own address, so the API is here, too: its calls are passed on to the fake Slack.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
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

struct Inner {
    http: reqwest::Client,
    /// The base of the fake Slack's Web API.
    api: String,
    expected: Mutex<Expected>,
    answered: AtomicUsize,
    hangs: AtomicBool,
}

impl Sink {
    /// Passes calls on to the Web API with that base.
    pub async fn start(api: String) -> anyhow::Result<Sink> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let (expected, answered, hangs) = Default::default();
        let inner = Arc::new(Inner { http, api, expected, answered, hangs });
        let sink = Sink { address: listener.local_addr()?, inner };
        let router = Router::new().route("/answer/{id}", post(take)).route("/api/{method}", any(pass_on));
        let router = router.with_state(Arc::clone(&sink.inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(sink)
    }

    /// The base of the Web API, for the configuration.
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.address)
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

async fn pass_on(
    State(inner): State<Arc<Inner>>,
    Path(method): Path<String>,
    head: Parts,
    body: Bytes,
) -> Response {
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let call = inner.http.request(head.method, format!("{}/{method}{query}", inner.api));
    let mut headers = head.headers;
    headers.remove("host");
    let answer = async {
        let answer = call.headers(headers).body(body).send().await?;
        Ok::<_, reqwest::Error>((answer.status(), answer.headers().clone(), answer.bytes().await?))
    };
    answer.await.map_or_else(|_| StatusCode::BAD_GATEWAY.into_response(), IntoResponse::into_response)
}
