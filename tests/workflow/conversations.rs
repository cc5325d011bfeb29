//! Where an answer goes, and of which environment it speaks: bindings, threads, private answers, shared conversations.

use crate::harness::{ANA, BEN, Scene, Servers, Twist};
use crate::helpers::share;
use countersign::demo::fake_slack::{self, Channel};
use countersign::demo::harness::INCIDENT;

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_default_environment_and_each_conversation_has_its_own() {
    let mut scene = Scene::usual().await;
    scene.refused(ANA, "blocked", "Which environment?").await;
    let told = scene.asks(ANA, "blocked").await.plain();
    assert!(
        told.contains("--env production") && told.contains("--env staging") && told.contains("use"),
        "{told}"
    );
    scene.asks(ANA, "use staging").await;
    let told = scene.asks(ANA, "blocked").await.plain();
    assert!(told.contains("on 🟢 staging"), "{told}");
    let told = scene.asks(ANA, "blocked --env production").await.plain();
    assert!(told.contains("on 🔴 PRODUCTION"), "a named environment counts more: {told}");
    let other = async |scene: &Scene, line: &str| {
        let seen = scene.workspace().visible_messages(ANA, "C0DATABASE").len();
        scene.says_in(ANA, "C0DATABASE", line).await;
        let find = |workspace: &countersign::demo::fake_slack::Workspace| {
            workspace.visible_messages(ANA, "C0DATABASE").into_iter().nth(seen)
        };
        scene.workspace().wait_for(line, find).await.unwrap().plain()
    };
    let told = other(&scene, "blocked").await;
    assert!(told.contains("Which environment?"), "another conversation is not bound: {told}");
    other(&scene, "use production").await;
    assert!(other(&scene, "blocked").await.contains("PRODUCTION"));
    scene.restart().await;
    let told = scene.asks(ANA, "blocked").await.plain();
    assert!(told.contains("on 🟢 staging"), "bindings outlive the process: {told}");
    let told = scene.asks(ANA, "use Production").await.plain();
    assert!(told.contains("now uses production"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_menu_offers_what_works() {
    // Nobody else's incident stands in the answers.
    let servers = Some(Servers::alone(60).await);
    let scene = Scene::with(Twist { servers, ..Twist::default() }).await;
    scene.asks(ANA, "use staging").await;
    let menu = scene.asks(ANA, "").await;
    assert_eq!(menu.ephemeral_to.as_deref(), Some(ANA));
    assert!(menu.button("blocked").is_some(), "{}", menu.plain());
    for button in menu.buttons() {
        let told = scene.is_told(ANA, &menu.at(), &button.label).await.plain();
        assert!(told.contains(&format!("requested {}", button.label)), "{told}");
        assert!(!told.contains("no longer") && !told.contains("\n⚠️"), "{}: {told}", button.label);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mention_in_a_thread_is_answered_in_that_thread() {
    let scene = Scene::usual().await;
    scene.asks(ANA, "use staging").await;
    assert!(scene.workspace().say(BEN, INCIDENT, "the deploy hangs").await.ok());
    let start = scene.workspace().visible_messages(ANA, INCIDENT).pop().unwrap();
    let before = scene.count(ANA);
    let bot = format!("<@{}> blocked", fake_slack::BOT_USER);
    assert!(scene.workspace().mention_bot(ANA, INCIDENT, Some(&start.ts), &bot).await.ok());
    let answer = scene.next(ANA, before + 1, "an answer").await;
    assert_eq!(answer.thread_ts.as_deref(), Some(start.ts.as_str()), "{}", answer.plain());
    assert!(
        answer.plain().contains("on 🟢 staging"),
        "a thread belongs to its conversation: {}",
        answer.plain()
    );
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("kill {pid}");
    assert!(scene.workspace().mention_bot(ANA, INCIDENT, Some(&start.ts), &line).await.ok());
    let find = |workspace: &countersign::demo::fake_slack::Workspace| {
        workspace
            .visible_messages(BEN, INCIDENT)
            .into_iter()
            .find(|message| message.button("Approve").is_some())
    };
    let card = scene.workspace().wait_for("a card", find).await.unwrap();
    assert_eq!(card.thread_ts.as_deref(), Some(start.ts.as_str()));
    scene.until_noted(&card).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let done = scene.until(&card.at(), &format!("Session {pid} ended")).await;
    assert_eq!(done.thread_ts.as_deref(), Some(start.ts.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn private_is_private() {
    let scene = Scene::usual().await;
    let told = scene.asks(ANA, "blocked --env staging --private").await;
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA));
    let told = scene.asks(ANA, "use staging --private").await;
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA));
    let told = scene.asks(ANA, "blocked").await;
    assert_eq!(told.ephemeral_to, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_shared_with_another_organisation_sees_nothing_and_decides_nothing() {
    let scene = Scene::usual().await;
    share(&scene);
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let told = scene.asks(ANA, "blocked --env production").await;
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA), "{}", told.plain());
    scene.refused(ANA, &format!("kill {pid} --env production"), "shared with another organisation").await;
    let told = scene.asks(ANA, "use staging").await;
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA), "{}", told.plain());
    assert!(scene.runs_of("kill").await.is_empty());
    assert!(scene.sent("chat.postMessage").is_empty());
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_a_place_where_its_card_can_stand() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("kill {pid} --env production");
    let away = Channel { id: "C0AWAY".to_owned(), name: "away".to_owned(), ..Channel::default() };
    scene.workspace().add_channel(away);
    for (channel, words) in
        [("C0AWAY".to_owned(), "Invite it"), (scene.workspace().dm_channel(ANA), "Only you")]
    {
        let seen = scene.workspace().visible_messages(ANA, &channel).len();
        scene.says_in(ANA, &channel, &line).await;
        let find = |workspace: &countersign::demo::fake_slack::Workspace| {
            workspace.visible_messages(ANA, &channel).into_iter().nth(seen)
        };
        let told = scene.workspace().wait_for("a refusal", find).await.unwrap().plain();
        assert!(told.contains(words), "{told}");
    }
    assert!(scene.runs_of("kill").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_judged_by_its_own_limits() {
    let strict = "name = \"staging\"\nthresholds.health.connections_pct = { warning = 0, critical = 0 }";
    let mild =
        "name = \"production\"\nthresholds.health.connections_pct = { warning = 1000, critical = 1000 }";
    let instead = vec![("name = \"staging\"", strict), ("name = \"production\"", mild)];
    let twist = Twist { instead, ..Twist::default() };
    let scene = Scene::with(twist).await;
    // The same server stands behind both.
    let told = scene.asks(ANA, "health --env staging").await;
    assert!(told.plain().contains("connections are in use ("), "{}", told.plain());
    let told = scene.asks(ANA, "health --env production").await;
    assert!(!told.plain().contains("connections are in use ("), "{}", told.plain());
}
