//! A user group of the chat narrows a role and never widens it.

use crate::harness::{ANA, BEN, CARA, DAN, Scene, Twist};
use crate::notifications::{direct, directly};
use crate::process::kinds;
use countersign::demo::fake_slack::{Fault, Kind};
use countersign::model::{CardKind, RunState};
use countersign::store::Store;

const GROUP: &str = "S0APPROVERS";
const NOT_IN_IT: &str = "requires membership in its chat group, and you aren't a member";

async fn narrowed(members: &[&str]) -> Scene {
    let scene = narrows("approver", Twist::default()).await;
    scene.workspace().set_group(GROUP, members);
    scene
}

/// A role that counts in the group only, whose members are still to be set.
async fn narrows(role: &str, twist: Twist<'_>) -> Scene {
    let groups = format!("groups = {{ {role} = \"{GROUP}\" }}\nsigning_secrets = [{{ env");
    let Twist { more, instead: mut replaced, .. } = twist;
    replaced.push(("signing_secrets = [{ env", &groups));
    Scene::with(Twist { more, instead: replaced, ..Twist::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_role_and_is_not_in_the_group_approves_nothing_and_is_not_called() {
    // Dan is in the group and has no role.
    let scene = narrowed(&[BEN, DAN]).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    assert!(!card.plain().contains("U0CARA"), "{}", card.plain());
    let cards = scene.store().run_cards(1).await.unwrap();
    assert_eq!(cards.iter().filter(|card| card.kind == CardKind::Direct).count(), 1);
    direct(&scene, BEN, "Needs approval from").await;
    assert!(directly(&scene, CARA).is_empty() && directly(&scene, DAN).is_empty());

    scene.is_refused(CARA, &card.at(), ("Approve", NOT_IN_IT)).await;
    scene.is_refused(CARA, &card.at(), ("Deny", NOT_IN_IT)).await;
    // What is typed counts no more, whatever other roles let somebody type it.
    scene.refused(CARA, "deny 1 --reason \"no need\"", NOT_IN_IT).await;
    scene.is_refused(DAN, &card.at(), ("Approve", "no role that approves")).await;
    assert!(scene.is_there(pid).await);
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested"]);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_in_the_group_reviews_nothing() {
    let role = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
    let twist =
        Twist { more: "[break_glass]\nrole = \"last-resort\"\n", instead: vec![role], ..Twist::default() };
    let scene = narrows("approver", twist).await;
    scene.workspace().set_group(GROUP, &[BEN]);
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.asks(ANA, &format!("break-glass kill {pid} --env production --reason \"alone\"")).await;
    scene.until(&card.at(), " ended.").await;
    scene.until_state("kill", RunState::Succeeded).await;
    scene.refused(CARA, "review 1", NOT_IN_IT).await;
    assert_eq!(kinds(&scene.only_run("kill").await), ["started", "succeeded"]);
    let told = scene.asks(BEN, "review 1").await.plain();
    assert!(told.contains("Run #1 is reviewed"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_asks_is_narrowed_too_when_it_is_asked_and_when_it_starts() {
    let mut scene = narrows("on-call", Twist::default()).await;
    scene.workspace().set_group(GROUP, &[CARA]);
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.refused(ANA, &format!("kill {pid} --env production"), NOT_IN_IT).await;
    assert!(scene.runs_of("kill").await.is_empty());

    scene.workspace().set_group(GROUP, &[ANA]);
    scene.restart().await;
    let card = scene.kill_card(pid).await;
    scene.workspace().set_group(GROUP, &[CARA]);
    scene.restart().await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), "the requester may no longer run it").await;
    assert_eq!(scene.only_run("kill").await.state, RunState::Revoked);
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_acts_alone_is_narrowed_too() {
    let role = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
    let twist =
        Twist { more: "[break_glass]\nrole = \"last-resort\"\n", instead: vec![role], ..Twist::default() };
    let mut scene = narrows("last-resort", twist).await;
    scene.workspace().set_group(GROUP, &[BEN]);
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody is awake\"");
    scene.refused(ANA, &line, "Your role last-resort requires membership in its chat group").await;
    assert!(scene.is_there(pid).await && scene.runs_of("kill").await.is_empty());
    scene.workspace().set_group(GROUP, &[ANA]);
    scene.restart().await;
    let card = scene.asks(ANA, &line).await;
    scene.until(&card.at(), " ended.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_group_leaves_nobody_to_ask_and_is_named() {
    let scene = narrowed(&[]).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let told = scene.asks(ANA, &format!("kill {pid} --env production")).await.plain();
    assert!(told.contains("no other person can approve it, so it was not requested."), "{told}");
    assert!(told.contains("aren't in the role's chat group"), "{told}");
    assert!(!told.contains("in the configuration"), "nothing is wrong with it: {told}");
    assert!(scene.runs_of("kill").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_no_longer_count_leave_nobody_to_ask() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    for who in [BEN, CARA] {
        scene.workspace().set_kind(who, Kind::Deactivated);
    }
    let told = scene.asks(ANA, &format!("kill {pid} --env production")).await.plain();
    assert!(told.contains("no other person can approve it, so it was not requested."), "{told}");
    assert!(told.contains("or have no accepted account there"), "{told}");
    assert!(scene.runs_of("kill").await.is_empty() && scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_can_tell_who_is_in_it_nothing_is_asked_or_decided() {
    let scene = narrowed(&[BEN, CARA]).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("usergroups.", Fault::Status(503));
    let line = format!("kill {pid} --env production");
    scene.refused(ANA, &line, "members of the approvers' group can't be read").await;
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
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_just_taken_out_of_the_group_decides_nothing() {
    let scene = narrowed(&[BEN, CARA]).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    // The members were read for the request, less than five minutes ago.
    let card = scene.kill_card(pid).await;
    scene.workspace().set_group(GROUP, &[CARA]);
    scene.is_refused(BEN, &card.at(), ("Approve", NOT_IN_IT)).await;
    scene.is_refused(BEN, &card.at(), ("Deny", NOT_IN_IT)).await;
    scene.refused(BEN, "deny 1 --reason \"no need\"", NOT_IN_IT).await;
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested"]);
    assert!(scene.is_there(pid).await);
    // And whoever was just taken in decides.
    scene.workspace().set_group(GROUP, &[BEN]);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_out_of_the_group_after_approving_lets_nothing_start() {
    let rule = "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill\"]\napprovers = 2\n";
    let scene = narrows("approver", Twist { more: rule, ..Twist::default() }).await;
    scene.workspace().set_group(GROUP, &[BEN, CARA]);
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "1 of 2 approvals given").await;
    scene.workspace().set_group(GROUP, &[CARA]);
    scene.click_button(CARA, &shown.at(), "Approve").await;
    scene.until(&card.at(), "ben may no longer approve it").await;
    assert_eq!(scene.only_run("kill").await.state, RunState::Revoked);
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_just_taken_out_of_the_group_does_not_act_alone() {
    let role = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
    let twist =
        Twist { more: "[break_glass]\nrole = \"last-resort\"\n", instead: vec![role], ..Twist::default() };
    let scene = narrows("last-resort", twist).await;
    scene.workspace().set_group(GROUP, &[BEN]);
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody is awake\"");
    scene.refused(ANA, &line, "Your role last-resort requires membership in its chat group").await;
    scene.workspace().set_group(GROUP, &[ANA]);
    let card = scene.asks(ANA, &line).await;
    scene.until(&card.at(), " ended.").await;
}
