//! Bots whose clock is nearly five minutes off, which is as far as Slack's signatures allow: deadlines are the audit log's to judge.

use crate::harness::{ANA, BEN, Twist, found};
use crate::process::{Process, becomes, kinds};
use crate::replicas::{log_database, scene_on_one_log, shared_log};
use countersign::model::RunState;

#[path = "../servers/shifted.rs"]
#[expect(dead_code, reason = "the servers' clocks are right here")]
pub mod shifted;

const OFF_S: i64 = 280;

const USUAL: &str = "wait = \"30m\"\nstart_within = \"10m\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_whose_clock_is_ahead_expires_nothing_early() {
    let instead = vec![(USUAL, "wait = \"4m\"\nstart_within = \"4m\"")];
    let scene = scene_on_one_log(Twist { instead, ..Twist::default() }).await;
    let _bot = Process::start_with_clock(&scene, OFF_S).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.asks(ANA, &format!("kill {pid} --env production --reason \"it blocks\"")).await;

    // It looks for overdue requests more often than it beats.
    let (_, hand) = log_database(&scene).await;
    let beats = "SELECT max(beat) FROM countersign.instances";
    let before: i64 = hand.query_one(beats, &[]).await.unwrap().get(0);
    found("two beats", async || {
        (hand.query_one(beats, &[]).await.unwrap().get::<_, i64>(0) >= before + 2).then_some(())
    })
    .await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
    assert!(!scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_whose_clock_is_behind_starts_nothing_expired() {
    let instead = vec![(USUAL, "wait = \"5s\"\nstart_within = \"5s\"")];
    let scene = scene_on_one_log(Twist { instead, ..Twist::default() }).await;
    let bot = Process::start_with_clock(&scene, -OFF_S).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.asks(ANA, &format!("kill {pid} --env production --reason \"it blocks\"")).await;
    let (_, hand) = log_database(&scene).await;
    let is_overdue = "SELECT deadline <= clock_timestamp() FROM countersign.runs WHERE command = 'kill'";
    found("the deadline", async || {
        hand.query_one(is_overdue, &[]).await.unwrap().get::<_, bool>(0).then_some(())
    })
    .await;
    bot.of(&scene).click_stale_button(BEN, &card, "Approve").await;
    let run = becomes(&shared_log(&scene).await, "kill", RunState::Expired).await;
    assert_eq!(kinds(&run), ["requested", "expired"]);
    assert!(scene.is_there(pid).await);
}
