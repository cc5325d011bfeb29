//! A button's token: from its own place, on its own message, and meaning what the store says and nothing else.

use crate::harness::{ANA, BEN, Scene};
use crate::helpers::{Click, elsewhere};
use countersign::model::RunState;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_only_on_the_message_and_in_the_conversation_it_was_posted_in() {
    let scene = Scene::usual().await;
    let (_first, pid) = scene.session("asset-worker-7").await;
    let (_second, other) = scene.session("asset-worker-8").await;
    let card = scene.kill_card(pid).await;
    let another = scene.kill_card(other).await;
    let token = Scene::token(&card, "Approve");
    for (on, words) in [
        (elsewhere(&card, "C0DATABASE"), "belongs to another conversation"),
        (another.at(), "isn't the card that was delivered"),
    ] {
        let told = scene.forged_click(Click { who: BEN, home: None, token: &token, on: &on }).await;
        assert!(told.contains(words), "{told}");
    }
    assert!(scene.runs_of("kill").await.iter().all(|run| run.state == RunState::Pending));
    assert!(scene.is_there(pid).await && scene.is_there(other).await);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    assert!(scene.is_there(other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_is_nothing_and_a_relabelled_button_stays_what_it_was() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    for token in ["0".repeat(32), String::from("1"), String::from("' OR 1=1 --"), "x".repeat(2_000)] {
        let told = scene.forged_click(Click { who: BEN, home: None, token: &token, on: &card.at() }).await;
        assert!(told.contains("no longer known"), "{told}");
    }
    assert_eq!(scene.only_run("kill").await.version, 1);
    // The label, the style and the order are the sender's to forge; the meaning is not.
    let mut relabelled = card.clone();
    let blocks = serde_json::to_string(&relabelled.blocks).unwrap();
    let (approve, deny) = (Scene::token(&card, "Approve"), Scene::token(&card, "Deny"));
    relabelled.blocks = serde_json::from_str(&blocks.replace(&approve, &deny)).unwrap();
    assert!(scene.workspace().click_stale_button(BEN, &relabelled, "Approve").await.ok());
    scene.until(&card.at(), "Denied by ben").await;
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rows_button_belongs_to_its_conversation_too() {
    let scene = Scene::usual().await;
    scene.asks(ANA, "use production").await;
    let menu = scene.asks(ANA, "").await;
    let token = Scene::token(&menu, "blocked");
    let on = elsewhere(&menu, "C0DATABASE");
    let runs = scene.runs_in_all().await;
    let told = scene.forged_click(Click { who: ANA, home: None, token: &token, on: &on }).await;
    assert!(told.contains("belongs to another conversation"), "{told}");
    assert_eq!(scene.runs_in_all().await, runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_was_not_wholly_delivered_approves_nothing() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    assert_eq!(scene.tampers("UPDATE cards SET message = NULL WHERE kind = 'primary'"), 1);
    scene.is_refused(BEN, &card.at(), ("Approve", "isn't delivered yet")).await;
    assert_eq!(scene.only_run("kill").await.state, RunState::Pending);
    scene.click_button(ANA, &card.at(), "Withdraw").await;
    scene.until_state("kill", RunState::Withdrawn).await;
    assert!(scene.is_there(pid).await);
}
