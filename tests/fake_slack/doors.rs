//! The other two doors: Socket Mode for the bot, the page for people.

use countersign::demo::fake_slack::{APP_TOKEN, BOT_TOKEN};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::limits::section;
use super::{call, send, workspace};

/// Reads one text frame of a WebSocket, as a server sends it: short enough for a 16-bit length, not masked.
async fn frame(stream: &mut tokio::net::TcpStream) -> Value {
    let head = stream.read_u16().await.expect("a frame").to_be_bytes();
    assert_eq!(head[0], 0x81, "one whole text frame");
    let length = match head[1] {
        126 => usize::from(stream.read_u16().await.expect("a length")),
        short => usize::from(short),
    };
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await.expect("the text");
    serde_json::from_slice(&text).expect("JSON")
}

#[tokio::test]
async fn socket_mode_delivers_envelopes_and_takes_acknowledgements() {
    let (slack, heard) = workspace(200, "").await;
    let url = format!("{}/apps.connections.open", slack.api_url());
    assert_eq!(send(&url, BOT_TOKEN, &json!({})).await.2["error"], "not_allowed_token_type");
    let opened = send(&url, APP_TOKEN, &json!({})).await.2;
    let address =
        opened["url"].as_str().expect("a URL").strip_prefix("ws://").expect("a WebSocket").to_owned();
    let (host, path) = address.split_once('/').expect("a path");
    let mut stream = tokio::net::TcpStream::connect(host).await.expect("a connection");
    let hello = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(hello.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("the handshake"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    assert_eq!(frame(&mut stream).await["type"], "hello");
    slack.wait_for("the socket", |slack| (slack.open_sockets() == 1).then_some(())).await.expect("open");

    let asking = slack.clone();
    let ack = tokio::spawn(async move { asking.say("U1", "C1", "/db health").await });
    let envelope = frame(&mut stream).await;
    assert_eq!(envelope["type"], "slash_commands");
    assert_eq!(envelope["payload"]["text"], "health");
    let reply = json!({"envelope_id": envelope["envelope_id"], "payload": {"text": "soon"}}).to_string();
    let length = u8::try_from(reply.len()).expect("a short reply");
    assert!(length < 126);
    // A client masks its frames; a mask of zeros leaves the text as it is.
    stream.write_all(&[0x81, 0x80 | length, 0, 0, 0, 0]).await.expect("sent");
    stream.write_all(reply.as_bytes()).await.expect("sent");
    assert!(ack.await.expect("no panic").ok());
    assert_eq!(slack.visible_messages("U1", "C1")[0].plain(), "soon");
    assert!(heard.lock().expect("the log").is_empty(), "nothing goes over HTTP while a socket is open");
    slack.drop_sockets();
    assert_eq!(frame(&mut stream).await["type"], "disconnect");
}

#[tokio::test]
async fn a_message_has_an_address_where_the_bot_can_see_it() {
    let (slack, _) = workspace(200, "").await;
    let posted = call(&slack, "chat.postMessage", json!({"channel": "C1", "text": "a"})).await;
    let only = json!({"channel": "C1", "user": "U1", "text": "psst"});
    let only = call(&slack, "chat.postEphemeral", only).await["message_ts"].clone();
    let asks = async |channel: &str, ts: &str| {
        let url = format!("{}/chat.getPermalink?channel={channel}&message_ts={ts}", slack.api_url());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(url).bearer_auth(BOT_TOKEN).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")
    };
    let ts = posted["ts"].as_str().expect("a time stamp");
    let address = format!("https://creatorbridge.slack.com/archives/C1/p{}", ts.replace('.', ""));
    assert_eq!(asks("C1", ts).await["permalink"], address);
    for (channel, ts, error) in [
        ("C9", ts, "channel_not_found"),
        ("", ts, "channel_not_found"),
        ("C1", "1.000001", "message_not_found"),
        ("C1", "", "message_not_found"),
        ("C1", only.as_str().expect("a time stamp"), "message_not_found"),
    ] {
        assert_eq!(asks(channel, ts).await["error"], error, "{channel} {ts}");
    }
    // A read takes no JSON.
    let json = json!({"channel": "C1", "message_ts": ts});
    assert_eq!(call(&slack, "chat.getPermalink", json).await["error"], "invalid_arguments");
}

#[tokio::test]
async fn the_page_shows_what_its_person_may_see_and_carries_what_they_do() {
    let (slack, _) = workspace(200, "").await;
    slack.on_restart(|| Box::pin(async { Ok("again".to_owned()) }));
    let only = json!({"channel": "C1", "user": "U1", "text": "psst"});
    assert_eq!(call(&slack, "chat.postEphemeral", only).await["ok"], true);
    let page = slack.page_url();
    let html = reqwest::get(&page).await.expect("an answer").text().await.expect("a body");
    assert!(html.contains("Try this first"));
    let state = async |user: &str| -> Value {
        let url = format!("{page}page/state?user={user}&channel=C1");
        reqwest::get(url).await.expect("an answer").json().await.expect("JSON")
    };
    assert_eq!(state("U1").await["messages"][0]["text"], "psst");
    assert_eq!(state("U2").await["messages"], json!([]));
    assert_eq!(
        state("U3").await["channels"].as_array().map(Vec::len),
        Some(1),
        "outsiders see the shared one"
    );
    let said = json!({"user": "U2", "channel": "C1", "text": "hello"});
    assert_eq!(send(&format!("{page}page/say"), "", &said).await.2["ok"], true);
    assert_eq!(slack.visible_messages("U1", "C1").len(), 2);
    assert_eq!(send(&format!("{page}page/restart"), "", &json!({})).await.2["text"], "again");
    let form = reqwest::Client::new().post(format!("{page}page/say")).body("user=U2").send().await;
    assert_eq!(form.expect("an answer").status(), 415, "another site's form cannot act here");
}

#[tokio::test]
async fn a_home_is_opened_published_and_clicked_on_as_in_slack() {
    let (slack, heard) = workspace(200, "").await;
    assert!(slack.open_home("U1").await.ok());
    assert!(slack.open_home("U3").await.problem.is_some(), "the app is no outsider's");
    let opened: Value = serde_json::from_str(&heard.lock().expect("the log")[0].2).expect("JSON");
    assert_eq!(opened["event"]["type"], "app_home_opened");
    assert_eq!((&opened["event"]["tab"], &opened["event"]["channel"]), (&json!("home"), &json!("D1")));

    let button = json!({"type": "button", "text": {"type": "plain_text", "text": "Show"}, "value": "x"});
    let actions = json!({"type": "actions", "elements": [button]});
    let table = json!({"type": "table", "rows": [[{"type": "raw_text", "text": "a"}]]});
    let publish = async |user: &str, kind: &str, blocks: Value| {
        let view = json!({"user_id": user, "view": {"type": kind, "blocks": blocks}});
        call(&slack, "views.publish", view).await["error"].as_str().map(str::to_owned)
    };
    for (user, kind, blocks) in [
        ("U9", "home", json!([section("a")])),
        ("U1", "modal", json!([section("a")])),
        ("U1", "home", json!([])),
        ("U1", "home", json!(vec![section("a"); 101])),
        ("U1", "home", json!([table])),
        ("U1", "home", json!([{"type": "section"}])),
    ] {
        assert!(publish(user, kind, blocks.clone()).await.is_some(), "{user} {kind} {blocks}");
    }
    assert_eq!(slack.home("U1"), None);
    assert_eq!(publish("U1", "home", json!(vec![section("a"); 100])).await, None);
    assert_eq!(publish("U1", "home", json!([section("a"), actions])).await, None);
    assert_eq!(slack.home("U1").expect("a home").plain(), "a\n[Show]");
    assert!(slack.click_home("U1", "Show").await.ok());
    let body = heard.lock().expect("the log").last().expect("a click").2.clone();
    let fields: Vec<(String, String)> = serde_urlencoded::from_str(&body).expect("a form");
    let click: Value = serde_json::from_str(&fields[0].1).expect("JSON");
    assert_eq!((&click["view"]["type"], &click["actions"][0]["value"]), (&json!("home"), &json!("x")));
    assert!(
        ["channel", "message", "response_url"].iter().all(|field| click.get(*field).is_none()),
        "{click}"
    );
}
