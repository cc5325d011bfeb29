//! A request can stand in several places; each copy of its card tells what became of it.

use crate::harness::{ANA, BEN, Scene, found};
use countersign::demo::fake_slack::Message;
use countersign::demo::harness::INCIDENT;
use countersign::model::{Card, CardKind};
use countersign::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn every_copy_of_the_card_tells_the_decision() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let run = scene.only_run("kill").await;
    scene.says_in(ANA, "C0DATABASE", &format!("show {}", run.id)).await;
    let second = scene.workspace().wait_for("the second copy", |workspace| {
        workspace
            .visible_messages(BEN, "C0DATABASE")
            .into_iter()
            .find(|message| message.button("Approve").is_some())
    });
    let second = second.await.unwrap();
    assert!(second.plain().contains(&pid.to_string()), "the whole plan stands there too: {}", second.plain());

    let ack = scene.workspace().click_button(BEN, &second.at(), "Approve").await;
    assert!(ack.ok(), "{ack:?}");
    for card in [card.at(), second.at()] {
        let done = scene.until(&card, " ended.").await;
        assert!(done.buttons().is_empty(), "{}", done.plain());
        assert!(done.plain().contains("approved by ben"), "{}", done.plain());
    }
    assert!(!scene.is_there(pid).await);
    assert_eq!(
        scene.workspace().visible_messages(ANA, "C0DATABASE").len(),
        2,
        "the answer, and one card that was edited"
    );

    // What is decided is told, and asks for nothing.
    scene.says_in(ANA, "C0DATABASE", &format!("show {}", run.id)).await;
    let told = scene
        .workspace()
        .wait_for("the story", |workspace| workspace.visible_messages(BEN, "C0DATABASE").into_iter().nth(2));
    assert!(told.await.unwrap().plain().contains("succeeded"));
    assert_eq!(cards(&scene, run.id).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_not_posted_where_it_may_not_stand_and_not_without_end() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.kill_card(pid).await;
    let run = scene.only_run("kill").await;
    let count = async || cards(&scene, run.id).await.len();
    let show = format!("show {}", run.id);
    let there = scene.workspace().dm_channel(ANA);
    for (channel, line) in [(INCIDENT, format!("{show} --private")), (&there, show.clone())] {
        scene.says_in(ANA, channel, &line).await;
    }
    for shows in 1..=12 {
        scene.say(ANA, &show).await;
        let wanted = (1 + shows).min(10);
        found("one more copy", async || (count().await == wanted).then_some(())).await;
    }
    found("every answer", async || (shown(&scene, run.id) == 14).then_some(())).await;
    assert_eq!(count().await, 10);
    let places = cards(&scene, run.id).await;
    assert!(places.iter().all(|card| card.conversation.id == run.request.conversation.id));
}

/// The copies that stand in conversations; approvers have others of their own.
async fn cards(scene: &Scene, run: i64) -> Vec<Card> {
    let cards = scene.store().run_cards(run).await.unwrap();
    cards.into_iter().filter(|card| card.kind == CardKind::Primary).collect()
}

/// How many answers tell the story of that run.
fn shown(scene: &Scene, run: i64) -> usize {
    let workspace = scene.workspace();
    let seen = [INCIDENT.to_owned(), workspace.dm_channel(ANA)]
        .map(|channel| workspace.visible_messages(ANA, &channel));
    let story = |message: &&Message| {
        message.plain().contains(&format!("#{run} kill")) && message.plain().contains("Events")
    };
    seen.iter().flatten().filter(story).count()
}
