//! Teams asks to wait: for so long nothing more goes where it asked, and everything else goes on.

use crate::bot_process::{Bot, CHAT, INCIDENT, Twist, found};
use countersign::demo::fake_teams::{ConnectorFault, TeamsPayload};
use countersign::store::Store;

const LINE: &str = "sizes asset-service --env production";
const WAIT: u64 = 120;

/// Somebody asks, and the answer has to wait: the bot has tried to send so many by then.
async fn asks_in_vain(bot: &Bot, (who, place): (&str, &str), tries: usize) {
    assert!(bot.teams.say(who, place, LINE).await.ok());
    let delayed =
        || bot.log().lines().filter(|line| line.contains("delivering answer failed; will retry")).count();
    found("an answer that waits", async || (delayed() >= tries).then_some(())).await;
}

/// The limits that are kept for the next process.
async fn kept(bot: &Bot, name: &str) {
    found(name, async || {
        let limits = bot.store().rate_limits().await.expect("the record");
        let until = jiff::Timestamp::now() + std::time::Duration::from_secs(WAIT - 60);
        limits.iter().any(|(limit, end)| limit.ends_with(name) && *end > until).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_conversation_that_has_to_wait_for_minutes_holds_no_other() {
    let bot = Bot::start(Twist::default()).await;
    bot.teams.fault("post", ConnectorFault::RateLimited { retry_after: WAIT, times: 1 });
    asks_in_vain(&bot, ("ana", INCIDENT), 1).await;
    kept(&bot, &format!("POST activities in {INCIDENT}")).await;
    for who in ["ben", "cara"] {
        let told = bot.asks_in(who, CHAT, LINE).await.plain();
        assert!(told.contains("tables take"), "{told}");
    }
    assert_eq!(bot.teams.calls("post"), 3);
    // Neither another answer nor a refusal goes there, in no thread of it.
    asks_in_vain(&bot, ("dan", INCIDENT), 2).await;
    assert!(bot.teams.say("dan", INCIDENT, "bloked").await.ok());
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.asks_in("ana", CHAT, &format!("kill {pid} --env production")).await;
    bot.sees("ben", &card.at(), "[Approve]").await;
    assert!(bot.teams.click_button("ben", &card.at(), "Approve").await.ok());
    bot.sees("ana", &card.at(), &format!("Session {pid} ended")).await;
    for who in ["ana", "dan"] {
        assert!(bot.answers(who, INCIDENT).is_empty(), "{}", bot.teams.transcript());
    }
    let to_incident = |payload: &&TeamsPayload| payload.conversation == INCIDENT;
    assert_eq!(bot.teams.payloads().iter().filter(to_incident).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conversations_that_have_to_wait_at_the_same_time_hold_all() {
    let bot = Bot::start(Twist::default()).await;
    bot.teams.fault("post", ConnectorFault::RateLimited { retry_after: WAIT, times: 2 });
    asks_in_vain(&bot, ("ana", INCIDENT), 1).await;
    asks_in_vain(&bot, ("ben", CHAT), 2).await;
    let alone = bot.teams.personal("dan");
    asks_in_vain(&bot, ("dan", &alone), 3).await;
    kept(&bot, "/POST activities").await;
    assert_eq!(bot.teams.calls("post"), 2, "{}", bot.teams.transcript());
    assert_eq!(bot.runs(Some("sizes")).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_has_to_wait_is_posted_once_when_the_time_is_over() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    bot.teams.fault("post", ConnectorFault::RateLimited { retry_after: 3, times: 1 });
    let card = bot.kill_card(pid).await;
    let posts = |place: &str| {
        let payloads = bot.teams.payloads();
        payloads.iter().filter(|payload| payload.method == "post" && payload.conversation == place).count()
    };
    assert_eq!(posts(INCIDENT), 1);
    assert!(bot.teams.click_button("ben", &card, "Approve").await.ok());
    bot.sees("ana", &card, &format!("Session {pid} ended")).await;
    assert!(!bot.is_there(pid).await);
}
