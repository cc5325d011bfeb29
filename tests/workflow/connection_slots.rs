//! Every connection slot is taken: what an on-call person needs most still answers, over connections that were open before.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::maintenance_harness;
use countersign::model::RunState;
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

/// A question that waits as long as its table is locked.
const SIZE: &str = "/*
summary = \"Size of one table\"
group   = \"storage\"
risk    = \"read\"
scope   = \"database\"
args    = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"the service\" }]
example = \"table-size asset-service\"
*/
SELECT pg_table_size('public.audit_logs'::regclass)::bigint AS size_bytes
";

/// Of four connections one is kept for runs.
const FOR_READS: i64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_wait_leave_a_connection_to_what_was_approved() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let limits =
        "connections = 4\nconnect_timeout = \"3s\"\nstatement_timeout = \"10m\"\nlock_timeout = \"60s\"";
    let twist = Twist {
        servers: Some(servers),
        commands: vec![("table-size.sql", SIZE)],
        instead: vec![("connections = 12", limits)],
        ..Twist::default()
    };
    let scene = Scene::with(twist).await;
    let superuser = servers.cluster.connect("asset_service_db").await.expect("the superuser");
    maintenance_harness::make(&superuser, "asset-service", "free").await;
    let file = "SELECT pg_relation_filenode('free')";
    let before: u32 = maintenance_harness::one(&superuser, file).await;
    let card = scene.asks(ANA, "vacuum-full asset-service free --env production").await;

    let holder = servers.cluster.connect("asset_service_db").await.expect("the superuser");
    holder.batch_execute("BEGIN; LOCK TABLE audit_logs").await.expect("the lock");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'countersign_read' AND wait_event_type = 'Lock'";
    for _ in 0..FOR_READS {
        scene.say(ANA, "table-size asset-service --env production").await;
    }
    let all_wait =
        async || (maintenance_harness::one::<i64>(&superuser, waiting).await == FOR_READS).then_some(());
    found("the questions to wait", all_wait).await;
    let told = scene.asks(BEN, "table-size asset-service --env production").await.plain();
    assert!(told.contains("all of the bot's own connections are busy"), "{told}");

    let over = maintenance_harness::approves(&scene, card).await.plain();
    assert_eq!(scene.only_run("vacuum-full").await.state, RunState::Succeeded, "{over}");
    assert_ne!(maintenance_harness::one::<u32>(&superuser, file).await, before, "the table is rewritten");
    assert_eq!(maintenance_harness::one::<i64>(&superuser, waiting).await, FOR_READS, "they still wait");
    holder.batch_execute("ROLLBACK").await.expect("the lock's end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_all_databases_is_asked_again_over_the_same_connections() {
    let servers = Servers::alone(60).await;
    let superuser = servers.cluster.connect("postgres").await.expect("the superuser");
    // One connection for each of ten services, where nine may be in use by questions at once.
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let open = async || {
        let sql = "SELECT pid FROM pg_stat_activity WHERE usename = 'countersign_read' AND datname LIKE '%_service_db' ORDER BY pid";
        let rows = superuser.query(sql, &[]).await.expect("an answer");
        rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>()
    };
    scene.asks(ANA, "health --env production").await;
    let first = open().await;
    assert_eq!(first.len(), 10);
    for _ in 0..3 {
        scene.asks(ANA, "health --env production").await;
        assert_eq!(open().await, first);
    }
}

/// Places in work of one person.
const OF_ONE_PERSON: i64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_behind_all_that_somebody_else_has_typed() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let limits = "connections = 12\nstatement_timeout = \"10m\"\nlock_timeout = \"60s\"";
    let twist = Twist {
        servers: Some(servers),
        commands: vec![("table-size.sql", SIZE)],
        instead: vec![("connections = 12", limits)],
        ..Twist::default()
    };
    let scene = Scene::with(twist).await;
    let superuser = servers.cluster.connect("asset_service_db").await.expect("the superuser");
    let holder = servers.cluster.connect("asset_service_db").await.expect("the superuser");
    holder.batch_execute("BEGIN; LOCK TABLE audit_logs").await.expect("the lock");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'countersign_read' AND wait_event_type = 'Lock'";
    let waiting = async || maintenance_harness::one::<i64>(&superuser, sql).await;
    for _ in 0..40 {
        scene.say(ANA, "table-size asset-service --env production").await;
    }
    found("the questions to wait", async || (waiting().await == OF_ONE_PERSON).then_some(())).await;

    let told = scene.asks(BEN, "health --env production").await.plain();
    assert!(told.contains("ben requested health"), "{told}");
    let told = scene.asks(BEN, "sizes --env staging").await.plain();
    assert!(told.contains("ben requested sizes"), "{told}");
    assert_eq!(waiting().await, OF_ONE_PERSON, "no more of hers are sent, and none has ended");

    // In the end each is answered, and so were the two others.
    holder.batch_execute("ROLLBACK").await.expect("the lock's end");
    found("all answers", async || (scene.count(ANA) >= 42).then_some(())).await;
}
