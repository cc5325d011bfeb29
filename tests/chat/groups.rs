//! A user group of the chat narrows a role and never widens it.

use crate::process::kinds;
use crate::scene::{ANA, BEN, CARA, DAN, Scene, Twist};
use countersign::demo::slack::Fault;

const GROUP: &str = "S0APPROVERS";

async fn narrowed(members: &[&str]) -> Scene {
    let groups = "groups = { approver = \"S0APPROVERS\" }\nsigning_secrets = [{ env";
    let scene =
        Scene::with(Twist { instead: vec![("signing_secrets = [{ env", groups)], ..Twist::default() }).await;
    scene.workspace().set_group(GROUP, members);
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_role_and_is_not_in_the_group_approves_nothing() {
    // Dan is in the group and has no role.
    let scene = narrowed(&[BEN, DAN]).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.is_refused(CARA, &card.at(), ("Approve", "counts only in its group")).await;
    scene.is_refused(DAN, &card.at(), ("Approve", "no role that approves")).await;
    assert!(scene.is_there(pid).await);
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested"]);
    scene.clicks(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), "is gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_group_leaves_nobody_to_ask() {
    let scene = narrowed(&[]).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.refused(ANA, &format!("kill {pid} --env production"), "Nobody but you could approve this").await;
    assert!(scene.runs_of("kill").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_can_tell_who_is_in_it_nothing_is_asked_or_decided() {
    let scene = narrowed(&[BEN, CARA]).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("usergroups.", Fault::Status(503));
    let line = format!("kill {pid} --env production");
    scene.refused(ANA, &line, "can't tell now who is in the approvers' group").await;
    scene.workspace().fault("usergroups.", Fault::Clear);
    let card = scene.kill_card(pid).await;
    assert_eq!(scene.runs_of("kill").await.len(), 1);

    // Another process, which has asked nobody yet.
    let mut scene = scene;
    scene.restart().await;
    scene.workspace().fault("usergroups.", Fault::Status(503));
    scene.is_refused(BEN, &card.at(), ("Approve", "countersign run")).await;
    assert!(scene.is_there(pid).await);
    scene.workspace().fault("usergroups.", Fault::Clear);
    scene.clicks(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), "is gone").await;
}
