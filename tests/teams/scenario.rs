//! The first scene, whole, in Teams: an incident looked at, a session ended by two people, and what stands in the history.

use crate::bot_process::{Bot, CHAT, INCIDENT, Twist};
use countersign::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_from_the_first_look_to_the_history() {
    let bot = Bot::start(Twist::default()).await;
    let (victim, pid) = bot.session("asset-worker-7").await;
    let (_bystander, other) = bot.session("asset-worker-8").await;

    let health = bot.asks("ana", "health --env production").await;
    assert!(health.plain().contains("ana") && health.plain().contains("PRODUCTION"), "{}", health.plain());
    let root = bot.teams.visible_messages("ana", INCIDENT)[0].clone();
    assert_eq!(health.thread, root.thread, "the answer hangs from the question");
    let blocked = bot.asks("ana", "blocked --env production").await;
    assert!(blocked.plain().contains("ana requested blocked"), "{}", blocked.plain());

    let card = bot.kill_card(pid).await;
    let shown = bot.sees("dan", &card, "blocks the deploy").await;
    for words in ["PRODUCTION", "ana", "asset-worker-7", "Impact", &pid.to_string()] {
        assert!(shown.plain().contains(words), "{words} is missing:\n{}", shown.plain());
    }
    assert!(shown.button("Approve").is_none(), "a bystander has no buttons to decide:\n{}", shown.plain());
    assert!(bot.is_there(pid).await, "nothing may happen before the approval");

    let all = bot.sees("ben", &card, "[Approve]").await;
    let ack = bot.teams.click_stale_button("ana", &all, "Approve").await;
    assert!(ack.ok(), "{ack:?}");
    bot.sees("ana", &card, "somebody else has to decide").await;
    assert!(bot.is_there(pid).await);

    let ack = bot.teams.click_button("ben", &card, "Approve").await;
    assert!(ack.ok(), "{ack:?}");
    for who in ["ana", "ben", "cara", "dan"] {
        let done = bot.sees(who, &card, &format!("Session {pid} ended")).await;
        assert!(done.plain().contains("approved by ben"), "{}", done.plain());
        assert!(done.buttons().is_empty(), "a decided card has no buttons: {}", done.plain());
    }
    assert!(!bot.is_there(pid).await && bot.is_there(other).await);
    assert!(victim.simple_query("SELECT 1").await.is_err());
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
    assert_eq!(bot.runs(Some("kill")).await[0].text("reason"), Some("blocks the deploy"));
    assert_eq!(bot.store().verify().await.expect("the record").first_error, None);

    let history = bot.asks("cara", "history").await;
    assert!(history.plain().contains(&format!("kill {pid}")), "{}", history.plain());
    let log = bot.log();
    let secrets = bot.stage.secrets.values().filter(|secret| !secret.starts_with("http"));
    for secret in secrets.map(String::as_str).chain(["fake-bearer", "eyJ"]) {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_a_card_with_their_own_buttons() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    for (who, has, has_not) in [
        ("ana", vec!["Withdraw"], vec!["Approve", "Deny"]),
        ("ben", vec!["Approve", "Deny"], vec!["Withdraw"]),
        ("cara", vec!["Approve", "Deny"], vec!["Withdraw"]),
        ("dan", vec![], vec!["Approve", "Deny", "Withdraw"]),
    ] {
        let seen = match has.first() {
            Some(button) => bot.sees(who, &card, &format!("[{button}]")).await,
            None => bot.sees(who, &card, "asset-worker-7").await,
        };
        for button in has {
            assert!(seen.button(button).is_some(), "{who} lacks {button}:\n{}", seen.plain());
        }
        for button in has_not {
            assert!(seen.button(button).is_none(), "{who} has {button}:\n{}", seen.plain());
        }
    }
    let ack = bot.teams.click_button("ana", &card, "Withdraw").await;
    assert!(ack.ok(), "{ack:?}");
    for who in ["ana", "ben", "dan"] {
        assert!(bot.sees(who, &card, "Withdrawn by ana").await.buttons().is_empty());
    }
    assert!(bot.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_execute_decides_all_the_same() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Deny]").await;
    let ack = bot.teams.click_with_old_client("ben", &seen, "Deny").await;
    assert!(ack.ok(), "{ack:?}");
    bot.sees("ana", &card, "Denied by ben").await;
    assert_eq!(bot.events_of("kill").await, ["requested", "denied"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_one_alone_is_seen_by_one_alone() {
    let bot = Bot::start(Twist::default()).await;
    bot.refused("ana", "bloked --env production", "Did you mean").await;
    for place in [INCIDENT, CHAT] {
        let told = bot.asks_in("ana", place, "health --env production --private").await;
        assert_eq!(told.only_to.as_deref(), Some("ana"), "{}", told.plain());
        assert!(bot.answers("ben", place).is_empty(), "{}", bot.teams.transcript());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_alone_with_the_bot_types_plainly() {
    let bot = Bot::start(Twist::default()).await;
    let alone = bot.teams.personal("ana");
    let told = bot.asks_in("ana", &alone, "health --env production").await;
    assert!(told.plain().contains("ana requested health"), "{}", told.plain());
    assert_eq!(told.only_to, None);
    let told = bot.asks_in("ana", &alone, "bloked").await;
    assert!(told.plain().contains("Did you mean"), "{}", told.plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn slash_commands_and_threads_are_answered_where_they_were_typed() {
    let bot = Bot::start(Twist::default()).await;
    for (place, line) in [(CHAT, "health --env production"), (INCIDENT, "/health --env production")] {
        let before = bot.answers("ana", place).len();
        let ack = bot.teams.slash("ana", place, line).await;
        assert!(ack.ok(), "{ack:?}");
        let told = bot.next(("ana", place), before, line).await;
        assert!(told.plain().contains("ana requested health"), "{}", told.plain());
    }
    let root = bot.teams.visible_messages("ana", INCIDENT).pop().expect("an answer");
    let thread = root.place();
    let told = bot.asks_in("ben", &thread, "blocked --env production").await;
    assert_eq!(told.place(), thread);
}
