//! Whoever a request concerns is told of it, and told once, however long Slack stays away and however often the bot is killed.

use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::process::{Process, kinds, noted};
use countersign::demo::fake_slack::{Account, Fault, Kind, Message};
use countersign::demo::harness::PEOPLE;
use countersign::model::CardKind;
use countersign::store::Store;

/// What stands in the direct conversation with somebody, newest first.
pub fn directly(scene: &Scene, who: &str) -> Vec<Message> {
    let mut told = scene.workspace().visible_messages(who, &scene.workspace().dm_channel(who));
    told.reverse();
    told
}

/// Waits until it holds those words.
pub async fn direct(scene: &Scene, who: &str, words: &str) -> Message {
    let found = scene.workspace().wait_for(words, |workspace| {
        let told = workspace.visible_messages(who, &workspace.dm_channel(who));
        told.into_iter().rev().find(|message| message.plain().contains(words))
    });
    found.await.unwrap_or_else(|why| panic!("{who}: {why}"))
}

async fn tried_in_vain(scene: &Scene, method: &str, times: usize) {
    found(method, async || {
        let sent = scene.workspace().payloads();
        (sent.iter().filter(|sent| sent.method == method && sent.error.is_some()).count() >= times)
            .then_some(())
    })
    .await;
}

const WAITS: &str = "Needs approval from";

#[tokio::test(flavor = "multi_thread")]
async fn approvers_and_the_requester_hear_of_it_once_slack_can_be_reached_again() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("conversations.open", Fault::Status(503));
    let card = scene.kill_card(pid).await;
    // One call is four attempts, and there are two whom it concerns.
    tried_in_vain(&scene, "conversations.open", 9).await;
    assert!(directly(&scene, BEN).is_empty() && directly(&scene, CARA).is_empty());
    assert!(scene.workspace().message(&card.at()).is_some(), "the card stands");
    scene.workspace().fault("conversations.open", Fault::Clear);
    for who in [BEN, CARA] {
        let told = direct(&scene, who, WAITS).await;
        assert!(told.button("Approve").is_some(), "{}", told.plain());
    }

    scene.workspace().fault("conversations.open", Fault::Status(503));
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    tried_in_vain(&scene, "conversations.open", 13).await;
    assert!(directly(&scene, ANA).is_empty());
    scene.workspace().fault("conversations.open", Fault::Clear);
    direct(&scene, ANA, " ended.").await;
    for who in [ANA, BEN, CARA] {
        direct(&scene, who, " ended.").await;
        assert_eq!(directly(&scene, who).len(), 1, "{who} is told once");
    }
}

