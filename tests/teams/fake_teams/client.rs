//! What arrives at the bot when people write and click, and what they see of its answers.

use super::*;
use countersign::demo::fake_teams::TeamsMessage;

fn last(heard: &Heard) -> Value {
    heard.lock().expect("the log").last().expect("an activity").1.clone()
}

async fn posts(teams: &Teams, place: &str, card: Value) -> TeamsMessage {
    let (status, _) = call(teams, ("POST", &activities(place)), with_card(card)).await;
    assert_eq!(status, 201, "{:?}", teams.take_refusals());
    teams.visible_messages("ana", place).pop().expect("the card")
}

fn asking() -> Value {
    let mut card = card();
    card["actions"] = json!([
        { "type": "Action.Execute", "title": "Go", "verb": "cs", "data": { "cs": "7" },
          "fallback": { "type": "Action.Submit", "title": "Go", "data": { "cs": "7" } } },
        { "type": "Action.Submit", "title": "Plain", "data": { "cs": "8" } },
    ]);
    card
}

fn answer(words: &str) -> Value {
    let mut card = card();
    card["body"][0]["text"] = json!(words);
    json!({ "statusCode": 200, "type": "application/vnd.microsoft.card.adaptive", "value": card })
}

#[tokio::test]
async fn what_people_write_arrives_as_teams_sends_it() {
    let teams = quick().await;
    let heard = bot(&teams, Value::Null).await;
    let ack = teams.say("ana", CHANNEL, "health").await;
    assert!(ack.ok(), "{ack:?}");
    let activity = last(&heard);
    let thread = format!("{CHANNEL};messageid={}", ack.at.unwrap().id);
    assert_eq!(activity["conversation"]["id"], thread);
    assert_eq!(activity["text"], "<at>Countersign</at> health");
    assert_eq!(activity["entities"][1]["mentioned"]["id"], activity["recipient"]["id"]);
    assert_eq!(activity["from"]["aadObjectId"], TenantUser::new("ana").object_id());
    assert_eq!(activity["channelData"]["tenant"]["id"], teams.settings().tenant);
    assert_eq!(activity["serviceUrl"], teams.service_url());
    assert!(heard.lock().expect("the log")[0].0["authorization"].to_str().unwrap().starts_with("Bearer ey"));

    teams.say("ben", &thread, "help").await;
    assert_eq!(last(&heard)["conversation"]["id"], thread);
    teams.slash("ana", CHAT, "health").await;
    let activity = last(&heard);
    assert_eq!((&activity["text"], &activity["recipient"]["isTargeted"]), (&json!("health"), &json!(true)));
    assert!(teams.visible_messages("ben", CHAT).is_empty());
    teams.say("ana", &teams.personal("ana"), "health").await;
    let activity = last(&heard);
    assert_eq!(
        (&activity["text"], &activity["conversation"]["conversationType"]),
        (&json!("health"), &json!("personal"))
    );
    assert!(!teams.say("eve", CHANNEL, "health").await.ok());

    teams.redeliver(0).await;
    let heard = heard.lock().expect("the log");
    assert_eq!(heard.last().unwrap().1, heard[0].1);
    assert_eq!(heard.last().unwrap().0["authorization"], heard[0].0["authorization"]);
}

