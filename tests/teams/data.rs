//! A card's data comes from its client: altered, replayed or made up, it gains nothing.

use crate::bot_process::{Bot, CHAT, INCIDENT, Twist};
use crate::wire::token_of;
use countersign::demo::fake_teams::{ConversationKind, TeamsMessage};
use countersign::model::RunState;
use serde_json::{Value, json};

/// Nobody decided, and nothing happened.
async fn undecided(bot: &Bot, pid: i32) {
    assert!(bot.is_there(pid).await);
    let runs = bot.runs(Some("kill")).await;
    assert!(runs.iter().all(|run| run.state == RunState::Pending && run.version == 1), "{runs:#?}");
}

fn execute(data: Value) -> Value {
    json!({ "type": "Action.Execute", "verb": "cs", "title": "Approve", "data": data })
}

/// Sends the data as an Execute and as a Submit; both are acknowledged, whatever they come to.
async fn sends(bot: &Bot, (who, on): (&str, &TeamsMessage), data: Value) {
    let ack = bot.teams.execute(who, on, &execute(data.clone()), "manual").await;
    assert!(ack.ok() || ack.status == 501, "{data}: {ack:?}");
    // What no card of the bot's sends is no action of its own.
    let unknown = bot.teams.take_refusals();
    assert!(unknown.iter().all(|why| why.contains("HTTP 501")), "{unknown:?}");
    let ack = bot.teams.submit(who, on, &execute(data.clone())).await;
    assert!(ack.ok(), "{data}: {ack:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_its_sender_altered_decides_nothing() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    let run = bot.runs(Some("kill")).await[0].id;
    let token = token_of(&seen, "Approve");
    let everyones = bot.teams.visible_message("dan", &card).expect("the card");
    let view = everyones.cards[0]["refresh"]["action"]["data"].clone();
    assert!(view["view"].is_string(), "{view}");
    for data in [
        json!({}),
        json!({ "cs": "" }),
        json!({ "cs": null }),
        json!({ "cs": 7 }),
        json!({ "cs": run.to_string() }),
        json!({ "cs": format!("#{run}") }),
        json!({ "cs": { "run": run.to_string(), "verdict": "approve" } }),
        json!({ "cs": "00000000000000000000000000000000" }),
        json!({ "cs": token.to_uppercase() + "x" }),
        json!({ "cs": format!("{token} ") }),
        json!({ "cs": &token[1..] }),
        json!({ "cs": "' OR 1=1 --" }),
        json!({ "run": run.to_string(), "verdict": "approve", "by": "ben" }),
        json!({ "cs": view["view"] }),
    ] {
        sends(&bot, ("ben", &seen), data).await;
    }
    undecided(&bot, pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_no_right_of_whoever_holds_it() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let bens = bot.sees("ben", &card, "[Approve]").await;
    let anas = bot.sees("ana", &card, "[Withdraw]").await;
    for (who, button, token) in [
        ("ana", "Approve", token_of(&bens, "Approve")),
        ("ana", "Deny", token_of(&bens, "Deny")),
        ("dan", "Approve", token_of(&bens, "Approve")),
        ("nora", "Approve", token_of(&bens, "Approve")),
        ("ben", "Withdraw", token_of(&anas, "Withdraw")),
    ] {
        // Whoever's name the data claims.
        let data =
            json!({ "cs": token, "by": "ben", "aadObjectId": bot.teams.activity("ben", INCIDENT)["from"] });
        sends(&bot, (who, &bens), data).await;
        undecided(&bot, pid).await;
        let seen = bot.teams.visible_message(who, &card).expect("the card").plain();
        assert!(!seen.contains(" by ben"), "{who} {button}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_is_who_the_token_of_the_door_vouches_for_and_not_what_data_says() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    // An id of the bot's own making, a name: neither is an identity.
    let mut activity = bot.teams.activity("ana", &seen.place());
    activity["type"] = json!("invoke");
    activity["id"] = json!("f:made-up");
    activity["name"] = json!("adaptiveCard/action");
    activity["replyToId"] = json!(seen.id);
    activity["from"]["id"] = bot.teams.activity("ben", INCIDENT)["from"]["id"].clone();
    activity["from"]["name"] = json!("ben");
    activity["value"] =
        json!({ "action": execute(json!({ "cs": token_of(&seen, "Approve") })), "trigger": "manual" });
    let ack = bot.teams.deliver(activity).await;
    assert!(ack.body.to_string().contains("somebody else has to decide"), "{ack:?}");
    undecided(&bot, pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_only_on_its_message_in_its_conversation() {
    let bot = Bot::start(Twist::default()).await;
    bot.teams.add_conversation(ConversationKind::GroupChat, "19:aside@thread.v2", &["ana", "ben"]);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    let data = json!({ "cs": token_of(&seen, "Approve") });
    let other = bot.asks("ben", "pending").await;
    let elsewhere = [
        TeamsMessage { conversation: CHAT.to_owned(), thread: None, ..seen.clone() },
        TeamsMessage { conversation: "19:aside@thread.v2".to_owned(), thread: None, ..seen.clone() },
        TeamsMessage { conversation: bot.teams.personal("ben"), thread: None, ..seen.clone() },
        TeamsMessage { id: other.id.clone(), ..seen.clone() },
        TeamsMessage { id: "1".to_owned(), ..seen.clone() },
    ];
    for on in elsewhere {
        sends(&bot, ("ben", &on), data.clone()).await;
        undecided(&bot, pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_requests_token_decides_no_other_request() {
    let bot = Bot::start(Twist::default()).await;
    let (_first, pid) = bot.session("asset-worker-7").await;
    let (_second, other) = bot.session("asset-worker-8").await;
    let card = bot.kill_card(pid).await;
    let second = bot.kill_card(other).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    let on = bot.sees("ben", &second, "[Approve]").await;
    sends(&bot, ("ben", &on), json!({ "cs": token_of(&seen, "Approve") })).await;
    assert!(bot.is_there(pid).await && bot.is_there(other).await);
    undecided(&bot, pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_decides_nothing_and_what_decides_is_no_look() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    let token = token_of(&seen, "Approve");
    for trigger in ["automatic", "manual"] {
        let looks = json!({ "type": "Action.Execute", "verb": "view", "data": { "view": token } });
        let ack = bot.teams.execute("ben", &seen, &looks, trigger).await;
        assert!(ack.ok(), "{ack:?}");
    }
    // A client must not be able to decide by looking.
    let decides = execute(json!({ "cs": token }));
    let ack = bot.teams.execute("ben", &seen, &decides, "automatic").await;
    assert!(ack.ok(), "{ack:?}");
    undecided(&bot, pid).await;
}
