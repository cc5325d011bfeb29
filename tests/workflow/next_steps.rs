//! Next steps: what an answer advises is a whole line to type, and a button for whoever may run it.

use crate::harness::{ANA, BEN, DAN, Scene, Servers, Twist};
use countersign::model::RunState;

const LINKS: &str =
    "[[links]]\nlabel = \"Log\"\nabout = \"session\"\nurl = \"https://logs.example/{environment}/{pid}\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn from_a_finding_to_the_card_it_is_one_line_and_two_taps() {
    // Nobody else's incident stands in the answers.
    let servers = Some(Servers::alone(60).await);
    let scene = Scene::with(Twist { servers, more: LINKS, ..Twist::default() }).await;
    let (holder, pid) = scene.session("asset-worker-7").await;
    holder.batch_execute("BEGIN; LOCK TABLE assets IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (victim, _) = scene.session("asset-api").await;
    let waiting = tokio::spawn(async move { victim.batch_execute("SELECT FROM assets").await });
    let is_blocked = "SELECT FROM pg_locks WHERE NOT granted";
    let superuser = scene.superuser().await;
    crate::harness::found("a session that waits", async || {
        superuser.query_opt(is_blocked, &[]).await.unwrap()
    })
    .await;

    let finding = scene.asks(ANA, "health --env production").await;
    let typed = "/db blocked --env production shows the root blocker";
    assert!(finding.plain().contains(typed), "{}", finding.plain());
    let queue = scene.is_told(ANA, &finding.at(), "Blocked").await;
    assert!(queue.plain().contains(&format!("/db kill {pid} --env production")), "{}", queue.plain());
    let label = format!("Kill {pid}…");
    let kills = queue.buttons().into_iter().filter(|button| button.label == label).count();
    assert_eq!(kills, 1, "one button for one step: {}", queue.plain());
    let card = scene.is_told(ANA, &queue.at(), &label).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
    assert!(!scene.is_there(pid).await);
    waiting.await.unwrap().unwrap();
    assert_eq!(scene.only_run("kill").await.state, RunState::Succeeded);

    // Dan may look and not kill.
    let (holder, pid) = scene.session("asset-worker-7").await;
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let is_idle =
        "SELECT FROM pg_stat_activity WHERE pid = $1 AND clock_timestamp() - state_change > interval '1 s'";
    crate::harness::found("an idle session", async || superuser.query_opt(is_idle, &[&pid]).await.unwrap())
        .await;
    let seen = scene.asks(DAN, "idle --over 1s --env production").await;
    assert!(seen.plain().contains(&pid.to_string()), "{}", seen.plain());
    let labels: Vec<String> = seen.buttons().into_iter().map(|button| button.label.clone()).collect();
    assert!(!labels.iter().any(|label| label.starts_with("Kill")), "{labels:?}");
    assert!(seen.button(&format!("Log {pid}")).is_some(), "{}", seen.plain());
    let address = format!("https://logs.example/production/{pid}");
    assert!(serde_json::json!(seen.blocks).to_string().contains(&address), "{}", seen.plain());
    let seen = scene.asks(ANA, "idle --over 1s --env production").await;
    assert!(seen.button(&format!("Kill {pid}…")).is_some(), "{}", seen.plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refusal_advises_is_one_tap_away() {
    let servers = Some(Servers::alone(60).await);
    let scene = Scene::with(Twist { servers, more: LINKS, ..Twist::default() }).await;
    let asked = scene.asks(ANA, "sizes asset").await;
    let typed = "/db sizes asset-service --env production or /db sizes asset-service --env staging";
    assert!(asked.plain().contains(typed), "{}", asked.plain());
    let answer = scene.is_told(ANA, &asked.at(), "Sizes asset-service --env staging").await;
    assert!(answer.plain().contains("ana requested sizes asset-service on 🟢 staging"), "{}", answer.plain());
    // What was typed besides would be lost.
    let asked = scene.asks(ANA, "kill 4711 --reason stuck").await;
    assert!(asked.buttons().is_empty() && asked.plain().contains("Add --env"), "{}", asked.plain());

    scene.asks(ANA, "use production").await;
    let asked = scene.asks(ANA, "bloked").await;
    assert!(asked.plain().contains("Did you mean /db blocked?"), "{}", asked.plain());
    let answer = scene.is_told(ANA, &asked.at(), "Blocked").await;
    assert!(answer.plain().contains("requested blocked on 🔴 PRODUCTION"), "{}", answer.plain());
    // Where the environment is set, it isn't typed.
    let answer = scene.asks(ANA, "sizes").await;
    assert!(answer.plain().contains("/db sizes <service> shows"), "{}", answer.plain());

    // A command that acts is no next step where only its name is given: the refusal is about it.
    let refused = scene.asks(DAN, "backup asset").await;
    assert!(refused.plain().contains("You may not run `backup`"), "{}", refused.plain());
    let labels: Vec<String> = refused.buttons().into_iter().map(|button| button.label.clone()).collect();
    assert_eq!(labels, ["Help"]);
    assert!(scene.runs_of("backup").await.is_empty());
}
