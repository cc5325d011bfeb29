//! A change of the configuration opens what waits to nobody new, and shuts out at once whoever it takes a role from.

use crate::harness::{ANA, BEN, CARA, DAN, Scene, Twist};
use crate::process::kinds;

const NOT_THEN: &str = "You weren't an approver when this was requested";

/// Asked before the change and after it: who is new decides only the second.
async fn counts_from_the_next_request_on(mut scene: Scene, who: &str, (old, new): (&str, &str)) {
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let (_other, spared) = scene.session("asset-worker-8").await;
    let card = scene.kill_card(pid).await;
    scene.edit_config(old, new);
    scene.restart().await;
    scene.is_refused(who, &card.at(), ("Approve", NOT_THEN)).await;
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested"]);
    assert!(scene.is_there(pid).await);

    let anew = scene.kill_card(spared).await;
    scene.click_button(who, &anew.at(), "Approve").await;
    scene.until(&anew.at(), &format!("Session {spared} ended")).await;
    assert!(scene.is_there(pid).await);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_given_later_approves_what_is_asked_later() {
    let roles = ("roles = [\"observer\"]", "roles = [\"observer\", \"approver\"]");
    counts_from_the_next_request_on(Scene::usual().await, DAN, roles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_dropped_later_narrows_what_was_asked_before() {
    let groups = "groups = { approver = \"S0APPROVERS\" }\n";
    let with_groups = format!("{groups}signing_secrets = [{{ env");
    let twist = Twist { instead: vec![("signing_secrets = [{ env", &with_groups)], ..Twist::default() };
    let scene = Scene::with(twist).await;
    scene.workspace().set_group("S0APPROVERS", &[BEN]);
    counts_from_the_next_request_on(scene, CARA, (groups, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_away_counts_no_longer() {
    let mut scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.edit_config(
        "slack = [\"U0BEN\"]\nroles = [\"approver\"]",
        "slack = [\"U0BEN\"]\nroles = [\"observer\"]",
    );
    scene.restart().await;
    scene.is_refused(BEN, &card.at(), ("Approve", "no role that approves")).await;
    scene.is_refused(BEN, &card.at(), ("Deny", "no role that approves")).await;
    let waiting = scene.asks(ANA, "pending").await.plain();
    assert!(waiting.contains("cara") && !waiting.contains("ben"), "{waiting}");
    assert!(scene.is_there(pid).await);
    scene.click_button(CARA, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
}
