//! A team's webhook: told of what waits, of what still waits, and of what somebody did alone.

use crate::harness::{ANA, Scene, Twist, found};
use axum::Json;
use axum::http::StatusCode;
use countersign::demo::fake_slack::Fault;
use countersign::model::RunState;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A webhook's address, and what it hears; it is down for the first `refusals` times.
pub async fn listen(refusals: usize) -> (String, Arc<Mutex<Vec<Value>>>) {
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&heard);
    let page = move |body: Json<Value>| async move {
        let mut kept = kept.lock().unwrap();
        kept.push(body.0);
        if kept.len() <= refusals { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/page", listener.local_addr().unwrap());
    tokio::spawn(
        axum::serve(listener, axum::Router::new().route("/page", axum::routing::post(page))).into_future(),
    );
    (url, heard)
}

/// The section of the configuration; [`listen`]'s address is the secret `WEBHOOK_URL`.
pub const SECTION: &str = "\n[webhook]\nurl = { env = \"WEBHOOK_URL\" }\n\n";

/// A bot with a webhook, and what that hears.
async fn paged(more: &str, instead: Vec<(&str, &str)>, refusals: usize) -> (Scene, Arc<Mutex<Vec<Value>>>) {
    let (url, heard) = listen(refusals).await;
    let more = format!("{SECTION}{more}");
    let mut scene = Scene::without_bot(Twist { more: &more, instead, ..Twist::default() }).await;
    scene.stage.secrets.insert("WEBHOOK_URL".to_owned(), url);
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    (scene, heard)
}

pub async fn pages(heard: &Mutex<Vec<Value>>, number: usize) -> Vec<Value> {
    found("the pages", async || {
        let heard = heard.lock().unwrap().clone();
        (heard.len() >= number).then_some(heard)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_of_what_waits_and_again_if_it_was_down() {
    let (scene, heard) = paged("", Vec::new(), 1).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.kill_card(pid).await;
    let paged = pages(&heard, 2).await.remove(1);
    assert_eq!(paged["event"], "waiting");
    assert_eq!(paged["asked"], format!("kill {pid}"));
    assert_eq!((&paged["environment"], &paged["production"]), (&"production".into(), &true.into()));
    assert_eq!(paged["people"], json!(["ben", "cara"]));
    assert_eq!(paged["reason"], "blocks the deploy");
    assert!(paged["text"].as_str().unwrap().contains("ana requested kill"), "{paged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_told_of_a_request_whose_card_was_refused() {
    let (scene, heard) = paged("", Vec::new(), 0).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("chat.postMessage", Fault::Error("restricted_action"));
    scene.say(ANA, &format!("kill {pid} --env production")).await;
    scene.until_state("kill", RunState::Invalidated).await;
    scene.workspace().fault("chat.postMessage", Fault::Clear);
    scene.kill_card(pid).await;
    let paged = pages(&heard, 1).await;
    assert_eq!(paged.iter().map(|page| page["run"].clone()).collect::<Vec<_>>(), [json!(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_twice_more_of_what_still_waits() {
    let soon = ("wait = \"30m\"", "wait = \"30m\"\nremind_after = \"1s\"");
    let (scene, heard) = paged("", vec![soon], 0).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.kill_card(pid).await;
    let pages = pages(&heard, 3).await;
    let mut events: Vec<&str> = pages.iter().map(|page| page["event"].as_str().unwrap()).collect();
    events.sort_unstable();
    assert_eq!(events, ["still_waiting", "still_waiting", "waiting"]);
    for page in &pages {
        assert_eq!((&page["run"], &page["requester"]), (&json!(1), &json!("ana")), "{page}");
        assert!(page["text"].as_str().unwrap().contains("ben, cara can approve it"), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_of_what_somebody_did_alone() {
    let role = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
    let (scene, heard) = paged("[break_glass]\nrole = \"last-resort\"\n", vec![role], 0).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody else is awake\"");
    scene.asks(ANA, &line).await;
    let page = pages(&heard, 1).await.remove(0);
    assert_eq!((&page["event"], &page["production"]), (&json!("acted_alone"), &json!(true)));
    assert_eq!(page["reason"], "nobody else is awake");
    let text = format!("ana ran break-glass kill {pid} on production without approval (#1).");
    assert_eq!(page["text"], text);
}
