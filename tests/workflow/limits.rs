//! What Slack allows is shared: by runs that show how far they are, and by processes that send the same copies.

use crate::harness::{ANA, BEN, CARA, Scene, Servers, Twist, found};
use crate::maintenance_harness::make;
use countersign::chat::slack::SlackPlatform;
use countersign::demo::fake_slack::{self, Fault, Settings};
use countersign::demo::harness::INCIDENT;
use countersign::demo::postgres::Options;
use countersign::demo::sample::Sample;
use countersign::model::{ChatAccount, ChatEvent, ChatEventKind, Conversation, PlatformKind, RunState};
use countersign::store::Store;
use countersign::workflow::Workflow;
use std::sync::Arc;
use std::time::Duration;

/// A server of its own, where tables are maintained: REINDEX waits for whatever is older in its database.
async fn server() -> &'static Servers {
    let sample = Sample { maintainer: true, ..Sample::light() };
    let (cluster, team) = sample.start(Options::default()).await.expect("a server with the sample");
    Box::leak(Box::new(Servers { cluster, team }))
}

/// Typed by ana.
fn typed(line: String) -> ChatEvent {
    let workspace = fake_slack::TEAM.to_owned();
    let (platform, account) = (PlatformKind::Slack, ANA.to_owned());
    let conversation =
        Conversation { platform, workspace: workspace.clone(), id: INCIDENT.to_owned(), thread: None };
    let sender = ChatAccount { platform, workspace, account, name: "ana".to_owned() };
    ChatEvent {
        delivery: line.clone(),
        sender,
        conversation,
        handle: None,
        event: ChatEventKind::Command(line.as_str().into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_long_jobs_at_once_show_how_far_they_are_within_what_slack_allows() {
    let patient = ("connections = 12", "connections = 12\nlock_timeout = \"8s\"");
    let workspace = Settings { tier_burst: Some(1), ..Settings::default() };
    let servers = Some(server().await);
    let twist = Twist { servers, workspace: Some(workspace), instead: vec![patient], ..Twist::default() };
    let scene = Scene::without_bot(twist).await;
    let config = scene.stage.checked().unwrap();
    let slack = SlackPlatform::new(config.chat.slack.as_ref().unwrap()).unwrap();
    let flow = Workflow::new(countersign::bootstrap::assemble(config).await.unwrap(), vec![Arc::new(slack)]);
    let mut held = Vec::new();
    for service in ["asset-service", "user-service", "auth-service"] {
        let client =
            scene.servers.cluster.connect(&crate::maintenance_harness::database(service)).await.unwrap();
        make(&client, service, "big").await;
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM \"User\"")
            .await
            .unwrap();
        held.push(client);
        let (flow, incoming) = (Arc::clone(&flow), typed(format!("reindex {service} big --env production")));
        tokio::spawn(async move { flow.handle(incoming).await });
    }
    found("three that run", async || (running(&scene).await.len() == 3).then_some(())).await;
    let runs = running(&scene).await;
    let edits = |ok: bool| {
        let sent = scene.workspace().payloads();
        sent.iter().filter(|sent| sent.method == "chat.update" && sent.error.is_none() == ok).count()
    };
    let step = std::cell::Cell::new(0);
    // At every look there is something new to show.
    found("all three to show it, and several edits", async || {
        step.set(step.get() + 1);
        runs.iter().for_each(|run| flow.app.progress.set(*run, None, format!("step {}", step.get())));
        let seen = scene.workspace().visible_messages(BEN, INCIDENT);
        let moving = seen.iter().filter(|card| card.plain().contains("step ")).count();
        (edits(false) > 0 || moving == 3 && edits(true) >= 5).then_some(())
    })
    .await;
    assert_eq!(edits(false), 0, "{}", scene.workspace().transcript());
    drop(held);
    found("their end", async || running(&scene).await.is_empty().then_some(())).await;
    for card in scene.workspace().visible_messages(BEN, INCIDENT) {
        scene.until(&card.at(), "indexes are rebuilt").await;
    }
}

async fn running(scene: &Scene) -> Vec<i64> {
    let runs = scene.runs_of("reindex").await;
    runs.iter().filter(|run| run.state == RunState::Running).map(|run| run.id).collect()
}

/// A conversation that is to be opened and a message behind it: each is tried four times for ten seconds, and may be told to wait for a
/// minute.
const LONGEST: Duration = Duration::from_secs(2 * (4 * 10 + 60));

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_a_copy_has_it_for_as_long_as_that_may_take() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("chat.postMessage", Fault::Held);
    scene.say(ANA, &format!("kill {pid} --env production")).await;
    let record = rusqlite::Connection::open(scene.directory.path().join("record.db")).unwrap();
    record.busy_timeout(Duration::from_secs(30)).unwrap();
    let until = found("a claim", async || {
        let sql = "SELECT claimed_until FROM cards WHERE kind = ?1 AND claimed_until > 0";
        record.query_row(sql, ["primary"], |row| row.get::<_, i64>(0)).ok()
    })
    .await;
    let lasts = until - jiff::Timestamp::now().as_microsecond();
    assert!(u128::try_from(lasts).unwrap() > LONGEST.as_micros(), "{lasts} µs");
    scene.workspace().fault("chat.postMessage", Fault::Clear);
    for who in [BEN, CARA] {
        crate::notifications::direct(&scene, who, "Needs approval from").await;
    }
    assert_eq!(scene.store().run_cards(1).await.unwrap().len(), 4);
}
