//! Clients that send slowly, or nothing more: none of them keeps anybody else from the bot, and each is sent away in the end.

use crate::harness::{ANA, Scene, found};
use countersign::http::{ConnectionCounts, OpenConnections};
use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Clients of one test, unless `make soak` says otherwise; fewer where the process may not have as many files. Both ends are this
/// process'.
const MOST_CLIENTS: u64 = 1_500;

fn clients() -> u64 {
    let soak = std::env::var("COUNTERSIGN_TEST_CLIENTS").ok().and_then(|count| count.parse().ok());
    let clients = soak.unwrap_or(MOST_CLIENTS);
    getrlimit(Resource::Nofile).current.map_or(clients, |limit| clients.min(limit / 2))
}

fn connections(scene: &Scene) -> Arc<OpenConnections> {
    Arc::clone(&scene.bot.as_ref().expect("a bot").connections)
}

async fn client(scene: &Scene, sends: &[u8]) -> TcpStream {
    let address = scene.bot.as_ref().expect("a bot").url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    // Whoever was sent away meanwhile can't send any more.
    let _ = stream.write_all(sends).await;
    stream
}

async fn is_healthy(scene: &Scene) {
    let mut stream = client(scene, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
}

/// A signed command is acknowledged and answered, and the probe of the platform is, too.
async fn answers(scene: &Scene) {
    let told = scene.asks(ANA, "health --env production").await.plain();
    assert!(told.contains("ana requested health"), "{told}");
    is_healthy(scene).await;
}

/// Waits until only those are connected that have sent something signed.
async fn all_are_gone(connections: &OpenConnections) -> ConnectionCounts {
    found("the clients to be sent away", async || {
        let counts = connections.counts();
        (counts.open == counts.verified).then_some(counts)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_send_half_a_head_keep_nobody_out() {
    let scene = Scene::usual().await;
    let connections = connections(&scene);
    let limits = connections.limits();
    let mut slow = Vec::new();
    for _ in 0..clients() {
        slow.push(client(&scene, b"POST /slack/commands HTTP/1.1\r\nHost: x\r\nX-A: ").await);
    }
    answers(&scene).await;
    let counts = connections.counts();
    assert!(counts.most_open <= limits.open && counts.open >= limits.per_address / 2, "{counts:?}");
    assert!(counts.verified >= 1, "{counts:?}");
    let counts = all_are_gone(&connections).await;
    assert!(counts.timed_out + counts.displaced >= clients(), "{counts:?}");
    answers(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_send_nearly_all_of_a_body_hold_little_memory() {
    let scene = Scene::usual().await;
    let connections = connections(&scene);
    let limits = connections.limits();
    let head = "POST /slack/commands HTTP/1.1\r\nhost: x\r\ncontent-length: 262000\r\n\r\n";
    let nearly_all = [head.as_bytes(), &[b'x'; 261_990]].concat();
    let sending = (0..200).map(|_| client(&scene, &nearly_all));
    let slow = futures::future::join_all(sending).await;
    answers(&scene).await;
    let counts = connections.counts();
    // One more part of a body may be there when the oldest is ended.
    assert!(counts.most_body_bytes <= limits.body_bytes + 262_000, "{counts:?}");
    assert!(counts.displaced > 0, "{counts:?}");
    let counts = all_are_gone(&connections).await;
    assert_eq!(counts.body_bytes, 0, "{counts:?}");
    assert!(counts.timed_out > 0, "{counts:?}");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_kept_for_nothing_are_ended() {
    let scene = Scene::usual().await;
    let connections = connections(&scene);
    let silent = client(&scene, b"").await;
    let mut idle = client(&scene, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(connections.counts().open, 2);
    let counts = all_are_gone(&connections).await;
    assert_eq!(counts.timed_out, 2, "{counts:?}");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("its end");
    drop(silent);
}
