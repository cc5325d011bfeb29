//! `kill`: asked by one, approved by another, the very session ended, the record there.

use crate::harness::{ANA, BEN, CARA, DAN, Scene, Twist, found, servers};
use countersign::model::RunState;
use countersign::store::Store;

/// The card of a kill that ana asked for.
async fn asked(scene: &Scene, pid: i32) -> countersign::demo::fake_slack::Message {
    let card = scene.asks(ANA, &format!("kill {pid} --env production --reason \"blocks the deploy\"")).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    card
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_person_ends_exactly_that_session() {
    let scene = Scene::usual().await;
    let (victim, pid) = scene.session("asset-worker-7").await;
    let (bystander, other) = scene.session("asset-worker-8").await;
    let lock = format!("SELECT pg_advisory_lock({pid})");
    victim.simple_query(&lock).await.unwrap();
    let waits = tokio::spawn(async move {
        let locked = bystander.simple_query(&lock).await;
        (bystander, locked)
    });
    let superuser = servers().await.cluster.connect("postgres").await.unwrap();
    let waiting = "SELECT FROM pg_locks WHERE pid = $1 AND NOT granted";
    found("the wait", async || superuser.query(waiting, &[&other]).await.unwrap().pop()).await;
    let card = asked(&scene, pid).await;
    let shown = card.plain();
    for words in ["PRODUCTION", "ana", "asset-worker-7", "blocks the deploy", "Impact", &pid.to_string()] {
        assert!(shown.contains(words), "{words} is missing:\n{shown}");
    }
    assert!(scene.is_there(pid).await, "nothing may happen before the approval");

    let told = scene.is_told(ANA, &card.at(), "Approve").await;
    assert!(told.plain().contains("somebody else has to decide"), "{}", told.plain());
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA));
    assert!(scene.is_there(pid).await);

    scene.click_button(BEN, &card.at(), "Approve").await;
    let done = scene.until(&card.at(), &format!("Session {pid} ended")).await;
    assert!(done.buttons().is_empty(), "a decided card has no buttons: {}", done.plain());
    assert!(done.plain().contains("approved by ben"), "{}", done.plain());
    let told = format!("Session {pid} ended. The session behind it is no longer blocked.");
    assert!(done.plain().contains(&told), "{}", done.plain());
    let (_bystander, locked) = waits.await.unwrap();
    locked.unwrap();
    assert!(!scene.is_there(pid).await);
    assert!(scene.is_there(other).await, "nobody else may be hurt");
    assert!(victim.simple_query("SELECT 1").await.is_err());

    let runs = scene.runs_of("kill").await;
    assert_eq!(runs.len(), 1);
    let kinds: Vec<&str> = runs[0].events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["requested", "approved", "started", "succeeded"]);
    assert_eq!(runs[0].text("reason"), Some("blocks the deploy"));
    let verified = scene.store().verify().await.unwrap();
    assert_eq!(verified.first_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_approve_changes_nothing() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = asked(&scene, pid).await;
    for (who, words) in [(DAN, "no role that approves"), ("U0NOBODY", "not in Countersign's list")] {
        for button in ["Approve", "Deny"] {
            let told = scene.is_told(who, &card.at(), button).await;
            assert!(told.plain().contains(words), "{who} {button}: {}", told.plain());
        }
    }
    let told = scene.is_told(CARA, &card.at(), "Withdraw").await;
    assert!(told.plain().contains("Only ana can withdraw"), "{}", told.plain());
    assert!(scene.is_there(pid).await);
    let run = scene.runs_of("kill").await.remove(0);
    assert_eq!((run.state, run.version), (RunState::Pending, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_when_nobody_could_approve() {
    let scene =
        Scene::with(Twist { instead: vec![("approve = [\"danger\"]", "approve = []")], ..Twist::default() })
            .await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let told = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    assert!(told.plain().contains("no other person can approve it"), "{}", told.plain());
    assert!(scene.runs_of("kill").await.is_empty());
    assert!(scene.is_there(pid).await);
}
