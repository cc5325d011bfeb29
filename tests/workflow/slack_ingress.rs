//! Slack's door: what comes in is verified, read and acknowledged; what isn't Slack's, or isn't ours, changes nothing.

use crate::harness::{ANA, BEN, Scene, Twist};
use crate::helpers::headers;
use countersign::demo::fake_slack::{self, Workspace};
use countersign::demo::harness::INCIDENT;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const COMMAND: &str =
    "team_id=T0DEMO001&channel_id=C0INCIDENT&user_id=U0ANA&user_name=ana&text=freeze&trigger_id=1.2.3";

/// A body signed by that secret at a time that lies so many seconds in the past.
fn signed(workspace: &Workspace, (secret, age): (&str, i64), body: &str) -> Vec<(String, String)> {
    let timestamp = jiff::Timestamp::now().as_second() - age;
    vec![
        ("x-slack-request-timestamp".to_owned(), timestamp.to_string()),
        ("x-slack-signature".to_owned(), workspace.sign(secret, timestamp, body.as_bytes())),
    ]
}

async fn status(scene: &Scene, path: &str, headers: Vec<(String, String)>, body: &[u8]) -> u16 {
    let ack = scene.workspace().post_raw(path, headers, body.to_vec()).await;
    assert!(ack.problem.is_none(), "{path}: {ack:?}");
    ack.status
}