/// Ana has chosen nothing, Ben the channel, and Cara sleeps.
#[tokio::test(flavor = "multi_thread")]
async fn everyone_is_told_once_in_the_place_that_they_chose() {
    let mut scene = Scene::usual().await;
    let at = |hours: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        time.strftime("%H:%M").to_string()
    };
    let quiet = format!("quiet = \"{}-{}\"\n", at(-1), at(2));
    for (name, chosen) in [("ana", ""), ("ben", "notify = \"channel\"\n"), ("cara", quiet.as_str())] {
        let (_, _, _, roles) = PEOPLE.iter().find(|(_, person, _, _)| *person == name).expect("a person");
        let line = format!("roles = {roles:?}\n");
        let was = if roles.contains(&"on-call") { "notify = \"direct\"\n" } else { "" };
        scene.edit_config(&format!("{line}{was}"), &format!("{line}{chosen}"));
    }
    scene.restart().await;
    for (place, direct_cards) in [("production", 1), ("staging", 0)] {
        let (_victim, pid) = scene.session("asset-worker-7").await;
        let card = scene.card(ANA, &format!("kill {pid} --env {place} --reason stuck")).await;
        let shown = card.plain();
        assert!(shown.contains("<@U0BEN>") && !shown.contains("<@U0CARA>"), "{shown}");
        scene.click_button(BEN, &card.at(), "Approve").await;
        scene.until(&card.at(), " ended.").await;
        let run = scene.runs_of("kill").await.into_iter().max_by_key(|run| run.id).unwrap();
        let cards = scene.store().run_cards(run.id).await.unwrap();
        let number = |kind| cards.iter().filter(|card| card.kind == kind).count();
        let numbers = (number(CardKind::Primary), number(CardKind::Direct), number(CardKind::Outcome));
        assert_eq!(numbers, (1, direct_cards, 0), "{place}");
    }
    direct(&scene, CARA, " ended.").await;
    assert_eq!(directly(&scene, CARA).len(), 1);
    assert!(directly(&scene, ANA).is_empty() && directly(&scene, BEN).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_killed_behind_the_card_tells_the_rest_when_it_is_back() {
    let scene = Scene::without_bot(Twist::default()).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let process = Process::start(&scene).await;
    scene.workspace().fault("conversations.open", Fault::Held);
    let card = scene.kill_card(pid).await;
    found("a direct message to be under way", async || {
        scene.store().run_cards(1).await.unwrap().iter().any(|card| card.message.is_some()).then_some(())
    })
    .await;
    process.kill().await;
    scene.workspace().fault("conversations.open", Fault::Clear);
    assert!(directly(&scene, BEN).is_empty() && directly(&scene, CARA).is_empty());

    let process = Process::start(&scene).await;
    for who in [BEN, CARA] {
        direct(&scene, who, WAITS).await;
    }
    noted(&scene.store(), &scene.only_run("kill").await).await;
    // Killed once more, between the end and the word on it.
    scene.workspace().fault("conversations.open", Fault::Held);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    process.kill().await;
    scene.workspace().fault("conversations.open", Fault::Clear);
    assert!(directly(&scene, ANA).is_empty());
    let _process = Process::start(&scene).await;
    for who in [ANA, BEN, CARA] {
        direct(&scene, who, " ended.").await;
        assert_eq!(directly(&scene, who).len(), 1, "{who} is told once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_that_could_not_be_posted_comes_later_and_once() {
    let mut scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let record = scene.store();
    noted(&record, &scene.only_run("kill").await).await;
    scene.workspace().fault("chat.postMessage", Fault::Status(503));
    scene.edit_config("wait = \"30m\"", "wait = \"30m\"\nremind_after = \"1ms\"");
    scene.restart().await;
    let reminders = async || {
        let cards = record.run_cards(1).await.unwrap();
        cards.into_iter().filter(|card| card.kind == CardKind::Reminder).collect::<Vec<_>>()
    };
    found("two reminders to be noted", async || (reminders().await.len() == 2).then_some(())).await;
    tried_in_vain(&scene, "chat.postMessage", 9).await;
    let below = |scene: &Scene| {
        let seen = scene.workspace().visible_messages(BEN, &card.channel);
        seen.into_iter().filter(|message| message.thread_ts.as_ref() == Some(&card.ts)).collect::<Vec<_>>()
    };
    assert!(below(&scene).is_empty());
    scene.workspace().fault("chat.postMessage", Fault::Clear);
    found("both", async || reminders().await.iter().all(|card| card.message.is_some()).then_some(())).await;
    assert!(below(&scene).iter().all(|message| message.plain().contains(WAITS)));
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    direct(&scene, ANA, " ended.").await;
    assert_eq!(below(&scene).len(), 2);
    assert_eq!(kinds(&scene.only_run("kill").await)[..3], ["requested", "reminded", "reminded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_names_five_and_all_who_may_approve_are_told() {
    let names = ["eli", "fay", "gus", "hal", "ida"];
    let account = |name: &str| format!("U0{}", name.to_uppercase());
    let people = names.map(|name| {
        format!("[[people]]\nname = \"{name}\"\nslack = [\"{}\"]\nroles = [\"approver\"]\n\n", account(name))
    });
    let scene = Scene::with(Twist { more: &people.concat(), ..Twist::default() }).await;
    for name in names {
        scene.workspace().add_person(Account::new(&account(name), name, Kind::Member));
    }
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await.plain();
    assert!(card.contains("ben, cara, eli, fay, gus or 2 more"), "{card}");
    for who in [BEN.to_owned(), CARA.to_owned()].into_iter().chain(names.map(account)) {
        direct(&scene, &who, WAITS).await;
    }
    assert!(directly(&scene, ANA).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requester_hears_of_a_refusal_and_of_an_expiry_and_not_of_their_own_withdrawal() {
    // A rule's own time counts where the rule does.
    let rule = "[[approval.rules]]\nenvironments = [\"staging\"]\ncommands = [\"kill\"]\nwait = \"3s\"\n";
    let scene = Scene::with(Twist { more: rule, ..Twist::default() }).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.click_button(ANA, &card.at(), "Withdraw").await;
    scene.until(&card.at(), "Withdrawn by ana").await;
    let card = scene.kill_card(pid).await;
    scene.click_button(BEN, &card.at(), "Deny").await;
    direct(&scene, ANA, "Denied by ben").await;
    let waits = scene.kill_card(pid).await;
    let card = scene.asks(ANA, &format!("kill {pid} --env staging")).await;
    scene.until(&card.at(), "Expired: the request was not decided in time").await;
    let still = scene.workspace().message(&waits.at()).expect("the card");
    assert!(still.button("Approve").is_some(), "{}", still.plain());
    direct(&scene, ANA, "Expired: the request was not decided in time").await;
    assert_eq!(directly(&scene, ANA).len(), 2);
    assert!(scene.is_there(pid).await);
}
