//! Two bots on one audit log that share a Redis: what they gain by it, and that they lose nothing but speed with it.

use crate::backup::locked;
use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::process::kinds;
use crate::redis_server::RedisServer;
use crate::replicas::scene_on_one_log;
use countersign::app::App;
use countersign::bootstrap;
use countersign::demo::fake_slack::Message;
use countersign::demo::harness::Bot;
use countersign::model::RunState;
use countersign::preflight::{self, CheckContext, CheckStatus};
use countersign::store::Filter;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const CHANGE_CHANNEL: &str = "countersign:change";
const TURN_OF_CHANNEL: &str = "countersign:turn:slack-messages:C0INCIDENT";

/// A scene whose configuration has the server as `[redis]`.
async fn scene_with(redis: &RedisServer, servers: &'static Servers) -> Scene {
    let section = format!("\n[redis]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"off\"\n", redis.port);
    scene_on_one_log(Twist { more: &section, servers: Some(servers), ..Twist::default() }).await
}

/// Waits until so many bots listen.
async fn listeners(redis: &RedisServer, count: i64) {
    found(&format!("{count} bots on Redis"), async || {
        let subscribers: (String, i64) = redis.command(&["PUBSUB", "NUMSUB", CHANGE_CHANNEL]).await;
        (subscribers.1 == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_one_bot_is_seen_and_stopped_through_the_other() {
    // Every command, with its arguments.
    let logged = [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "100000")];
    let redis = RedisServer::start(&logged).await;
    let scene = scene_with(&redis, Servers::alone(80).await).await;
    let (first, second) = (scene.stage.bot().await.unwrap(), scene.stage.bot().await.unwrap());
    listeners(&redis, 2).await;
    let blocker = locked(&scene).await;
    scene.workspace().connect_bot(&first.url);
    let card = scene.asks(ANA, "backup asset-service --env staging").await;

    scene.workspace().connect_bot(&second.url);
    let jobs = found("the progress at the other bot", async || {
        let jobs = scene.asks(BEN, "jobs").await.plain();
        jobs.contains("asset_service_db").then_some(jobs)
    });
    let jobs = jobs.await;
    assert!(jobs.contains("backup asset-service"), "{jobs}");

    let sent: Vec<redis::Value> = redis.command(&["SLOWLOG", "GET", "-1"]).await;
    let sent = format!("{sent:?}");
    assert!(sent.contains(TURN_OF_CHANNEL) && sent.contains("asset_service_db"), "{sent}");
    for secret in ["U0ANA", "U0BEN", "'ana'", "SELECT", "COPY"] {
        assert!(!sent.contains(secret), "{secret} was sent: {sent}");
    }
    for key in redis.command::<Vec<String>>(&["KEYS", "*"]).await {
        let expires: i64 = redis.command(&["PTTL", &key]).await;
        assert_ne!(expires, -1, "{key} stays for ever");
    }

    let run = runs(&scene, "backup").await.pop().expect("a run");
    scene.say(BEN, &format!("stop {}", run.id)).await;
    scene.until(&card.at(), "Stopped: no backup was made").await;
    drop(blocker);
    found("no progress of an ended run", async || {
        let jobs = scene.asks(BEN, "jobs").await.plain();
        jobs.contains("No runs are in progress.").then_some(())
    })
    .await;
}

/// The card of a request of ana's.
async fn kill_card(scene: &Scene, pid: i32) -> Message {
    let card = scene.asks(ANA, &format!("kill {pid} --env production --reason \"it blocks\"")).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    card
}

async fn runs(scene: &Scene, command: &str) -> Vec<countersign::model::Run> {
    let store = bootstrap::open_store(&scene.stage.checked().unwrap()).await.unwrap();
    let filter = Filter { command: Some(command.to_owned()), ..Filter::default() };
    store.list(filter).await.unwrap().runs
}

async fn assemble(scene: &Scene) -> App {
    bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_the_turn_that_another_bot_took() {
    const TAKEN: Duration = Duration::from_secs(3);
    let redis = RedisServer::start(&[]).await;
    let scene = scene_with(&redis, Servers::alone(60).await).await;
    let _bot = scene.stage.bot().await.unwrap();
    listeners(&redis, 1).await;
    let (_session, pid) = scene.session("asset-worker-7").await;
    let taken_at = Instant::now();
    let milliseconds = TAKEN.as_millis().to_string();
    let _: String = redis.command(&["SET", TURN_OF_CHANNEL, "", "PX", &milliseconds]).await;
    kill_card(&scene, pid).await;
    assert!(taken_at.elapsed() >= TAKEN, "posted after {:?}", taken_at.elapsed());
}

/// Two bots on one audit log.
struct Replicas {
    scene: Scene,
    first: Bot,
    second: Bot,
}

impl Replicas {
    /// Ana requests through one bot, and ben approves through the other.
    async fn kills_a_session_once(&self, what: &str) {
        let scene = &self.scene;
        let (_session, pid) = scene.session("asset-worker-7").await;
        scene.workspace().connect_bot(&self.first.url);
        let card = kill_card(scene, pid).await;
        let approving = scene.workspace().with_bot(&self.second.url);
        assert!(approving.click_button(BEN, &card.at(), "Approve").await.ok(), "{what}");
        let done = scene.until(&card.at(), &format!("Session {pid} ended")).await;
        assert!(
            done.plain().contains("approved by ben") && done.buttons().is_empty(),
            "{what}: {}",
            done.plain()
        );
        assert!(!scene.is_there(pid).await, "{what}");
        let newest = runs(scene, "kill").await.into_iter().max_by_key(|run| run.id).expect("a run");
        assert_eq!(newest.state, RunState::Succeeded, "{what}");
        assert_eq!(kinds(&newest), ["requested", "approved", "started", "succeeded"], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_or_with_a_broken_one_a_request_is_carried_out_once() {
    let mut redis = RedisServer::start(&[]).await;
    let scene = scene_with(&redis, Servers::alone(80).await).await;
    let (first, second) = (scene.stage.bot().await.unwrap(), scene.stage.bot().await.unwrap());
    let replicas = Replicas { scene, first, second };
    listeners(&redis, 2).await;

    let _: String = redis.command(&["FLUSHALL"]).await;
    replicas.kills_a_session_once("flushed").await;

    // Whoever can write there writes what no bot does.
    let _: i64 = redis.command(&["DEL", TURN_OF_CHANNEL]).await;
    let _: i64 = redis.command(&["LPUSH", TURN_OF_CHANNEL, "not a turn"]).await;
    for message in
        ["", "{}", "{\"replica\":\"x\",\"runs\":[{\"run\":1,\"percent\":300,\"label\":\"<!channel>\"}]}"]
    {
        let _: i64 = redis.command(&["PUBLISH", "countersign:progress", message]).await;
    }
    replicas.kills_a_session_once("forged").await;

    redis.signal("STOP");
    replicas.kills_a_session_once("hanging").await;
    redis.signal("CONT");
    listeners(&redis, 2).await;

    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    replicas.kills_a_session_once("full").await;
    warns(&replicas.scene, "Redis is full: it takes no more writes", "maxmemory").await;
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;

    let _: String = redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    replicas.kills_a_session_once("a replica").await;
    warns(&replicas.scene, "Redis is a replica, which takes no writes", "[redis.sentinel]").await;
    let _: String = redis.command(&["REPLICAOF", "NO", "ONE"]).await;

    redis.kill();
    replicas.kills_a_session_once("stopped").await;
    warns(&replicas.scene, "Redis can't be reached", "start the server").await;
    redis.start_again().await;
    listeners(&redis, 2).await;
    replicas.kills_a_session_once("started again").await;
    let turns: Vec<String> = redis.command(&["KEYS", "countersign:check"]).await;
    assert_eq!(turns.len(), 1, "the bots use it again");
}

/// `countersign check` warns of Redis in those words, and fails for nothing but what else is missing.
async fn warns(scene: &Scene, words: &str, fix: &str) {
    let app = assemble(scene).await;
    let context = CheckContext {
        config: &app.config,
        catalog: &app.catalog,
        environments: &app.environments,
        access: &app.access,
        schedule: &app.schedule,
    };
    let report = preflight::check(&context, Some(countersign::config::ConfigPart::Host)).await;
    let findings: HashMap<_, _> = report
        .sections
        .iter()
        .flat_map(|(_, findings)| findings)
        .map(|finding| (&*finding.subject, finding))
        .collect();
    let finding = findings["Redis"];
    let said = format!("{} {}", finding.subject, finding.details);
    assert_eq!(finding.status, CheckStatus::Optional, "{said}");
    assert!(said.contains(words), "{said}");
    assert!(finding.fix.as_deref().is_some_and(|advice| advice.contains(fix)), "{:?}", finding.fix);
}