/// Nothing was recorded, said or called because of what was sent.
async fn untouched(scene: &Scene) {
    // One command that does count comes after them all: what was sent before it has been handled.
    scene.refused(ANA, "unfreeze", "Nothing is frozen").await;
    assert_eq!(scene.runs_in_all().await, 0);
    assert_eq!(scene.workspace().visible_messages(ANA, INCIDENT).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_slack_signed_just_now_comes_in() {
    let scene = Scene::usual().await;
    let workspace = scene.workspace();
    let secret = fake_slack::SIGNING_SECRET;
    let now = |age| signed(workspace, (secret, age), COMMAND);
    let without = |name: &str| now(0).into_iter().filter(|(header, _)| header != name).collect::<Vec<_>>();
    let with = |name: &str, value: &str| {
        let mut headers = without(name);
        headers.push((name.to_owned(), value.to_owned()));
        headers
    };
    let (_, good) = now(0).pop().unwrap();
    for (what, headers) in [
        ("another secret", signed(workspace, ("not-the-secret", 0), COMMAND)),
        ("no secret", signed(workspace, ("", 0), COMMAND)),
        ("another body", signed(workspace, (secret, 0), "text=blocked")),
        ("301 s late", now(301)),
        ("301 s in the future", now(-302)),
        ("a signature of then with the time of now", {
            let mut headers = now(301);
            headers[0].1 = jiff::Timestamp::now().as_second().to_string();
            headers
        }),
        ("no signature", without("x-slack-signature")),
        ("no time", without("x-slack-request-timestamp")),
        ("no headers", Vec::new()),
        ("an empty signature", with("x-slack-signature", "")),
        ("a cut signature", with("x-slack-signature", &good[..20])),
        ("no version", with("x-slack-signature", good.trim_start_matches("v0="))),
        ("no number", with("x-slack-request-timestamp", "yesterday")),
        ("an overflow", with("x-slack-request-timestamp", "99999999999999999999")),
    ] {
        for path in ["/slack/commands", "/slack/interactions", "/slack/events"] {
            assert_eq!(status(&scene, path, headers.clone(), COMMAND.as_bytes()).await, 401, "{what} {path}");
        }
    }
    let challenge = json!({ "type": "url_verification", "challenge": "x" }).to_string();
    assert_eq!(status(&scene, "/slack/events", Vec::new(), challenge.as_bytes()).await, 401);
    untouched(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_and_not_ours_is_acknowledged_and_ignored() {
    let scene = Scene::usual().await;
    let form = |payload: Value| serde_urlencoded::to_string([("payload", payload.to_string())]).unwrap();
    let click = json!({
        "type": "block_actions", "trigger_id": "9.9", "team": {"id": "T0OTHER01"}, "user": {"id": ANA, "team_id": "T0OTHER01"},
        "channel": {"id": INCIDENT}, "container": {"message_ts": "1.1", "channel_id": INCIDENT},
        "actions": [{"type": "button", "action_id": "cs:0", "value": "0", "action_ts": "1"}],
    });
    for (path, body, expected) in [
        ("/slack/commands", COMMAND.replace("T0DEMO001", "T0OTHER01"), 200),
        ("/slack/commands", "ssl_check=1&token=x".to_owned(), 200),
        ("/slack/commands", String::new(), 400),
        ("/slack/commands", "{}".to_owned(), 400),
        ("/slack/interactions", form(json!({ "type": "something_of_next_year", "team": null })), 200),
        ("/slack/interactions", form(json!({ "type": "view_submission", "view": {} })), 200),
        ("/slack/interactions", form(click), 200),
        ("/slack/interactions", "payload=%7B".to_owned(), 400),
        ("/slack/interactions", form(json!([1])), 400),
        ("/slack/events", json!({ "type": "app_rate_limited" }).to_string(), 200),
        (
            "/slack/events",
            json!({ "type": "event_callback", "event_id": "E1", "event": {"type": "message"} }).to_string(),
            200,
        ),
        ("/slack/events", "{".to_owned(), 200),
        ("/slack/nothing", COMMAND.to_owned(), 404),
    ] {
        let headers = headers(&scene, &body, true);
        assert_eq!(status(&scene, path, headers, body.as_bytes()).await, expected, "{path} {body}");
    }
    untouched(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_no_text_are_refused() {
    let scene = Scene::usual().await;
    // The head alone: the refusal must not wait for a body that is too large to be read.
    let address = scene.bot.as_ref().expect("a bot").url.trim_start_matches("http://").to_owned();
    let mut raw = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head =
        format!("POST /slack/commands HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n", 300 * 1024);
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let secret = fake_slack::SIGNING_SECRET;
    let mut bytes = COMMAND.as_bytes().to_vec();
    bytes.extend([0xff, 0xfe]);
    let timestamp = jiff::Timestamp::now().as_second();
    let signed = vec![
        ("x-slack-request-timestamp".to_owned(), timestamp.to_string()),
        ("x-slack-signature".to_owned(), scene.workspace().sign(secret, timestamp, &bytes)),
    ];
    for path in ["/slack/commands", "/slack/interactions", "/slack/events"] {
        assert_eq!(status(&scene, path, signed.clone(), &bytes).await, 401, "{path}: Slack signs text alone");
        assert_eq!(status(&scene, path, Vec::new(), &bytes).await, 401, "{path}: the signature comes first");
    }
    untouched(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_address_answers_slacks_challenge() {
    let scene = Scene::usual().await;
    let ack = scene.workspace().verifies_events_url("3eZbrw1aB").await;
    assert_eq!((ack.status, ack.body.as_str()), (200, "3eZbrw1aB"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_of_an_org_wide_install_without_a_team_counts() {
    let scene = Scene::usual().await;
    scene.asks(ANA, "use staging").await;
    let menu = scene.asks(ANA, "").await;
    let payload = json!({
        "type": "block_actions", "trigger_id": "7.7", "team": null, "enterprise": {"id": "E1"},
        "user": {"id": ANA, "team_id": "T0DEMO001"}, "channel": {"id": INCIDENT},
        "container": {"message_ts": menu.ts, "channel_id": INCIDENT},
        "actions": [{"type": "button", "action_id": "cs:0", "value": Scene::token(&menu, "blocked"), "action_ts": "1"}],
    });
    let before = scene.count(ANA);
    let body = serde_urlencoded::to_string([("payload", payload.to_string())]).unwrap();
    assert_eq!(
        status(&scene, "/slack/interactions", headers(&scene, &body, true), body.as_bytes()).await,
        200
    );
    let told = scene.next(ANA, before, "the answer").await;
    assert!(told.plain().contains("ana requested blocked"), "{}", told.plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_secrets_count_while_one_is_rotated() {
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("new");
    std::fs::write(&file, "new-signing-secret-0123456789abcdef").unwrap();
    let both = format!("[{{ env = \"SLACK_SIGNING_SECRET\" }}, {{ file = {file:?} }}]");
    let instead = vec![("[{ env = \"SLACK_SIGNING_SECRET\" }]", both.as_str())];
    let scene = Scene::with(Twist { instead, ..Twist::default() }).await;
    let old = fake_slack::SIGNING_SECRET;
    for (number, secret) in [(1, old), (2, "new-signing-secret-0123456789abcdef")] {
        let body = COMMAND.replace("freeze", "bloked").replace("1.2.3", &number.to_string());
        let before = scene.count(ANA);
        let headers = signed(scene.workspace(), (secret, 200), &body);
        assert_eq!(status(&scene, "/slack/commands", headers, body.as_bytes()).await, 200);
        assert!(scene.next(ANA, before, "an answer").await.plain().contains("Did you mean"));
    }
    let other = signed(scene.workspace(), ("old-signing-secret", 0), COMMAND);
    assert_eq!(status(&scene, "/slack/commands", other, COMMAND.as_bytes()).await, 401);
}

/// The signature by Slack's own library.
fn slacks_signature(secret: &str, timestamp: &str, body: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".tools/venv/bin/python");
    assert!(python.exists(), "Slack's library for Python is missing: run make tools");
    let mut signer = Command::new(python)
        .arg(root.join("tests/schema_checks/sign.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    let request = json!({ "secret": secret, "timestamp": timestamp, "body": body });
    writeln!(signer.stdin.take().unwrap(), "{request}").unwrap();
    let signed = signer.wait_with_output().unwrap();
    assert!(signed.status.success(), "Slack's library for Python doesn't work: run make tools");
    String::from_utf8(signed.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_slacks_own_library_signed_comes_in() {
    let scene = Scene::usual().await;
    let body = "team_id=T0DEMO001&channel_id=C0INCIDENT&user_id=U0ANA&text=bloked+%E2%80%9Cgr%C3%BC%C3%9Fe%E2%80%9D&trigger_id=1";
    let timestamp = jiff::Timestamp::now().as_second().to_string();
    let secret = fake_slack::SIGNING_SECRET;
    let signature = slacks_signature(secret, &timestamp, body);
    let headers = |signature: String| {
        vec![
            ("x-slack-request-timestamp".to_owned(), timestamp.clone()),
            ("x-slack-signature".to_owned(), signature),
        ]
    };
    let forged = slacks_signature("another", &timestamp, body);
    assert_eq!(status(&scene, "/slack/commands", headers(forged), body.as_bytes()).await, 401);
    assert_eq!(status(&scene, "/slack/commands", headers(signature), body.as_bytes()).await, 200);
    assert!(scene.next(ANA, 0, "an answer").await.plain().contains("Did you mean"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_scene_plays_through_socket_mode() {
    let scene = Scene::with(Twist { socket_mode: true, ..Twist::default() }).await;
    scene
        .workspace()
        .wait_for("a socket", |workspace| (workspace.open_sockets() > 0).then_some(()))
        .await
        .unwrap();
    // Nothing may come by HTTP.
    scene.workspace().connect_bot("http://127.0.0.1:9");
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    scene.is_refused(ANA, &card.at(), ("Approve", "somebody else has to decide")).await;
    assert!(scene.is_there(pid).await);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
    scene.workspace().drop_sockets();
    scene
        .workspace()
        .wait_for("a new socket", |workspace| (workspace.open_sockets() > 0).then_some(()))
        .await
        .unwrap();
    scene.refused(ANA, "bloked", "Did you mean").await;
    let before = scene.count(ANA);
    assert!(scene.workspace().mention_bot(ANA, INCIDENT, None, "bloked").await.ok());
    assert!(scene.next(ANA, before + 1, "an answer").await.plain().contains("Did you mean"));
}
