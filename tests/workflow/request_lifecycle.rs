//! What becomes of a request: decided once, in time, on the plan that was shown, and on nothing else.

use crate::harness::{ANA, BEN, CARA, Scene, Twist};
use countersign::chat::slack::SlackPlatform;
use countersign::demo::fake_slack;
use countersign::demo::harness::INCIDENT;
use countersign::model::{
    ChatAccount, ChatEvent, ChatEventKind, Conversation, EventKind, PlatformKind, RunState,
};
use countersign::store::Store;
use countersign::workflow::Workflow;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_decided_stays_decided_and_says_by_whom_and_when() {
    let scene = Scene::usual().await;
    for (decider, button, kind) in
        [(BEN, "Deny", "denied"), (ANA, "Withdraw", "withdrawn"), (BEN, "Approve", "approved")]
    {
        let (_victim, pid) = scene.session("asset-worker-7").await;
        let card = scene.kill_card(pid).await;
        scene.click_button(decider, &card.at(), button).await;
        let shown = scene.until(&card.at(), &format!("{kind} by ")).await;
        assert!(shown.button("Approve").is_none(), "{}", shown.plain());
        let name = if decider == ANA { "ana" } else { "ben" };
        for late in ["Approve", "Deny"] {
            let before = scene.count(CARA);
            assert!(scene.workspace().click_stale_button(CARA, &card, late).await.ok());
            let told = scene.next(CARA, before, "who was faster").await.plain();
            assert!(told.contains(&format!("already decided: {kind} by {name} at 20")), "{told}");
        }
        if kind == "approved" {
            scene.until(&card.at(), " ended.").await;
        }
        assert_eq!(scene.is_there(pid).await, kind != "approved");
        let run = scene.runs_of("kill").await.remove(0);
        let decisions = run
            .events
            .iter()
            .filter(|event| ["approved", "denied", "withdrawn"].contains(&event.kind.as_str()));
        assert_eq!(decisions.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clicks_at_once_decide_once() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let workspace = scene.workspace();
    let (a, b, c) = tokio::join!(
        workspace.click_stale_button(BEN, &card, "Approve"),
        workspace.click_stale_button(CARA, &card, "Approve"),
        workspace.click_stale_button(BEN, &card, "Approve"),
    );
    assert!(a.ok() && b.ok() && c.ok());
    scene.until(&card.at(), " ended.").await;
    let run = scene.only_run("kill").await;
    let kinds: Vec<&str> = run.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["requested", "approved", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_requester_withdraws_and_only_what_waits() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let run = scene.only_run("kill").await.id;
    for who in [BEN, CARA] {
        scene.refused(who, &format!("withdraw {run}"), "is ana's").await;
    }
    let told = scene.asks(ANA, &format!("withdraw #{run}")).await;
    assert!(told.plain().contains(&format!("Request #{run} is withdrawn")), "{}", told.plain());
    let shown = scene.until(&card.at(), "Withdrawn by ana").await;
    assert!(shown.button("Approve").is_none(), "{}", shown.plain());
    scene.refused(ANA, &format!("withdraw {run}"), "isn't pending").await;
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_decides_expires_by_itself() {
    let scene =
        Scene::with(Twist { instead: vec![("wait = \"30m\"", "wait = \"5s\"")], ..Twist::default() }).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let shown = scene.until(&card.at(), "Expired: the request was not decided in time").await;
    assert!(shown.button("Approve").is_none(), "{}", shown.plain());
    assert_eq!(scene.only_run("kill").await.state, RunState::Expired);
    let before = scene.count(BEN);
    assert!(scene.workspace().click_stale_button(BEN, &card, "Approve").await.ok());
    let told = scene.next(BEN, before, "a refusal").await.plain();
    assert!(told.contains("already decided: expired by Countersign"), "{told}");
    assert!(scene.is_there(pid).await);
}

/// The bot, with nobody beside it to notice what is overdue.
async fn without_a_keeper(scene: &mut Scene) -> Arc<Workflow> {
    drop(scene.bot.take());
    let config = scene.stage.checked().unwrap();
    let slack = SlackPlatform::new(config.chat.slack.as_ref().unwrap()).unwrap();
    Workflow::new(countersign::bootstrap::assemble(config).await.unwrap(), vec![Arc::new(slack)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_after_the_deadline_is_too_late_even_if_nobody_noticed_yet() {
    let mut scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let flow = without_a_keeper(&mut scene).await;
    assert_eq!(scene.tampers("UPDATE runs SET deadline = 5 WHERE command = 'kill'"), 1);
    let workspace = fake_slack::TEAM.to_owned();
    let conversation = Conversation {
        platform: PlatformKind::Slack,
        workspace: workspace.clone(),
        id: INCIDENT.to_owned(),
        thread: None,
    };
    let sender = ChatAccount {
        platform: PlatformKind::Slack,
        workspace,
        account: BEN.to_owned(),
        name: "ben".to_owned(),
    };
    let event = ChatEventKind::Button { token: Scene::token(&card, "Approve"), message: card.ts.clone() };
    let before = scene.count(BEN);
    flow.handle(ChatEvent { delivery: "late".to_owned(), sender, conversation, handle: None, event }).await;
    let told = scene.next(BEN, before, "a refusal").await.plain();
    assert!(told.contains("This request has expired"), "{told}");
    let run = scene.only_run("kill").await;
    assert!(run.event(EventKind::Approved).is_none() && run.event(EventKind::Started).is_none(), "{run:?}");
    assert!(scene.is_there(pid).await);
    scene.until(&card.at(), "Expired: the request was not decided in time").await;
}

/// Asks, changes something behind the bot's back, lets ben approve, and expects that nothing was done.
async fn voided(tampering: &str, words: &str) {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let (_bystander, other) = scene.session("asset-worker-8").await;
    let card = scene.kill_card(pid).await;
    let sql = tampering.replace("{pid}", &pid.to_string()).replace("{other}", &other.to_string());
    assert_eq!(scene.tampers(&sql), 1, "{sql}");
    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), words).await;
    assert!(shown.plain().contains("Nothing was done"), "{}", shown.plain());
    assert_eq!(scene.only_run("kill").await.state, RunState::Invalidated);
    assert!(scene.is_there(pid).await && scene.is_there(other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_changed_in_the_store_is_not_carried_out() {
    voided(
        "UPDATE event_texts SET text = replace(text, '\"{pid}\"', '\"{other}\"') WHERE name = 'plan'",
        "no longer the one that was shown",
    )
    .await;
    voided("UPDATE event_texts SET text = '{}' WHERE name = 'plan'", "The plan can't be read").await;
}

const TIDY: &str = "/*\nsummary = \"Tidies up\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"database\"\nlogin = \"operator\"\n\
    args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"whose\" }]\n\
    example = \"tidy asset-service\"\n*/\nSELECT count(*) FROM pg_class";

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_file_changed_since_it_was_asked_for_does_not_run() {
    let mut scene = Scene::with(Twist { commands: vec![("tidy.sql", TIDY)], ..Twist::default() }).await;
    let ask = "tidy asset --env staging";
    let card = scene.card(ANA, ask).await;
    assert!(card.plain().contains("SELECT count(*) FROM pg_class"), "shown whole: {}", card.plain());
    let file = scene.directory.path().join("commands/tidy.sql");
    std::fs::write(&file, TIDY.replace("pg_class", "pg_attribute")).unwrap();
    scene.restart().await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "has changed since the request").await;
    let run = scene.only_run("tidy").await;
    assert_eq!(run.state, RunState::Revoked, "{}", shown.plain());
    assert!(run.event(EventKind::Started).is_none());
    let card = scene.card(ANA, ask).await;
    std::fs::remove_file(&file).unwrap();
    scene.restart().await;
    scene.is_refused(BEN, &card.at(), ("Approve", "no role that approves")).await;
    std::fs::write(&file, TIDY.replace("pg_class", "pg_attribute")).unwrap();
    scene.restart().await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ran on ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_too_large_to_be_shown_whole_is_refused_at_once() {
    let long = format!("{TIDY} WHERE relname <> '{}'", "x".repeat(20_000));
    let scene = Scene::with(Twist { commands: vec![("tidy.sql", &long)], ..Twist::default() }).await;
    let told = scene.asks(ANA, "tidy asset --env staging").await.plain();
    assert!(told.contains("The plan doesn't fit into one message"), "{told}");
    assert!(told.contains("12,000"), "it says how much may be shown: {told}");
    assert!(
        told.contains("Request less at once") && told.contains("file"),
        "it says how to narrow it: {told}"
    );
    assert!(scene.runs_of("tidy").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_frozen_nothing_is_asked_approved_or_done_and_looking_goes_on() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.refused(ANA, "unfreeze", "Nothing is frozen").await;
    let told = scene.asks(BEN, "freeze --reason \"incident 42\"").await.plain();
    assert!(told.contains("All changes are frozen"), "who may only approve can freeze too: {told}");
    scene.refused(CARA, "freeze", "ben has already frozen all changes").await;
    for line in [format!("kill {pid} --env production"), format!("cancel {pid} --env production")] {
        let told = scene.asks(ANA, &line).await.plain();
        assert!(told.contains("ben froze all changes at") || told.contains("runs no statement"), "{told}");
    }
    scene.is_refused(BEN, &card.at(), ("Approve", "ben froze all changes at")).await;
    assert_eq!(scene.only_run("kill").await.state, RunState::Pending);
    let looked = scene.asks(ANA, "blocked --env production").await.plain();
    assert!(looked.contains("wait"), "{looked}");
    let lift = scene.card(ANA, "unfreeze").await;
    scene.is_refused(ANA, &lift.at(), ("Approve", "somebody else has to decide")).await;
    assert!(scene.store().frozen().await.unwrap().is_some());
    scene.click_button(BEN, &lift.at(), "Approve").await;
    scene.until(&lift.at(), "The freeze is lifted").await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_plan_and_asks_nobody() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let told = scene.asks(ANA, &format!("kill {pid} --env production --dry-run")).await;
    let shown = told.plain();
    for words in [
        "Dry run: nothing was executed and no approval was requested",
        "asset-worker-7",
        "Impact",
        "Runs only if",
    ] {
        assert!(shown.contains(words), "{words} is missing:\n{shown}");
    }
    assert!(told.button("Approve").is_none() && !shown.contains("<@"), "{shown}");
    let told = scene.asks(ANA, &format!("kill {pid} --env production --dry-run --private")).await;
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA));
    scene.refused(ANA, "blocked --env production --dry-run", "it has no dry run").await;
    scene.asks(ANA, "freeze --dry-run").await;
    assert!(scene.store().frozen().await.unwrap().is_none());
    assert_eq!(scene.runs_in_all().await, 0);
    assert!(scene.is_there(pid).await);
}