#[tokio::test]
async fn a_click_is_an_invoke_and_its_answer_is_the_clickers_view() {
    let teams = quick().await;
    let heard = bot(&teams, answer("yours")).await;
    let shown = posts(&teams, CHANNEL, asking()).await;
    assert!(teams.click_button("ben", &shown.at(), "Go").await.ok());
    let activity = last(&heard);
    assert_eq!((&activity["type"], &activity["name"]), (&json!("invoke"), &json!("adaptiveCard/action")));
    assert_eq!(activity["value"]["trigger"], "manual");
    assert_eq!(activity["value"]["action"]["data"], json!({ "cs": "7" }));
    assert_eq!(activity["value"]["action"]["fallback"], Value::Null);
    assert_eq!(activity["replyToId"], shown.id);
    assert_eq!(activity["conversation"]["id"], shown.place());
    assert_eq!(teams.visible_message("ben", &shown.at()).unwrap().plain(), "yours");
    assert!(teams.visible_message("ana", &shown.at()).unwrap().plain().contains("hello"));

    assert!(teams.click_with_old_client("ben", &shown, "Go").await.ok());
    let activity = last(&heard);
    assert_eq!((&activity["type"], &activity["value"]), (&json!("message"), &json!({ "cs": "7" })));
    assert!(teams.click_button("ana", &shown.at(), "Plain").await.ok());
    assert_eq!(last(&heard)["value"], json!({ "cs": "8" }));
    for (who, button) in [("ana", "Nothing"), ("eve", "Go")] {
        assert!(!teams.click_button(who, &shown.at(), button).await.ok());
    }
}

#[tokio::test]
async fn an_answer_that_teams_would_not_show_is_a_fault() {
    for (answer, good) in [
        (answer("yours"), true),
        (
            json!({ "statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": "x" }),
            true,
        ),
        (
            json!({ "statusCode": 400, "type": "application/vnd.microsoft.error",
                    "value": { "code": "Bad", "message": "no" } }),
            true,
        ),
        (
            json!({ "statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": "" }),
            false,
        ),
        (json!({ "statusCode": 200, "type": "application/vnd.microsoft.card.adaptive", "value": {} }), false),
        (json!({ "statusCode": 400, "type": "application/vnd.microsoft.error", "value": {} }), false),
        (json!({}), false),
        (Value::Null, false),
    ] {
        let teams = quick().await;
        bot(&teams, answer.clone()).await;
        let shown = posts(&teams, CHAT, asking()).await;
        assert_eq!(teams.click_button("ana", &shown.at(), "Go").await.ok(), good, "{answer}");
        assert_eq!(teams.take_refusals().is_empty(), good, "{answer}");
    }
}

#[tokio::test]
async fn a_card_that_names_people_has_their_views_refreshed_whenever_it_changes() {
    let teams = quick().await;
    let heard = bot(&teams, answer("as you see it")).await;
    let mut card = asking();
    let refresh =
        json!({ "type": "Action.Execute", "title": "View", "verb": "view", "data": { "view": "7" } });
    card["refresh"] = json!({ "action": refresh, "userIds": ["29:ben"] });
    let shown = posts(&teams, CHANNEL, card.clone()).await;
    let own = |words: &'static str, times: usize| {
        let (heard, at) = (Arc::clone(&heard), shown.at());
        let teams = &teams;
        async move {
            let seen = |tenant: &Tenant| {
                let seen = tenant.visible_message("ben", &at)?.plain() == words;
                (seen && heard.lock().expect("the log").len() == times).then_some(())
            };
            teams.wait_for(words, seen).await.unwrap_or_else(|why| panic!("{why}"));
        }
    };
    own("as you see it", 1).await;
    assert_eq!(last(&heard)["value"]["trigger"], "automatic");
    assert!(teams.visible_message("ana", &shown.at()).unwrap().plain().contains("hello"));
    let path = format!("{}/{}", activities(CHANNEL), shown.id);
    assert_eq!(call(&teams, ("PUT", &path), with_card(card)).await.0, 200);
    own("as you see it", 2).await;
}

#[tokio::test]
async fn without_refreshing_everybody_sees_the_card_itself() {
    let settings = TenantSettings { refreshes: false, rate_limits: false, ..TenantSettings::default() };
    let teams = super::teams(settings).await;
    let mut card = asking();
    let refresh =
        json!({ "type": "Action.Execute", "title": "View", "verb": "view", "data": { "view": "7" } });
    card["refresh"] = json!({ "action": refresh });
    let shown = posts(&teams, CHAT, card).await;
    assert!(shown.views.is_empty() && teams.deliveries().is_empty());
    assert!(teams.transcript().contains("hello"));
}
