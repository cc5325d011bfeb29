//! Who may ask and who may approve: each rule alone, for a typed command, a row's button and a click on a card; and again
//! when the run starts.

use crate::harness::{ANA, BEN, CARA, DAN, Scene, Twist};
use crate::helpers::{Click, OUTSIDERS, outsiders};
use crate::process::kinds;
use countersign::demo::fake_slack::{Fault, Kind, Message};
use countersign::demo::harness::INCIDENT;
use countersign::model::{EventKind, RunState};
use countersign::store::Store;
use tokio_postgres::Client;

const NORA: &str = "U0NOBODY";

/// A session that holds a lock and one that waits for it: `blocked` offers to end the first.
struct Queue {
    _head: Client,
    head: i32,
    _waits: tokio::task::JoinHandle<()>,
}

/// `key` tells the tests' locks apart.
async fn queue(scene: &Scene, key: i64) -> Queue {
    let (head, pid) = scene.session("queue-head").await;
    head.execute("SELECT pg_advisory_lock($1)", &[&key]).await.unwrap();
    let (waiter, waiting) = scene.session("queue-waiter").await;
    let waits = tokio::spawn(async move {
        drop(waiter.execute("SELECT pg_advisory_lock($1)", &[&key]).await);
    });
    let watcher = scene.superuser().await;
    let sql = "SELECT cardinality(pg_blocking_pids($1)) > 0";
    while !watcher.query_one(sql, &[&waiting]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    Queue { _head: head, head: pid, _waits: waits }
}

/// The answer that offers to end a session, and the button's label.
async fn offer(scene: &Scene, pid: i32) -> (Message, String) {
    let answer = scene.asks(ANA, "blocked --env production").await;
    let button = format!("Kill {pid}…");
    assert!(answer.button(&button).is_some(), "no button {button}:\n{}", answer.plain());
    (answer, button)
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_outsiders_and_deactivated_accounts_get_nothing_at_any_door() {
    let scene = Scene::with(Twist { more: &outsiders(), ..Twist::default() }).await;
    for (id, name, kind, _) in OUTSIDERS {
        scene.workspace().add_person(countersign::demo::fake_slack::Account::new(id, name, kind));
    }
    let queue = queue(&scene, 8_101).await;
    let (rows, button) = offer(&scene, queue.head).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let runs = scene.runs_in_all().await;
    for (who, _, _, words) in OUTSIDERS {
        for line in ["", "blocked --env production", "freeze", &format!("kill {pid} --env production")] {
            let told = scene.forged_command(who, line).await;
            assert!(told.contains(words), "{who} {line}: {told}");
        }
        for (message, label) in [(&rows, button.as_str()), (&card, "Approve"), (&card, "Deny")] {
            let token = Scene::token(message, label);
            let click = Click { who, home: None, token: &token, on: &message.at() };
            let told = scene.forged_click(click).await;
            assert!(told.contains(words), "{who} {label}: {told}");
        }
    }
    assert_eq!(scene.runs_in_all().await, runs, "no outsider may leave a run");
    assert_eq!(scene.only_run("kill").await.state, RunState::Pending);
    assert!(scene.store().frozen().await.unwrap().is_none());
    assert!(scene.is_there(pid).await && scene.is_there(queue.head).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_organisation_is_an_outsider_even_with_a_listed_account() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let token = Scene::token(&card, "Approve");
    let click = Click { who: BEN, home: Some("T0OTHER01"), token: &token, on: &card.at() };
    let told = scene.forged_click(click).await;
    assert!(told.contains("accounts of other organisations"), "{told}");
    assert_eq!(scene.only_run("kill").await.state, RunState::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outsider_who_mentions_the_bot_in_a_shared_channel_gets_nothing() {
    let scene = Scene::with(Twist { more: &outsiders(), ..Twist::default() }).await;
    crate::helpers::share(&scene);
    scene.workspace().add_person(countersign::demo::fake_slack::Account::new("U0EVE", "eve", Kind::External));
    let before = scene.count("U0EVE");
    let ack = scene.workspace().mention_bot("U0EVE", INCIDENT, None, "blocked --env production").await;
    assert!(ack.ok(), "{ack:?}");
    let told = scene.next("U0EVE", before + 1, "a refusal").await;
    assert!(told.plain().contains("accounts of other organisations"), "{}", told.plain());
    assert_eq!(scene.runs_in_all().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_listed_gets_nothing_at_any_door() {
    let scene = Scene::usual().await;
    let queue = queue(&scene, 8_102).await;
    let (rows, button) = offer(&scene, queue.head).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let runs = scene.runs_in_all().await;
    let words = "not in Countersign's list";
    for line in ["", "nonsense", "blocked --env production", &format!("kill {pid} --env production")] {
        scene.refused(NORA, line, words).await;
    }
    scene.is_refused(NORA, &rows.at(), (&button, words)).await;
    for label in ["Approve", "Deny", "Withdraw"] {
        scene.is_refused(NORA, &card.at(), (label, words)).await;
    }
    assert_eq!(scene.runs_in_all().await, runs);
    assert_eq!(scene.only_run("kill").await.state, RunState::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_needed_to_ask_and_another_to_approve() {
    let scene = Scene::usual().await;
    let queue = queue(&scene, 8_103).await;
    let (rows, button) = offer(&scene, queue.head).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    for who in [DAN, BEN] {
        scene.refused(who, &format!("kill {pid} --env production"), "You may not run `kill`").await;
        scene.refused(who, "use staging", "You may not").await;
        scene.is_refused(who, &rows.at(), (&button, "You may not run `kill` in production")).await;
    }
    scene.is_refused(DAN, &card.at(), ("Approve", "no role that approves")).await;
    scene.is_refused(DAN, &card.at(), ("Deny", "no role that approves")).await;
    scene.refused(DAN, "freeze", "You may not run `freeze`").await;
    let looked = scene.asks(DAN, "blocked --env production").await;
    assert!(looked.plain().contains(&queue.head.to_string()), "looking is theirs: {}", looked.plain());
    assert_eq!(scene.only_run("kill").await.state, RunState::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_counts_in_its_environments_only() {
    let more = "[[access]]\nrole = \"tester\"\nenvironments = [\"staging\"]\nrun = [\"*\"]\napprove = [\"*\"]\n\n\
                [[people]]\nname = \"tess\"\nslack = [\"U0TESS\"]\nroles = [\"tester\"]\n";
    let scene = Scene::with(Twist { more, ..Twist::default() }).await;
    scene.workspace().add_person(countersign::demo::fake_slack::Account::new("U0TESS", "tess", Kind::Member));
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.refused("U0TESS", &format!("kill {pid} --env production"), "in production").await;
    let card = scene.kill_card(pid).await;
    scene.is_refused("U0TESS", &card.at(), ("Approve", "`kill` in production")).await;
    scene.click_button(ANA, &card.at(), "Withdraw").await;
    scene.until(&card.at(), "Withdrawn by ana").await;
    let card = scene.card("U0TESS", &format!("kill {pid} --env staging")).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_their_own_request_whatever_their_roles() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.card(CARA, &format!("kill {pid} --env production")).await;
    let call = card.plain();
    assert!(call.contains("Needs approval from ben within"), "cara isn't called: {call}");
    for button in ["Approve", "Deny"] {
        scene.is_refused(CARA, &card.at(), (button, "somebody else has to decide")).await;
    }
    assert_eq!(scene.only_run("kill").await.version, 1);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_account_is_still_the_same_person() {
    let instead = vec![("slack = [\"U0CARA\"]", "slack = [\"U0CARA\", \"U0CARA2\"]")];
    let scene = Scene::with(Twist { instead, ..Twist::default() }).await;
    scene.workspace().add_person(countersign::demo::fake_slack::Account::new(
        "U0CARA2",
        "cara",
        Kind::Member,
    ));
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.card(CARA, &format!("kill {pid} --env production")).await;
    scene.is_refused("U0CARA2", &card.at(), ("Approve", "somebody else has to decide")).await;
    assert!(scene.is_there(pid).await);
}

/// Asks, changes something, lets ben approve, and expects the approval to count no longer.
async fn revoked(mut scene: Scene, change: impl FnOnce(&mut Scene), restarts: bool) -> String {
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    change(&mut scene);
    if restarts {
        scene.restart().await;
    }
    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "was revoked").await;
    let run = scene.only_run("kill").await;
    assert_eq!(run.state, RunState::Revoked, "{}", shown.plain());
    assert!(run.event(EventKind::Started).is_none());
    assert!(scene.is_there(pid).await);
    assert!(shown.button("Approve").is_none(), "{}", shown.plain());
    shown.plain()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_who_was_deactivated_meanwhile_counts_no_longer() {
    let scene = Scene::usual().await;
    let told = revoked(scene, |scene| scene.workspace().set_kind(ANA, Kind::Deactivated), false).await;
    assert!(told.contains("requester's account"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_who_lost_the_role_meanwhile_counts_no_longer() {
    let scene = Scene::usual().await;
    let lose = |scene: &mut Scene| {
        scene.edit_config(
            "slack = [\"U0ANA\"]\nroles = [\"on-call\"]",
            "slack = [\"U0ANA\"]\nroles = [\"observer\"]",
        );
    };
    let told = revoked(scene, lose, true).await;
    assert!(told.contains("may no longer run"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_who_left_the_list_meanwhile_counts_no_longer() {
    let scene = Scene::usual().await;
    let leave = |scene: &mut Scene| scene.edit_config("slack = [\"U0ANA\"]", "slack = [\"U0ANA2\"]");
    let told = revoked(scene, leave, true).await;
    assert!(told.contains("requester's account"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_whose_account_became_somebody_elses_counts_no_longer() {
    let scene = Scene::usual().await;
    let rename = |scene: &mut Scene| {
        scene.edit_config("name = \"ana\"\nslack = [\"U0ANA\"]", "name = \"anton\"\nslack = [\"U0ANA\"]");
    };
    let told = revoked(scene, rename, true).await;
    assert!(told.contains("requester"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_became_a_guest_a_moment_ago_does_not_act_at_once() {
    let role = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
    let twist =
        Twist { more: "[break_glass]\nrole = \"last-resort\"\n", instead: vec![role], ..Twist::default() };
    let scene = Scene::with(twist).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    // Slack's report on the account is fresh enough for everything that reads.
    scene.asks(ANA, "health --env production").await;
    scene.workspace().set_kind(ANA, Kind::Guest);
    for line in ["cancel", "break-glass kill"] {
        let line = format!("{line} {pid} --env production --reason \"alone\"");
        scene.refused(ANA, &line, "isn't available to guest accounts").await;
    }
    assert!(scene.is_there(pid).await);
    assert!(scene.runs_of("kill").await.is_empty() && scene.runs_of("cancel").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_deactivated_a_moment_ago_decides_nothing_and_the_request_waits_for_others() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    // Slack's report on each of them is a moment old.
    for who in [ANA, BEN] {
        scene.asks(who, "health --env production").await;
        scene.workspace().set_kind(who, Kind::Deactivated);
    }
    for (who, button) in [(BEN, "Approve"), (BEN, "Deny"), (ANA, "Withdraw")] {
        let token = Scene::token(&card, button);
        let told = scene.forged_click(Click { who, home: None, token: &token, on: &card.at() }).await;
        assert!(told.contains("isn't available to deactivated accounts"), "{button}: {told}");
    }
    for (who, line) in [(BEN, "deny 1"), (BEN, "stop 1"), (ANA, "withdraw 1"), (ANA, "freeze")] {
        let told = scene.forged_command(who, line).await;
        assert!(told.contains("isn't available to deactivated accounts"), "{line}: {told}");
    }
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested"]);
    assert!(scene.store().frozen().await.unwrap().is_none());
    scene.workspace().set_kind(ANA, Kind::Member);

    scene.asks(CARA, "health --env production").await;
    scene.workspace().fault("users.info U0CARA", Fault::Error("token_expired"));
    let words = "isn't set up to look up accounts in this chat, so nothing was executed";
    scene.is_refused(CARA, &card.at(), ("Approve", words)).await;
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested"]);
    assert!(scene.is_there(pid).await);
    scene.workspace().fault("users.info U0CARA", Fault::Clear);
    scene.click_button(CARA, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
}
