//! Every connection slot is taken: what an on-call person needs most still answers, over connections that were open before.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use tokio_postgres::Client;

/// A reader and an operator for each of the two environments, which are one server here.
const WARM: i64 = 4;

async fn warm(superuser: &Client) {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('countersign_read', 'countersign_act')";
    found("the warm connections", async || {
        let open: i64 = superuser.query_one(sql, &[]).await.expect("an answer").get(0);
        (open == WARM).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_connections_and_kill_still_answer() {
    let servers = Servers::alone(40).await;
    let superuser = servers.cluster.connect("postgres").await.expect("the superuser");
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    warm(&superuser).await;
    let (service, account) = servers.team.service("asset-service").expect("the service");
    let mut pool = Vec::new();
    let refused = loop {
        match servers.cluster.connect_as(account.login(&service.database, "leaky-pool")).await {
            Ok(client) => pool.push(client),
            Err(refused) => break format!("{refused:#}"),
        }
    };
    assert!(refused.contains("slots are reserved") && pool.len() > 20, "{} are in: {refused}", pool.len());

    let health = scene.asks(ANA, "health --env production").await.plain();
    for words in ["of 37 connections are in use (", "has no connection slot left", "up"] {
        assert!(health.contains(words), "{words}: {health}");
    }
    let connections = scene.asks(ANA, "connections --env production").await.plain();
    assert!(connections.contains("0 are left") && connections.contains("leaky-pool"), "{connections}");

    let pid: i32 = pool[0].query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let card = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    assert!(card.plain().contains("leaky-pool"), "{}", card.plain());
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended.")).await;
    let there = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
    assert!(!superuser.query_one(there, &[&pid]).await.expect("an answer").get::<_, bool>(0));
    servers.cluster.connect_as(account.login(&service.database, "next")).await.expect("a slot");
}
