//! Activities with one part missing, empty or of another type than Teams sends: whoever can be told is told, and nothing is let in that
//! an intact activity wouldn't be.

use crate::bot_process::{Bot, Twist};
use crate::keyboards::{APP, Door, TENANT, activity, mention};
use crate::payload_leaves::{Altered, altered};
use countersign::chat::teams::ParsedActivity;
use countersign::chat::teams::parse::ActivityError;
use countersign::model::{ChatEvent, ChatEventKind};
use serde_json::{Value, json};

const ANA: &str = "aaaaaaaa-0000-4000-8000-000000000001";
/// Parts that say where an activity is from, what it is and who sent it.
const ORIGINS: [&str; 5] = ["/type", "/serviceUrl", "/channelId", "/from/aadObjectId", "/conversation/id"];
/// Parts that may be absent, and must not be of another type.
const TENANTS: [&str; 2] = ["/channelData/tenant/id", "/conversation/tenantId"];
const ROLE: &str = "/from/role";

/// The kinds of activity that the bot reads.
fn kinds() -> [(&'static str, Value); 9] {
    let typed = "<at>Countersign</at> locks";
    let html = format!("<div><div>{typed}</div></div>");
    let at = mention("Countersign", &json!("<at>Countersign</at>"));
    let alone = json!({ "id": "a:1-ana", "conversationType": "personal", "tenantId": TENANT });
    let slash = json!({ "id": format!("28:{APP}"), "name": "Countersign", "isTargeted": true });
    let invoke = |data: Value, trigger: &str| {
        json!({
            "type": "invoke", "name": "adaptiveCard/action", "replyToId": "1700000000000",
            "value": { "action": { "type": "Action.Execute", "verb": "cs", "data": data }, "trigger": trigger },
        })
    };
    let form = json!({ "form": "tok", "field:pid": "4711" });
    let search =
        json!({ "queryText": "asset", "queryOptions": { "skip": 0, "top": 15 }, "dataset": "tok/pid" });
    let pressed = json!({ "replyToId": "1700000000000", "value": { "cs": "tok" } });
    [
        (
            "mention",
            activity(json!({
                "text": typed, "entities": [{ "type": "clientInfo", "locale": "en-GB" }, at],
                "attachments": [{ "contentType": "text/html", "content": html }],
            })),
        ),
        ("personal", activity(json!({ "text": "locks", "conversation": alone }))),
        ("slash", activity(json!({ "text": "locks", "recipient": slash }))),
        ("submit", activity(pressed)),
        ("click", activity(invoke(json!({ "cs": "tok" }), "manual"))),
        ("look", activity(invoke(json!({ "view": "tok" }), "automatic"))),
        ("form", activity(invoke(form.clone(), "manual"))),
        ("form of an old client", activity(json!({ "replyToId": "1700000000000", "value": form }))),
        (
            "search",
            activity(
                json!({ "type": "invoke", "name": "application/search", "replyToId": "1700000000000", "value": search }),
            ),
        ),
    ]
}

/// Checks an event that came of an altered activity against that of the intact one.
fn check_event(kind: &str, request: &Altered, event: &ChatEvent) {
    let (shown, leaf) = (&request.payload, request.leaf.as_str());
    assert_eq!((event.sender.account.as_str(), event.sender.workspace.as_str()), (ANA, TENANT), "{shown}");
    let place = if kind == "personal" { "a:1-ana" } else { "19:incident@thread.tacv2" };
    assert_eq!(event.conversation.id, place, "{shown}");
    let is_unknown = |token: &str| token.is_empty() && (leaf.starts_with("/value") || leaf == "/name");
    match &event.event {
        ChatEventKind::Command(typed) => {
            let text = typed.words();
            assert!(text == "locks" || (leaf == "/text" && text.is_empty()), "{kind} {text:?}: {shown}");
        }
        ChatEventKind::Button { token, message } => {
            assert!(token == "tok" || is_unknown(token), "{kind}: {shown}");
            assert!(message == "1700000000000" || leaf == "/replyToId", "{kind}: {shown}");
        }
        ChatEventKind::View { token, message } => {
            assert!(kind == "look" && token == "tok", "{kind}: {shown}");
            assert!(message == "1700000000000" || leaf == "/replyToId", "{kind}: {shown}");
        }
        ChatEventKind::FormSubmission(input) => {
            assert!(input.token == "tok" || is_unknown(&input.token), "{kind}: {shown}");
            let pid = input.values.get("pid");
            assert!(pid.is_some_and(|pid| pid == "4711") || leaf.ends_with("pid"), "{kind}: {shown}");
        }
        ChatEventKind::FormQuery { input, field, query } => {
            let is_whole = input.token == "tok" && field == "pid";
            assert!(is_whole || leaf == "/value/dataset", "{kind}: {shown}");
            assert!(query == "asset" || leaf == "/value/queryText", "{kind}: {shown}");
        }
        ChatEventKind::Home => panic!("{kind} is no opening of a home: {shown}"),
    }
}

#[test]
fn whatever_one_part_of_an_activity_is_it_is_delivered_if_its_origins_are_intact() {
    let door = Door::new();
    for (kind, intact) in kinds() {
        for request in altered(&intact) {
            let body = request.payload.to_string();
            let leaf = request.leaf.as_str();
            let value = request.payload.pointer(leaf).filter(|value| !value.is_null());
            match door.parser.parse_activity(body.as_bytes(), &door.token) {
                Ok(ParsedActivity::Deliver(event) | ParsedActivity::Form(event)) => {
                    assert!(!ORIGINS.contains(&leaf), "let in: {body}");
                    assert!(
                        ![ROLE].iter().chain(&TENANTS).any(|part| *part == leaf) || value.is_none(),
                        "let in: {body}"
                    );
                    check_event(kind, &request, &event);
                }
                Ok(ParsedActivity::Foreign) => {
                    assert!(TENANTS.contains(&leaf) && value == Some(&json!("")), "{body}")
                }
                // Nothing but this says that such a message is to the bot.
                Ok(ParsedActivity::Ignore) => {
                    assert_eq!((kind, leaf), ("slash", "/recipient/isTargeted"), "{body}")
                }
                Ok(ParsedActivity::Unknown) => panic!("{kind}: {body}"),
                Err(ActivityError::TokenMismatch) => {
                    assert!(
                        ["/serviceUrl", "/channelId"].contains(&leaf) && value == Some(&json!("")),
                        "{body}"
                    );
                }
                Err(error) => {
                    let is_origin = ORIGINS.contains(&leaf) || TENANTS.contains(&leaf) || leaf == ROLE;
                    assert!(is_origin, "{error}: {body}");
                    assert!(!error.to_string().contains("29:ana"), "{error}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_with_one_odd_part_is_answered_and_decides_nothing() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    // Whoever requested it may not approve it: each click has a refusal.
    let data = seen.button("Approve").expect("a button").action["data"].clone();
    let mut click = bot.teams.activity("ana", &seen.place());
    click["type"] = json!("invoke");
    click["name"] = json!("adaptiveCard/action");
    click["replyToId"] = json!(seen.id);
    click["id"] = json!("altered");
    click["value"] =
        json!({ "action": { "type": "Action.Execute", "verb": "cs", "data": data }, "trigger": "manual" });
    for (number, mut request) in altered(&click).into_iter().enumerate() {
        if request.leaf != "/id" {
            request.payload["id"] = json!(format!("altered-{number}"));
        }
        let ack = bot.teams.deliver(request.payload.clone()).await;
        let leaf = request.leaf.as_str();
        let is_answered = ack.status == 200 && ack.body["statusCode"] == 200;
        if [ROLE].iter().chain(&ORIGINS).chain(&TENANTS).any(|part| *part == leaf) {
            assert!(is_answered || [200, 400, 403].contains(&ack.status), "{}: {ack:?}", request.payload);
            continue;
        }
        let body = ack.body.to_string();
        let words = ["somebody else has to decide", "no longer known", "isn't the card", "already received"];
        assert!(is_answered && words.iter().any(|words| body.contains(words)), "{}: {body}", request.payload);
    }
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await);
    // A click without an account has an answer, and the log the shape of it.
    let mut nobodys = click.clone();
    nobodys["from"]["aadObjectId"] = Value::Null;
    let ack = bot.teams.deliver(nobodys).await;
    assert!(
        ack.ok() && ack.body["value"].as_str().is_some_and(|told| told.contains("without your account")),
        "{ack:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_one_odd_part_is_answered() {
    let bot = Bot::start(Twist::default()).await;
    let alone = bot.teams.personal("ana");
    let mut message = bot.teams.activity("ana", &alone);
    message["text"] = json!("bloked");
    message["id"] = json!("altered");
    let odd = altered(&message)
        .into_iter()
        .filter(|request| request.payload.pointer(&request.leaf) == Some(&json!(7)));
    for (number, mut request) in odd.enumerate() {
        let leaf = request.leaf.as_str();
        if ORIGINS.contains(&leaf) || TENANTS.contains(&leaf) {
            assert_eq!(bot.teams.deliver(request.payload.clone()).await.status, 400, "{}", request.payload);
            continue;
        }
        if leaf != "/id" {
            request.payload["id"] = json!(format!("altered-{number}"));
        }
        let before = bot.answers("ana", &alone).len();
        assert!(bot.teams.deliver(request.payload.clone()).await.ok(), "{}", request.payload);
        let told = bot.next(("ana", &alone), before, &request.leaf).await.plain();
        let words = if request.leaf == "/text" { "help" } else { "Did you mean" };
        assert!(told.contains(words), "{}: {told}", request.payload);
    }
    assert!(bot.runs(None).await.is_empty());
    let shapes = bot.log().lines().filter(|line| line.contains("a part of a request can't be read")).count();
    assert!(shapes > 5, "{}", bot.log());
}
