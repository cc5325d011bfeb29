//! The page's view of Teams: what people do there reaches the bot as Teams sends it, and odd requests are refused.

use super::*;
use countersign::demo::fake_teams::page_routes;

/// Serves the view; its address.
async fn page(teams: &Teams) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let router = page_routes(teams.0.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/teams")
}

async fn posted(url: &str, body: Value) -> (u16, Value) {
    let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn typed_lines_reach_the_bot_as_teams_sends_them() {
    let teams = quick().await;
    let heard = bot(&teams, Value::Null).await;
    let url = page(&teams).await + "/page/say";
    let personal = teams.personal("ana");
    for (conversation, text, activity) in [
        (CHANNEL, "@countersign health", Some("<at>Countersign</at> health")),
        (CHANNEL, "/db health --env staging", Some("health --env staging")),
        (CHANNEL, "/health", Some("health")),
        (CHANNEL, "just talk", None),
        (&personal, "health", Some("health")),
    ] {
        heard.lock().expect("the log").clear();
        let typed = json!({ "user": "ana", "conversation": conversation, "text": text });
        let (status, answer) = posted(&url, typed).await;
        assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{text}: {answer}");
        let log = heard.lock().expect("the log");
        let texts: Vec<&str> = log.iter().filter_map(|(_, body)| body["text"].as_str()).collect();
        assert_eq!(texts, Vec::from_iter(activity), "{text}");
    }
    assert_eq!(teams.visible_messages("ben", CHANNEL).len(), 2, "a slash command is its sender's alone");
}

#[tokio::test]
async fn requests_about_what_does_not_exist_are_refused() {
    let teams = quick().await;
    let heard = bot(&teams, Value::Null).await;
    let url = page(&teams).await;
    for (path, body) in [
        ("say", json!({ "user": "nobody", "conversation": CHANNEL, "text": "@Countersign health" })),
        ("say", json!({ "user": "ana", "conversation": "19:nowhere@thread.v2", "text": "health" })),
        ("say", json!({ "user": "eve", "conversation": CHANNEL, "text": "/health" })),
        ("click", json!({ "user": "ana", "conversation": CHANNEL, "message": "1", "action": {} })),
        (
            "search",
            json!({ "user": "ana", "conversation": CHANNEL, "message": "1", "input": "a", "text": "" }),
        ),
    ] {
        let (status, answer) = posted(&format!("{url}/page/{path}"), body.clone()).await;
        assert_eq!((status, &answer["ok"]), (404, &json!(false)), "{path} {body}: {answer}");
    }
    assert!(heard.lock().expect("the log").is_empty());
    let state = reqwest::get(format!("{url}/page/state?user=nobody&conversation={CHANNEL}")).await.unwrap();
    let state: Value = state.json().await.expect("JSON");
    assert_eq!((&state["conversations"], &state["messages"]), (&json!([]), &json!([])));
}
