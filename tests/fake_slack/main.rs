//! The fake Slack workspace is as strict as the real one: at the edge of every limit, one more is refused.
//! Nothing here knows the bot; a small stand-in listens where the bot would.

mod doors;
mod limits;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use countersign::demo::fake_slack::{self, Account, Channel, Fault, Kind, Message, Settings, Workspace};
use limits::{button, long, plain, section};
use serde_json::{Value, json};

/// What the stand-in for the bot heard: path, headers, body.
type Heard = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// A workspace with two people, and a bot that answers every request with `status` and `body`.
async fn workspace(status: u16, body: &'static str) -> (Workspace, Heard) {
    // Only a bot that never answers is waited for in vain.
    let ack_limit = if status == 0 { Duration::from_millis(300) } else { Settings::default().ack_limit };
    workspace_with(Settings { ack_limit, ..Settings::default() }, status, body).await
}

/// As [`workspace`], where a channel that has taken its burst takes the next message after more than a minute: longer than any
/// machine needs to send the burst.
async fn slow_workspace() -> (Workspace, Heard) {
    assert_eq!(Settings::default().messages_per_second.to_string(), "1");
    workspace_with(Settings { messages_per_second: 0.01, ..Settings::default() }, 200, "").await
}

async fn workspace_with(settings: Settings, status: u16, body: &'static str) -> (Workspace, Heard) {
    let slack = Workspace::start(settings).await.expect("a free port");
    slack.add_person(Account::new("U1", "Ana", Kind::Member));
    slack.add_person(Account::new("U2", "Ben", Kind::Member));
    slack.add_person(Account::new("U3", "Eve", Kind::External));
    let channel = |id: &str, is_bot_member, private| Channel {
        id: id.into(),
        name: id.to_lowercase(),
        is_bot_member,
        private,
        shared_externally: id == "CSHARED",
    };
    for channel in [
        channel("C1", true, false),
        channel("COUT", false, false),
        channel("CSECRET", false, true),
        channel("CSHARED", true, false),
    ] {
        slack.add_channel(channel);
    }
    let heard = Heard::default();
    let log = heard.clone();
    let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body_in: Bytes| {
        let log = log.clone();
        async move {
            let text = String::from_utf8_lossy(&body_in).into_owned();
            log.lock().expect("the log").push((uri.path().to_owned(), headers, text));
            if status == 0 {
                std::future::pending::<()>().await;
            }
            (StatusCode::from_u16(status).expect("a status"), body)
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    slack.connect_bot(&format!("http://{}", listener.local_addr().expect("an address")));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (slack, heard)
}

async fn send(url: &str, token: &str, body: &Value) -> (u16, Option<String>, Value) {
    let client = reqwest::Client::new();
    let response = client.post(url).bearer_auth(token).json(body).send().await.expect("an answer");
    let status = response.status().as_u16();
    let retry = response.headers().get("retry-after").map(|v| v.to_str().expect("a number").to_owned());
    let text = response.text().await.expect("a body");
    (status, retry, serde_json::from_str(&text).unwrap_or(json!(text)))
}

async fn call(slack: &Workspace, method: &str, body: Value) -> Value {
    let url = format!("{}/{method}", slack.api_url());
    send(&url, fake_slack::BOT_TOKEN, &body).await.2
}

async fn get(slack: &Workspace, call: &str) -> Value {
    let request = reqwest::Client::new().get(format!("{}/{call}", slack.api_url()));
    let answer = request.bearer_auth(fake_slack::BOT_TOKEN).send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

fn first_field(body: &str, name: &str) -> String {
    let fields: Vec<(String, String)> = serde_urlencoded::from_str(body).expect("a form");
    fields.into_iter().find(|(key, _)| key == name).map(|(_, value)| value).expect("the field")
}

#[tokio::test]
async fn posting_obeys_membership_and_tokens() {
    let (slack, _) = workspace(200, "").await;
    let error = |value: Value| value["error"].as_str().unwrap_or("ok").to_owned();
    for (channel, expected) in [
        ("C1", "ok"),
        ("COUT", "not_in_channel"),
        ("CSECRET", "channel_not_found"),
        ("C9", "channel_not_found"),
    ] {
        let answer = call(&slack, "chat.postMessage", json!({"channel": channel, "text": "hi"})).await;
        assert_eq!(error(answer), expected, "{channel}");
    }
    assert_eq!(error(call(&slack, "chat.postMessage", json!({"channel": "C1"})).await), "no_text");
    let eve = json!({"channel": "C1", "user": "U3", "text": "hi"});
    assert_eq!(error(call(&slack, "chat.postEphemeral", eve).await), "user_not_in_channel");
    slack.archive("C1");
    let archived = call(&slack, "chat.postMessage", json!({"channel": "C1", "text": "x"})).await;
    assert_eq!(error(archived), "is_archived");
    let url = format!("{}/auth.test", slack.api_url());
    assert_eq!(error(send(&url, "wrong", &json!({})).await.2), "invalid_auth");
    assert_eq!(error(send(&url, fake_slack::APP_TOKEN, &json!({})).await.2), "not_allowed_token_type");
    let anonymous = reqwest::Client::new().post(&url).send().await.expect("an answer");
    assert_eq!(error(anonymous.json().await.expect("JSON")), "not_authed");
    assert_eq!(slack.payloads().iter().filter(|payload| payload.error.is_none()).count(), 1);
}

#[tokio::test]
async fn text_has_a_limit_when_posting_and_a_smaller_one_when_updating() {
    let (slack, _) = workspace(200, "").await;
    let posted = call(&slack, "chat.postMessage", json!({"channel": "C1", "text": long(40_000)})).await;
    assert_eq!(posted["ok"], true);
    let refused = call(&slack, "chat.postMessage", json!({"channel": "C1", "text": long(40_001)})).await;
    assert_eq!(refused["error"], "msg_too_long");
    let update = |n: usize| json!({"channel": "C1", "ts": posted["ts"], "text": long(n)});
    assert_eq!(call(&slack, "chat.update", update(4_000)).await["ok"], true);
    assert_eq!(call(&slack, "chat.update", update(4_001)).await["error"], "msg_too_long");
}

#[tokio::test]
async fn invalid_blocks_are_explained_and_kept_in_the_log() {
    let (slack, _) = workspace(200, "").await;
    let answer =
        call(&slack, "chat.postMessage", json!({"channel": "C1", "text": "x", "blocks": [section("")]}))
            .await;
    assert_eq!(answer["error"], "invalid_blocks");
    assert_eq!(
        answer["response_metadata"]["messages"][0],
        "[ERROR] must be more than 0 characters [json-pointer:/blocks/0/text/text]"
    );
    let log = slack.payloads();
    assert_eq!(log[0].body["blocks"], json!([section("")]));
    assert_eq!(log[0].error.as_ref().expect("an error").error, "invalid_blocks");
    assert!(slack.visible_messages("U1", "C1").is_empty());
}

#[tokio::test]
async fn a_channel_takes_a_burst_and_then_one_message_a_second() {
    let (slack, _) = slow_workspace().await;
    let url = format!("{}/chat.postMessage", slack.api_url());
    let token = fake_slack::BOT_TOKEN;
    for _ in 0..3 {
        assert_eq!(send(&url, token, &json!({"channel": "C1", "text": "x"})).await.0, 200);
    }
    let (status, retry, body) = send(&url, token, &json!({"channel": "C1", "text": "x"})).await;
    assert_eq!((status, &body["error"]), (429, &json!("ratelimited")));
    let retry: u64 = retry.expect("a time").parse().expect("seconds");
    assert!((1..=100).contains(&retry), "{retry}");
    let other = send(&url, token, &json!({"channel": "CSHARED", "text": "x"})).await;
    assert_eq!(other.0, 200, "another channel has its own limit");
    assert_eq!(slack.calls("chat.postMessage"), 5);
}

#[tokio::test]
async fn ephemeral_and_foreign_messages_cannot_be_updated() {
    let (slack, _) = workspace(200, "").await;
    let only =
        call(&slack, "chat.postEphemeral", json!({"channel": "C1", "user": "U1", "text": "psst"})).await;
    let change = |ts: &Value| json!({"channel": "C1", "ts": ts, "text": "new"});
    assert_eq!(call(&slack, "chat.update", change(&only["message_ts"])).await["error"], "message_not_found");
    slack.say("U1", "C1", "hello").await;
    let hello = slack.visible_messages("U2", "C1").remove(0);
    assert_eq!(call(&slack, "chat.update", change(&json!(hello.ts))).await["error"], "cant_update_message");
    assert_eq!(slack.visible_messages("U1", "C1").len(), 2, "the one it is for sees the private message");
    assert_eq!(slack.visible_messages("U2", "C1").len(), 1, "nobody else does");
}

#[tokio::test]
async fn a_slash_command_is_signed_and_complete() {
    let (slack, heard) = workspace(200, r#"{"response_type": "ephemeral", "text": "working"}"#).await;
    let ack = slack.say("U1", "C1", "/db health --env production").await;
    assert!(ack.ok() && ack.elapsed < Duration::from_secs(3), "{ack:?}");
    let (path, headers, body) = heard.lock().expect("the log").remove(0);
    assert_eq!(path, "/slack/commands");
    let time = headers["x-slack-request-timestamp"].to_str().expect("a number").parse().expect("a number");
    let expected = slack.sign(fake_slack::SIGNING_SECRET, time, body.as_bytes());
    assert_eq!(headers["x-slack-signature"], expected.as_str());
    for (name, value) in [
        ("command", "/db"),
        ("text", "health --env production"),
        ("user_id", "U1"),
        ("channel_id", "C1"),
        ("channel_name", "c1"),
        ("team_id", "T0DEMO001"),
        ("trigger_id", &ack.trigger_id),
    ] {
        assert_eq!(first_field(&body, name), value);
    }
    let shown: Vec<_> = slack.visible_messages("U1", "C1").iter().map(Message::plain).collect();
    assert_eq!(shown, ["working"], "the acknowledgement's body is a message to the asker");
    assert!(slack.visible_messages("U2", "C1").is_empty());
}

#[test]
fn the_signature_is_the_one_in_slacks_documentation() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let slack = runtime.block_on(Workspace::start(Settings::default())).expect("a free port");
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
                96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    assert_eq!(
        slack.sign("8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618, body.as_bytes()),
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    );
}

#[tokio::test]
async fn a_silent_bot_is_reported_to_the_person() {
    let (slack, _) = workspace(0, "").await;
    let ack = slack.say("U1", "C1", "/db health").await;
    assert_eq!((ack.status, ack.problem.as_deref()), (0, Some("operation_timeout")));
    assert_eq!(
        slack.visible_messages("U1", "C1")[0].plain(),
        "/db failed with the error \"operation_timeout\""
    );
}

#[tokio::test]
async fn a_response_url_takes_five_messages_and_can_replace_the_original() {
    let (slack, heard) = slow_workspace().await;
    let blocks = button(json!({"value": "opaque"}));
    call(&slack, "chat.postMessage", json!({"channel": "C1", "text": "card", "blocks": blocks})).await;
    let card = slack.visible_messages("U2", "C1").remove(0);
    let ack = slack.click_button("U2", &card.at(), "Approve").await;
    assert!(ack.ok());
    let (path, _, body) = heard.lock().expect("the log").remove(0);
    let payload: Value = serde_json::from_str(&first_field(&body, "payload")).expect("JSON");
    assert_eq!(path, "/slack/interactions");
    assert_eq!(payload["actions"][0]["value"], "opaque");
    assert_eq!(payload["container"]["message_ts"], json!(card.ts));
    assert_eq!(payload["user"]["id"], "U2");
    let url = payload["response_url"].as_str().expect("a URL");
    for text in ["one", "two", "three"] {
        let replace = json!({"text": text, "replace_original": true});
        assert_eq!(send(url, "", &replace).await.0, 200);
    }
    let now = slack.message(&card.at()).expect("still there");
    assert_eq!((now.plain().as_str(), now.edited), ("three", 3));
    assert_eq!(send(url, "", &json!({"text": "four"})).await.0, 429, "one a second after a burst of three");
    let gone = slack.click_stale_button("U1", &card, "approve").await;
    assert!(gone.ok(), "a click on the old buttons still arrives");
}

#[tokio::test]
async fn the_sixth_use_and_an_old_response_url_are_refused() {
    let unlimited = Settings { rate_limits: false, ..Settings::default() };
    let slack = Workspace::start(unlimited).await.expect("a free port");
    slack.add_person(Account::new("U1", "Ana", Kind::Member));
    slack.add_channel(Channel { id: "C1".into(), name: "ops".into(), ..Channel::default() });
    let ack = slack.say("U1", "C1", "/db health").await;
    assert_eq!(ack.status, 0, "no bot is connected");
    let body = &slack.deliveries()[0].body;
    let url = first_field(body, "response_url");
    for _ in 0..5 {
        let (status, _, body) = send(&url, "", &json!({"text": "x", "response_type": "in_channel"})).await;
        assert_eq!((status, body), (200, json!("ok")));
    }
    let (status, _, body) = send(&url, "", &json!({"text": "x"})).await;
    assert_eq!((status, &body["error"]), (404, &json!("used_url")));
    slack.say("U1", "C1", "/db health").await;
    let url = first_field(&slack.deliveries()[1].body, "response_url");
    slack.expire_response_urls();
    let (status, _, body) = send(&url, "", &json!({"text": "x"})).await;
    assert_eq!((status, &body["error"]), (404, &json!("expired_url")));
    let public =
        slack.visible_messages("U1", "C1").iter().filter(|message| message.ephemeral_to.is_none()).count();
    assert_eq!(public, 5, "a response URL works where the bot is no member");
}

#[tokio::test]
async fn a_failed_event_is_sent_again_once() {
    let (slack, heard) = workspace(500, "").await;
    slack.mention_bot("U1", "C1", None, "health").await;
    let heard = heard.lock().expect("the log");
    assert_eq!(heard.len(), 2);
    assert!(heard[0].1.get("x-slack-retry-num").is_none());
    assert_eq!(heard[1].1["x-slack-retry-num"], "1");
    assert_eq!(heard[1].1["x-slack-retry-reason"], "http_error");
    assert_eq!(heard[0].2, heard[1].2, "the same event id");
    let event: Value = serde_json::from_str(&heard[0].2).expect("JSON");
    assert_eq!(event["event"]["text"], "<@U0BOT0001> health");
}

#[tokio::test]
async fn redelivery_repeats_the_request_byte_for_byte() {
    let (slack, heard) = workspace(200, "").await;
    slack.say("U1", "C1", "/db health").await;
    slack.redeliver(0).await;
    let heard = heard.lock().expect("the log");
    assert_eq!(heard[0].2, heard[1].2);
    assert_eq!(heard[0].1["x-slack-signature"], heard[1].1["x-slack-signature"]);
}

#[tokio::test]
async fn faults_come_and_go() {
    let (slack, _) = workspace(200, "").await;
    let url = format!("{}/chat.postMessage", slack.api_url());
    let token = fake_slack::BOT_TOKEN;
    let post = async || send(&url, token, &json!({"channel": "C1", "text": "x"})).await;
    slack.fault("chat.", Fault::Status(503));
    assert_eq!(post().await.0, 503);
    slack.fault("chat.", Fault::RateLimited { retry_after: 7, times: 1 });
    assert_eq!(post().await.1.as_deref(), Some("7"));
    assert_eq!(post().await.0, 200, "the fault was for one call");
    slack.fault("chat.", Fault::Error("fatal_error"));
    assert_eq!(post().await.2["error"], "fatal_error");
    slack.fault("chat.", Fault::AnswerLost);
    assert_eq!(post().await.0, 502);
    slack.fault("chat.", Fault::Clear);
    assert_eq!(slack.visible_messages("U1", "C1").len(), 2, "the lost answer's message was posted");
}

#[tokio::test]
async fn people_channels_and_groups_are_told_as_they_are() {
    let (slack, _) = workspace(200, "").await;
    slack.set_group("S1", &["U1", "U2"]);
    slack.set_kind("U2", Kind::Deactivated);
    assert_eq!(get(&slack, "users.info?user=U2").await["user"]["deleted"], true);
    assert_eq!(get(&slack, "users.info?user=U3").await["user"]["is_stranger"], true);
    assert_eq!(get(&slack, "users.info?user=U9").await["error"], "user_not_found");
    assert_eq!(get(&slack, "usergroups.users.list?usergroup=S1").await["users"], json!(["U1"]));
    let shared = get(&slack, "conversations.info?channel=CSHARED").await;
    assert_eq!(shared["channel"]["is_ext_shared"], true);
    assert_eq!(get(&slack, "conversations.info?channel=CSECRET").await["error"], "channel_not_found");
    let as_json = call(&slack, "users.info", json!({"user": "U1"})).await;
    assert_eq!(as_json["error"], "invalid_arguments", "methods that read take no JSON");
    let dm = call(&slack, "conversations.open", json!({"users": "U1"})).await;
    assert_eq!(dm["channel"]["id"], json!(slack.dm_channel("U1")));
    assert!(slack.visible_messages("U2", &slack.dm_channel("U1")).is_empty());
}

#[tokio::test]
async fn a_file_goes_up_in_three_steps() {
    let (slack, _) = workspace(200, "").await;
    let place = get(&slack, "files.getUploadURLExternal?filename=plan.txt&length=5").await;
    let url = place["upload_url"].as_str().expect("a URL");
    let put = async |bytes: &'static str| {
        reqwest::Client::new().post(url).body(bytes).send().await.expect("an answer").status().as_u16()
    };
    let files = json!({"files": [{"id": place["file_id"], "title": "Plan"}], "channel_id": "C1"});
    assert_eq!(call(&slack, "files.completeUploadExternal", files.clone()).await["error"], "file_not_found");
    assert_eq!(put("too long").await, 400);
    assert_eq!(put("12345").await, 200);
    assert_eq!(call(&slack, "files.completeUploadExternal", files).await["ok"], true);
    let message = slack.visible_messages("U1", "C1").remove(0);
    assert_eq!(slack.file(&message.files[0].id).as_deref(), Some(&b"12345"[..]));
}

#[tokio::test]
async fn a_trigger_opens_one_view() {
    let (slack, _) = workspace(200, "").await;
    let trigger = slack.say("U1", "C1", "/db use").await.trigger_id;
    let view = |title: &str| {
        json!({"trigger_id": trigger, "view": {
            "type": "modal", "title": plain(title), "blocks": [{"type": "divider"}]}})
    };
    assert_eq!(call(&slack, "views.open", view(&long(25))).await["error"], "invalid_arguments");
    assert_eq!(call(&slack, "views.open", view(&long(24))).await["ok"], true);
    assert_eq!(call(&slack, "views.open", view("again")).await["error"], "exchanged_trigger_id");
}

#[tokio::test]
async fn waiting_in_vain_shows_the_conversation() {
    let (slack, _) = workspace(200, "").await;
    slack.say("U1", "C1", "hello there").await;
    let waiter = slack.clone();
    let found = tokio::spawn(async move {
        waiter.wait_for("an answer", |slack| slack.visible_messages("U2", "C1").into_iter().nth(1)).await
    });
    slack.say("U2", "C1", "general").await;
    let message = found.await.expect("no panic").expect("in time");
    assert_eq!(message.text, "general");
    assert!(slack.transcript().contains("hello there"));
}
