//! Readiness and the end: a replica that is told to end isn't ready any more, still serves for a while, and then drains.

use crate::harness::{ANA, Scene, Twist, found};
use crate::process::{Counter, PATIENT, Process, becomes};
use crate::replicas::{log_database, log_server, scene_on_one_log, shared_log};
use countersign::model::RunState;
use countersign::store::postgres::KnownSchema;

/// The status and the words of a probe.
async fn probe(process: &Process, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(format!("{}{path}", process.url)).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

async fn answers(process: &Process, status: u16, words: &str) {
    let expected = (status, format!("{words}\n"));
    let answered = async || (probe(process, "/readyz").await == expected).then_some(());
    found(words, answered).await;
    assert_eq!(probe(process, "/healthz").await, (200, "ok".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_ready_while_its_audit_log_answers() {
    let scene = scene_on_one_log(Twist::default()).await;
    let process = Process::start(&scene).await;
    answers(&process, 200, "ready").await;

    let (database, hand) = log_database(&scene).await;
    let superuser = log_server().await.connect("postgres").await.unwrap();
    let block = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
    superuser.batch_execute(&block).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = $1";
    superuser.query(end, &[&database]).await.unwrap();
    answers(&process, 503, "not ready: the audit log can't be used").await;
    let answer = scene.asks(ANA, "show 1").await.plain();
    assert!(
        answer.contains("The audit log can't be read (the audit log's store can't be used: "),
        "{answer}"
    );
    superuser.batch_execute(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true")).await.unwrap();
    answers(&process, 200, "ready").await;

    hand.batch_execute("BEGIN; LOCK TABLE countersign.instances").await.unwrap();
    answers(&process, 503, "not ready: the audit log does not answer").await;
    hand.batch_execute("COMMIT").await.unwrap();
    answers(&process, 200, "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_logs_that_it_waits_for_a_migration() {
    let scene = scene_on_one_log(Twist::default()).await;
    let (_, hand) = log_database(&scene).await;
    hand.batch_execute("SELECT pg_advisory_lock(1129531214, 0)").await.unwrap();
    let waiting = "SELECT l.virtualtransaction FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()";
    let releasing = async {
        let attempt = async || hand.query_opt(waiting, &[]).await.unwrap().map(|row| row.get::<_, String>(0));
        let first = found("an attempt", &attempt).await;
        found("another attempt", async || attempt().await.filter(|attempt| *attempt != first)).await;
        hand.batch_execute("SELECT pg_advisory_unlock(1129531214, 0)").await.unwrap();
    };
    let (process, ()) = tokio::join!(Process::start(&scene), releasing);
    answers(&process, 200, "ready").await;
    let versions = KnownSchema::CURRENT.migrations.len();
    for (message, times) in [
        ("waiting for another replica, which migrates the audit log's schema", 1),
        ("migrating the audit log's schema by one version", versions),
        ("migrated the audit log's schema by one version", versions),
    ] {
        assert_eq!(process.logged(message).len(), times, "{message}: {}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_taken_for_dead_is_not_ready_until_it_registers_again() {
    let counter = Counter::new("ready").await;
    let acts = counter.looks();
    let commands = vec![("counted.sql", acts.as_str())];
    let scene = scene_on_one_log(Twist { commands, instead: vec![PATIENT], ..Twist::default() }).await;
    let process = Process::start(&scene).await;
    answers(&process, 200, "ready").await;
    let record = shared_log(&scene).await;

    // A run of its own keeps it from registering again.
    let held = counter.held().await;
    scene.say(ANA, "counted --env production").await;
    counter.is_waited_for().await;
    let run = becomes(&record, "counted", RunState::Running).await;
    let (_, hand) = log_database(&scene).await;
    let mark = "SELECT countersign.mark_dead(i.id, i.beat) FROM countersign.instances i JOIN countersign.runs r ON r.owner = i.id
                 WHERE r.id = $1";
    let dead = "SELECT i.id FROM countersign.instances i JOIN countersign.runs r ON r.owner = i.id WHERE r.id = $1 AND i.is_dead";
    found("the mark", async || {
        hand.query(mark, &[&run.id]).await.unwrap();
        hand.query_opt(dead, &[&run.id]).await.unwrap()
    })
    .await;
    answers(&process, 503, "not ready: the other replicas have taken this one for dead").await;
    held.batch_execute("COMMIT").await.unwrap();
    let other = Process::start(&scene).await;
    answers(&other, 200, "ready").await;
    becomes(&record, "counted", RunState::Stopped).await;
    answers(&process, 200, "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_told_to_end_serves_on_though_it_is_not_ready() {
    let counter = Counter::new("serves_on").await;
    let looks = counter.looks();
    let commands = vec![("counted.sql", looks.as_str())];
    let delay = ("[store]", "shutdown_delay = \"5m\"\n[store]");
    let scene =
        Scene::without_bot(Twist { commands, instead: vec![delay, PATIENT], ..Twist::default() }).await;
    let process = Process::start(&scene).await;
    answers(&process, 200, "ready").await;
    process.terminate();
    answers(&process, 503, "not ready: it is shutting down").await;
    let answer = scene.asks(ANA, "counted --env production").await;
    assert!(answer.plain().contains("Counted 0."), "{}", answer.plain());

    // What runs is interrupted by the second signal.
    let _held = counter.held().await;
    scene.say(ANA, "counted --env staging").await;
    counter.is_waited_for().await;
    process.terminate();
    assert_eq!(process.end().await.code(), Some(1));
}
