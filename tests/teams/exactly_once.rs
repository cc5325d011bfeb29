//! What Teams delivers twice is done once.

use crate::bot_process::{Bot, INCIDENT, Twist};

/// The number of the newest delivery.
fn newest(bot: &Bot) -> usize {
    bot.teams.deliveries().len() - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_again_asks_once() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let line = format!("kill {pid} --env production");
    bot.asks("ana", &line).await;
    for _ in 0..3 {
        assert!(bot.teams.redeliver(0).await.ok());
    }
    bot.refused("ana", "bloked", "Did you mean").await;
    assert_eq!(bot.runs(Some("kill")).await.len(), 1);
    assert_eq!(bot.answers("dan", INCIDENT).len(), 1, "{}", bot.teams.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoke_that_comes_again_decides_once_and_is_always_answered() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    assert!(bot.teams.click_button("ben", &card, "Approve").await.ok());
    let click =
        bot.teams.deliveries().iter().rposition(|delivery| delivery.activity["value"]["trigger"] == "manual");
    let click = click.expect("the click");
    for _ in 0..3 {
        let ack = bot.teams.redeliver(click).await;
        assert!(ack.ok() && !ack.body["value"].is_null(), "{ack:?}");
    }
    bot.sees("ana", &card, &format!("Session {pid} ended")).await;
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clicks_at_once_by_execute_and_by_submit_decide_once() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let bens = bot.sees("ben", &card, "[Approve]").await;
    let caras = bot.sees("cara", &card, "[Approve]").await;
    let (a, b, c, d) = tokio::join!(
        bot.teams.click_stale_button("ben", &bens, "Approve"),
        bot.teams.click_stale_button("ben", &bens, "Approve"),
        bot.teams.click_stale_button("cara", &caras, "Approve"),
        bot.teams.click_with_old_client("cara", &caras, "Approve"),
    );
    assert!(a.ok() && b.ok() && c.ok() && d.ok(), "{a:?} {b:?} {c:?} {d:?}");
    bot.sees("ana", &card, &format!("Session {pid} ended")).await;
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_comes_again_decides_once() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Deny]").await;
    assert!(bot.teams.click_with_old_client("ben", &seen, "Deny").await.ok());
    let click = newest(&bot);
    bot.sees("ana", &card, "Denied by ben").await;
    for _ in 0..3 {
        assert!(bot.teams.redeliver(click).await.ok());
    }
    bot.refused("ana", "bloked", "Did you mean").await;
    assert_eq!(bot.events_of("kill").await, ["requested", "denied"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_comes_twice_at_once_is_answered_to_its_client_alone() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    bot.sees("ben", &card, "[Approve]").await;
    let looks = bot.teams.deliveries();
    let look = looks.iter().rfind(|delivery| delivery.activity["value"]["trigger"] == "automatic");
    let mut look = look.expect("a look").activity.clone();
    let before = bot.answers("dan", INCIDENT).len();
    for n in 0..20 {
        look["id"] = serde_json::json!(format!("f:look-{n}"));
        let (one, other) = tokio::join!(bot.teams.deliver(look.clone()), bot.teams.deliver(look.clone()));
        assert!(one.ok() && other.ok(), "{one:?} {other:?}");
        let cards = [one, other].iter().filter(|ack| ack.body["value"]["type"] == "AdaptiveCard").count();
        assert_eq!(cards, 1);
    }
    bot.refused("ana", "bloked", "Did you mean").await;
    assert_eq!(bot.answers("dan", INCIDENT).len(), before, "{}", bot.teams.transcript());
}
