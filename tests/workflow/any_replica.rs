//! Any replica takes any request and any click: what one of them knows, the others know.

use crate::harness::{ANA, BEN, CARA, Twist, found};
use crate::process::{Counter, PATIENT, Process, becomes, kinds};
use crate::replicas::{scene_on_one_log, shared_log};
use countersign::demo::fake_slack::Workspace;
use countersign::demo::harness::INCIDENT;
use countersign::model::{EventKind, RunState};
use std::collections::BTreeMap;

/// Types a command at a replica, and waits for what it says.
async fn asks(workspace: &Workspace, who: &str, line: &str, words: &str) -> String {
    let seen = workspace.visible_messages(who, INCIDENT).len();
    let ack = workspace.say(who, INCIDENT, &format!("/db {line}")).await;
    assert!(ack.ok(), "{line}: {ack:?}");
    let answered = workspace.wait_for(line, |workspace| {
        let new = workspace.visible_messages(who, INCIDENT).into_iter().skip(seen);
        new.map(|message| message.plain()).find(|text| text.contains(words))
    });
    answered.await.unwrap_or_else(|why| panic!("{why}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_one_replica_is_seen_and_stopped_through_another() {
    let counter = Counter::new("any_replica").await;
    let acts = counter.acts();
    let commands = vec![("count.sql", acts.as_str())];
    let scene = scene_on_one_log(Twist { commands, instead: vec![PATIENT], ..Twist::default() }).await;
    let record = shared_log(&scene).await;
    let (first, second) = (Process::start(&scene).await, Process::start(&scene).await);
    let (a, b) = (first.of(&scene), second.of(&scene));

    scene.workspace().connect_bot(&first.url);
    let card = scene.asks(ANA, "count --env production").await;
    let pending = asks(&b, BEN, "pending", "count").await;
    assert!(pending.contains("1 request is waiting") && pending.contains("ana"), "{pending}");
    assert!(b.open_home(BEN).await.ok());
    let home = b.wait_for("the home", |workspace| {
        workspace.home(BEN).filter(|home| home.plain().contains("1 request is waiting for you."))
    });
    assert!(home.await.unwrap_or_else(|why| panic!("{why}")).plain().contains("count"));

    let held = counter.held().await;
    assert!(a.click_button(BEN, &card.at(), "Approve").await.ok());
    counter.is_waited_for().await;
    let run = becomes(&record, "count", RunState::Running).await;
    let jobs = asks(&b, CARA, "jobs", "in progress").await;
    assert!(jobs.contains("1 run in progress") && jobs.contains(&format!("#{}", run.id)), "{jobs}");

    let told = asks(&b, CARA, &format!("stop {}", run.id), "has ended").await;
    assert!(told.contains(&format!("Run #{} has ended: stopped.", run.id)), "{told}");
    held.batch_execute("COMMIT").await.unwrap();
    let run = becomes(&record, "count", RunState::Stopped).await;
    assert_eq!(kinds(&run), ["requested", "approved", "started", "stop_requested", "stopped"]);
    let by = run.event(EventKind::StopRequested).and_then(|event| event.by.clone()).expect("who stopped it");
    assert_eq!(by.id, "cara");
    scene.until(&card.at(), "Stopped and rolled back").await;
    assert!(counter.is_quiet().await);
    assert_eq!(counter.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_and_a_button_of_one_replica_are_taken_by_another() {
    let scene = scene_on_one_log(Twist::default()).await;
    let record = shared_log(&scene).await;
    let (first, second) = (Process::start(&scene).await, Process::start(&scene).await);
    let (a, b) = (first.of(&scene), second.of(&scene));
    let (_victim, pid) = scene.session("asset-worker-7").await;

    scene.workspace().connect_bot(&first.url);
    let form = scene.opens(ANA, "kill").await;
    scene.workspace().connect_bot(&second.url);
    scene.submits(ANA, &form, &[("env", "production")]).await;
    let form = scene.workspace().modal(ANA).expect("the second step");
    scene.workspace().connect_bot(&first.url);
    let offered = scene.offers(ANA, &form, "pid", "asset-worker-7").await;
    assert!(offered.iter().any(|(value, _)| *value == pid.to_string()), "{offered:?}");
    scene.workspace().connect_bot(&second.url);
    let before = scene.count(ANA);
    let values = [("pid", pid.to_string()), ("reason", "it blocks".to_owned())];
    let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
    scene.submits(ANA, &form, &values).await;
    let card = scene.next(ANA, before, "the card").await;
    // The same submission once more, at the other: it is told so, and opens nothing.
    let again = a.submit_modal(ANA, &form, &values).await;
    assert!(again.body.contains("submitted already"), "{again:?}");

    let clicks = [(BEN, &a), (CARA, &b)].map(|(who, workspace)| {
        let card = card.clone();
        async move { workspace.click_stale_button(who, &card, "Approve").await }
    });
    for ack in futures::future::join_all(clicks).await {
        assert!(ack.ok(), "{ack:?}");
    }
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
    let run = becomes(&record, "kill", RunState::Succeeded).await;
    assert_eq!(kinds(&run), ["requested", "approved", "started", "succeeded"]);
    assert!(!scene.is_there(pid).await);
}

/// Slack delivers through one of an app's sockets.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_sockets_answer_each_command_once() {
    let scene = scene_on_one_log(Twist { socket_mode: true, ..Twist::default() }).await;
    let (_first, second) = (scene.stage.bot().await.unwrap(), scene.stage.bot().await.unwrap());
    let sockets = async |count| {
        found("the sockets", async || (scene.workspace().open_sockets() == count).then_some(())).await
    };
    sockets(2).await;
    let mut answers = BTreeMap::new();
    for line in ["sizes --env staging", "sizes --env production"] {
        let answer = scene.asks(ANA, line).await;
        *answers.entry(line).or_insert(0) += 1;
        assert!(answer.plain().contains("databases take"), "{}", answer.plain());
    }
    // The other socket goes on when the one that got them closes.
    drop(second);
    sockets(1).await;
    let answer = scene.asks(ANA, "sizes --env staging").await;
    assert!(answer.plain().contains("databases take"), "{}", answer.plain());
    assert_eq!(scene.count(ANA), 3);
}
