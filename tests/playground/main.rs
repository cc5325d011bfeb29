//! The first scene in a client of Microsoft's own, its Agents Playground, in Chromium: no line of what shows the cards is ours.

#[path = "../bot/mod.rs"]
mod bot;
mod client;
#[path = "../pretend_teams/mod.rs"]
mod pretend_teams;
mod relay;

use bot::{Bot, Twist, found};
use client::Playground;
use countersign::demo::sample::Incident;
use countersign::store::Store;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scene_is_played_in_microsofts_own_client() {
    let Some(program) = client::installed() else { return };
    let bot = Arc::new(Bot::start(Twist::default()).await);
    let incident = Incident::start(&bot.servers.cluster, &bot.servers.team).await.expect("an incident");
    let pids = incident.pids();
    let playground = Playground::start(&program, Arc::clone(&bot)).await;
    let midway = async || {
        assert!(bot.is_there(pids.head).await, "nothing may happen before the approval");
        assert_eq!(bot.events_of("kill").await, ["requested"]);
    };
    playground.plays(pids.head, midway).await;
    found("the head to be gone", async || (!bot.is_there(pids.head).await).then_some(())).await;
    assert!(bot.is_there(pids.report).await, "nobody else's session was ended");
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
    let runs = bot.runs(Some("kill")).await;
    assert_eq!(runs[0].text("reason"), Some("blocks the deploy"));
    assert_eq!(bot.store().verify().await.expect("the record").broken, None);
}
