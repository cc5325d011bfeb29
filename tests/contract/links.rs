//! Links: the configuration's templates, filled in with what an answer or an outcome is about, and the way from a run to its card. What
//! others wrote is no link.

use crate::bot_process::{Bot, found};
use crate::chat_driver::{Chat, Message, Seen};
use crate::harness::{Platform, asks, kill_card, sees};
use crate::slack::Slack;
use crate::teams::Teams;
use countersign::model::RunState;
use serde_json::{Value, json};

const TEMPLATES: &str = "[[links]]\nlabel = \"Session log\"\nabout = \"session\"\n\
    url = \"https://logs.example/search?q={environment}/{server}/{pid}\"\n\
    [[links]]\nlabel = \"Dashboard\"\nabout = \"service\"\nenvironments = [\"production\"]\n\
    url = \"https://grafana.example/d/{service}?var-db={database}#panel\"\n\
    [[links]]\nlabel = \"Tickets\"\nabout = \"run\"\nurl = \"https://tickets.example/{command}/{run}\"\n";

/// A name that a client chose.
const APPLICATION: &str = "<https://evil|x>";

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_and_its_card_are_one_tap_away_in_slack() {
    let bot = Platform::Slack.bot(TEMPLATES, &[]).await;
    let card = plays(&bot, &Slack(&bot)).await;
    assert!(card.starts_with("https://creatorbridge.slack.com/archives/C0INCIDENT/p1"), "{card}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_and_its_card_are_one_tap_away_in_teams() {
    let bot = Platform::Teams.bot(TEMPLATES, &[]).await;
    let card = plays(&bot, &Teams(&bot)).await;
    let channel = "https://teams.microsoft.com/l/message/19:incident@thread.tacv2/";
    assert!(card.starts_with(channel) && card.contains("&parentMessageId="), "{card}");
}

/// Follows a session to its end; returns the address of its card.
async fn plays(bot: &Bot, chat: &dyn Chat) -> String {
    let (_session, pid) = bot.session(APPLICATION).await;
    let log = format!("https://logs.example/search?q=production/main/{pid}");
    asks(chat, "ana", &format!("locks {pid} --env production")).await;
    let answer = sees(chat, "ana", &[&format!("requested locks {pid}"), "evil"]).await;
    assert_eq!(links(&answer), [("Session log".to_owned(), log.clone())]);
    asks(chat, "ana", "sizes asset-service --env staging").await;
    let answer = sees(chat, "ana", &["requested sizes asset-service"]).await;
    assert_eq!(links(&answer), [], "another environment's");
    asks(chat, "ana", "sizes asset-service --env production").await;
    let answer = sees(chat, "ana", &["requested sizes asset-service", "PRODUCTION"]).await;
    let dashboard = "https://grafana.example/d/asset-service?var-db=asset_service_db#panel";
    assert_eq!(links(&answer), [("Dashboard".to_owned(), dashboard.to_owned())]);

    let card = kill_card(chat, pid).await;
    assert_eq!(links(&card), [], "a decision isn't made elsewhere");
    chat.click_button("ben", &card, "Approve").await;
    let run = found("the run", async || {
        bot.runs(Some("kill")).await.pop().filter(|run| run.state == RunState::Succeeded)
    })
    .await;
    let of_run = [
        ("Tickets".to_owned(), format!("https://tickets.example/kill/{}", run.id)),
        ("Session log".to_owned(), log),
    ];
    let outcome = sees(chat, "ana", &[&format!("Session {pid} ended"), "approved by ben"]).await;
    assert_eq!(links(&outcome), of_run);
    asks(chat, "ana", &format!("show {}", run.id)).await;
    let story = links(&sees(chat, "ana", &[&format!("requested show {}", run.id)]).await);
    let Some((("Open the card", address), rest)) =
        story.split_first().map(|((label, url), rest)| ((label.as_str(), url.clone()), rest))
    else {
        panic!("no way to the card: {story:?}");
    };
    assert_eq!(rest, of_run);
    address
}

/// The links of a message, each with its label.
fn links(seen: &Seen) -> Vec<(String, String)> {
    let mut found = Vec::new();
    match &seen.message {
        Message::Slack(message) => collect(&json!(message.blocks), &mut found),
        Message::Teams(message) => collect(&json!(message.cards), &mut found),
        message => panic!("no message of a chat: {message:?}"),
    }
    found
}

fn collect(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            if let Some(url) = fields.get("url").and_then(Value::as_str) {
                let label = value["title"].as_str().or(value["text"]["text"].as_str()).unwrap_or_default();
                found.push((label.to_owned(), url.to_owned()));
            }
            fields.values().for_each(|field| collect(field, found));
        }
        _ => {}
    }
}
