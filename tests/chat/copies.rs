//! A request can stand in several places; each copy of its card tells what became of it.

use crate::scene::{ANA, BEN, Scene};
use countersign::message::Place;
use countersign::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn every_copy_of_the_card_tells_the_decision() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let run = scene.only_run("kill").await;
    let there = Place { conversation: "C0DATABASE".to_owned(), ..run.request.place.clone() };
    scene.store().add_copy(run.id, there).await.unwrap();
    let second = scene.workspace().wait_for("the second copy", |workspace| {
        workspace.visible(BEN, "C0DATABASE").into_iter().find(|message| message.button("Approve").is_some())
    });
    let second = second.await.unwrap();
    assert!(second.plain().contains(&pid.to_string()), "the whole plan stands there too: {}", second.plain());

    let ack = scene.workspace().clicks(BEN, &second.at(), "Approve").await;
    assert!(ack.ok(), "{ack:?}");
    for copy in [card.at(), second.at()] {
        let done = scene.until(&copy, "is gone").await;
        assert!(done.buttons().is_empty(), "{}", done.plain());
        assert!(done.plain().contains("approved by ben"), "{}", done.plain());
    }
    assert!(!scene.is_there(pid).await);
    assert_eq!(scene.workspace().visible(ANA, "C0DATABASE").len(), 1, "one message, edited");
}
