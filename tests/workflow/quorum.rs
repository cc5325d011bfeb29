//! Several who must agree, who is told, and what a change of the policy means for what waits already.

use crate::harness::{ANA, BEN, CARA, Scene, Twist};
use crate::notifications::direct;
use crate::process::kinds;
use countersign::demo::fake_slack::{Account, Kind};
use countersign::model::{CardKind, Risk, RunState};
use countersign::store::Store;

const TWO: &str =
    "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill\"]\napprovers = 2\n";

async fn two_must() -> Scene {
    Scene::with(Twist { more: TWO, ..Twist::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_different_people_must_approve() {
    let scene = two_must().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    assert!(card.plain().contains("Needs 2 approvals from"), "{}", card.plain());

    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "1 of 2 approvals given").await;
    assert!(shown.plain().contains("approved by ben"), "{}", shown.plain());
    assert!(scene.is_there(pid).await, "one of two is not enough");
    for (who, words) in [(BEN, "You have already approved this"), (ANA, "somebody else has to decide")] {
        scene.is_refused(who, &shown.at(), ("Approve", words)).await;
    }
    assert!(scene.is_there(pid).await);

    scene.click_button(CARA, &shown.at(), "Approve").await;
    let done = scene.until(&card.at(), " ended.").await.plain();
    assert!(done.contains("approved by ben and cara"), "{done}");
    assert_eq!(
        kinds(&scene.only_run("kill").await),
        ["requested", "approval_added", "approved", "started", "succeeded"]
    );
    assert!(!scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_the_same_moment_are_both_counted() {
    let scene = two_must().await;
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
    assert_eq!(
        kinds(&scene.only_run("kill").await),
        ["requested", "approval_added", "approved", "started", "succeeded"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_who_could_are_not_asked() {
    let scene = two_must().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("kill {pid} --env production");
    scene
        .refused(
            CARA,
            &line,
            "This needs 2 approvals from others, and only ben can approve it, so it was not requested",
        )
        .await;
    assert!(scene.runs_of("kill").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refusal_ends_it_and_its_reason_is_told() {
    let scene = two_must().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), "1 of 2 approvals given").await;
    let run = scene.only_run("kill").await;
    scene.refused(ANA, &format!("deny {}", run.id), "is yours").await;
    scene.refused("U0DAN", &format!("deny {}", run.id), "You may not run").await;
    let told = scene.asks(CARA, &format!("deny {} --reason \"the report is due\"", run.id)).await.plain();
    assert!(told.contains(&format!("Request #{} is denied", run.id)), "{told}");
    let shown = scene.until(&card.at(), "Denied by cara: the report is due. Nothing was done.").await;
    assert!(shown.button("Approve").is_none(), "{}", shown.plain());
    assert!(shown.plain().contains("blocks the deploy"), "the request's own reason stays: {}", shown.plain());
    let details = format!("/db show {} shows what was requested", run.id);
    assert!(shown.plain().contains(&details), "{}", shown.plain());
    scene.is_told(ANA, &card.at(), &format!("Show {}", run.id)).await;
    assert!(scene.is_there(pid).await);
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested", "approval_added", "denied"]);
    // Whoever asks: what is over is over.
    for who in [ANA, BEN] {
        scene.refused(who, &format!("deny {}", run.id), "isn't pending").await;
        scene.refused(who, &format!("withdraw {}", run.id), "isn't pending").await;
    }
}

/// One person has two accounts: they are asked for once.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_account_of_the_same_person_counts_for_nothing() {
    let scene = Scene::with(Twist {
        more: TWO,
        instead: vec![
            ("slack = [\"U0BEN\"]", "slack = [\"U0BEN\", \"U0BEN2\"]"),
            (
                "slack = [\"U0ANA\"]\nroles = [\"on-call\"]",
                "slack = [\"U0ANA\", \"U0ANA2\"]\nroles = [\"on-call\", \"approver\"]",
            ),
        ],
        ..Twist::default()
    })
    .await;
    for (id, name) in [("U0BEN2", "ben"), ("U0ANA2", "ana")] {
        scene.workspace().add_person(Account::new(id, name, Kind::Member));
    }
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    for account in [ANA, "U0ANA2"] {
        scene.is_refused(account, &card.at(), ("Approve", "You requested this")).await;
    }
    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "1 of 2 approvals given").await;
    scene.is_refused("U0BEN2", &shown.at(), ("Approve", "You have already approved this")).await;
    assert!(scene.is_there(pid).await);
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested", "approval_added"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_agreed_first_must_still_count_at_the_start() {
    let scene = two_must().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "1 of 2 approvals given").await;
    scene.workspace().set_kind(BEN, Kind::Deactivated);
    scene.click_button(CARA, &shown.at(), "Approve").await;
    scene.until(&card.at(), "ben may no longer approve it").await;
    assert!(scene.is_there(pid).await);
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested", "approval_added", "approved", "revoked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_policies_the_stricter_counts() {
    // Asked under one, decided under two; and the other way round.
    for (before, after) in [("approvers = 1", "approvers = 2"), ("approvers = 2", "approvers = 1")] {
        let more = TWO.replace("approvers = 2", before);
        let mut scene = Scene::with(Twist { more: &more, ..Twist::default() }).await;
        let (_victim, pid) = scene.session("asset-worker-7").await;
        let card = scene.kill_card(pid).await;
        scene.edit_config(before, after);
        scene.restart().await;
        scene.click_button(BEN, &card.at(), "Approve").await;
        let shown = scene.until(&card.at(), "1 of 2 approvals given").await;
        assert!(scene.is_there(pid).await, "{before} → {after}");
        scene.click_button(CARA, &shown.at(), "Approve").await;
        scene.until(&card.at(), " ended.").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_time_to_decide_counts_at_once() {
    let mut scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.edit_config("wait = \"30m\"", "wait = \"1ms\"");
    scene.restart().await;
    scene.is_refused(BEN, &card.at(), ("Approve", "This request has expired")).await;
    assert!(scene.is_there(pid).await);
    assert_eq!(scene.only_run("kill").await.state, RunState::Expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_at_once_elsewhere_waits_where_a_rule_says_so() {
    let rule = "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"backup\"]\nsecond_person = true\n";
    let scene = Scene::with(Twist { more: rule, ..Twist::default() }).await;
    let card = scene.card(ANA, "backup asset-service --env production").await;
    assert_eq!(scene.only_run("backup").await.request.risk, Risk::Danger);
    assert!(!scene.directory.path().join("backups/production").exists());
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), "is backed up").await;
    let before = scene.count(ANA);
    scene.say(ANA, "backup asset-service --env staging").await;
    let free = scene.next(ANA, before, "a backup that asks nobody").await;
    scene.until(&free.at(), "is backed up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_are_told_directly_and_the_requester_hears_the_outcome() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let told = direct(&scene, BEN, "Needs approval from").await;
    assert!(told.plain().contains("PRODUCTION") && told.button("Approve").is_some(), "{}", told.plain());
    direct(&scene, CARA, "Needs approval from").await;
    for nobody in [ANA, "U0DAN"] {
        let theirs = scene.workspace().visible_messages(nobody, &scene.workspace().dm_channel(nobody));
        assert!(theirs.is_empty(), "{theirs:?}");
    }
    let store = scene.store();
    crate::harness::found("the copy to be noted", async || {
        let cards = store.run_cards(1).await.expect("the copies");
        cards.iter().any(|card| card.message.as_ref() == Some(&told.ts)).then_some(())
    })
    .await;
    scene.click_button(BEN, &told.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    let told = scene.until(&told.at(), " ended.").await;
    assert!(told.button("Approve").is_none(), "{}", told.plain());
    let heard = direct(&scene, ANA, " ended.").await;
    assert!(
        heard.plain().contains("approved by ben") && heard.button("Approve").is_none(),
        "{}",
        heard.plain()
    );
    let kinds: Vec<CardKind> = store.run_cards(1).await.unwrap().iter().map(|card| card.kind).collect();
    let number = |kind| kinds.iter().filter(|known| **known == kind).count();
    assert_eq!((number(CardKind::Primary), number(CardKind::Direct), number(CardKind::Outcome)), (1, 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_called_for_twice_more() {
    let scene = Scene::with(Twist {
        instead: vec![("wait = \"30m\"", "wait = \"30m\"\nremind_after = \"1s\"")],
        ..Twist::default()
    })
    .await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let reminders = |scene: &Scene| -> Vec<String> {
        let posted = scene.sent("chat.postMessage");
        let below = posted.iter().filter(|body| body["thread_ts"] == card.ts.as_str());
        below.map(|body| body.to_string()).collect()
    };
    crate::harness::found("two reminders", async || (reminders(&scene).len() == 2).then_some(())).await;
    let last = reminders(&scene).pop().unwrap();
    assert!(last.contains("Needs approval from") && last.contains("U0BEN"), "{last}");
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested", "reminded", "reminded"]);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    assert_eq!(reminders(&scene).len(), 2);
}
