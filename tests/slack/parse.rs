//! Slack's requests as they come over the wire, and what they become.

use crate::payload_leaves::altered;
use countersign::chat::slack::parse::MalformedRequest;
use countersign::chat::slack::{ParsedRequest, SlackParser};
use countersign::model::{ChatEvent, ChatEventKind};
use serde_json::{Value, json};

fn parser() -> SlackParser {
    SlackParser::new(&["T1".to_owned()])
}

fn delivered(parsed: Result<ParsedRequest, MalformedRequest>) -> ChatEvent {
    match parsed {
        Ok(ParsedRequest::Deliver(incoming)) => *incoming,
        other => panic!("not delivered: {other:?}"),
    }
}

const SLASH: &str = "token=x&team_id=T1&team_domain=cb&channel_id=C1&channel_name=db&user_id=U1&user_name=ana\
    &command=%2Fdb&text=kill+4711+--reason+%22a+%26lt%3B+b%22&api_app_id=A1&is_enterprise_install=false\
    &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2F1&trigger_id=1.2.3";

fn click() -> Value {
    json!({
        "type": "block_actions", "trigger_id": "9.8.7", "team": { "id": "T1", "domain": "cb" }, "enterprise": null,
        "user": { "id": "U2", "username": "ben", "name": "ben", "team_id": "T1" },
        "channel": { "id": "C1", "name": "db" },
        "container": { "type": "message", "message_ts": "100.5", "channel_id": "C1", "is_ephemeral": false },
        "message": { "ts": "100.5", "text": "…" },
        "response_url": "https://hooks.slack.com/actions/1",
        "actions": [{ "type": "button", "action_id": "cs:0", "block_id": "b", "value": "tok", "action_ts": "101.1" }],
    })
}

fn mention(event: Value) -> String {
    let mut inner = json!({
        "type": "app_mention", "user": "U1", "text": "<@UBOT> locks --env staging", "ts": "100.1",
        "channel": "C1", "event_ts": "100.1", "team": "T1",
    });
    inner.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
    json!({
        "type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": "Ev1", "event_time": 100,
        "event": inner, "authorizations": [{ "user_id": "UBOT", "team_id": "T1", "is_bot": true }],
    })
    .to_string()
}

fn form(payload: &Value) -> String {
    serde_urlencoded::to_string([("payload", payload.to_string())]).unwrap()
}

fn line(incoming: &ChatEvent) -> String {
    match &incoming.event {
        ChatEventKind::Command(typed) => typed.words(),
        other => panic!("not a command: {other:?}"),
    }
}

#[test]
fn a_slash_command_is_delivered_with_what_was_typed() {
    let incoming = delivered(parser().command(SLASH));
    assert_eq!(incoming.delivery, "slack:cmd:1.2.3");
    assert_eq!(line(&incoming), "kill 4711 --reason \"a < b\"");
    assert_eq!((incoming.sender.account.as_str(), incoming.sender.name.as_str()), ("U1", "ana"));
    assert_eq!((incoming.conversation.id.as_str(), incoming.conversation.thread.as_deref()), ("C1", None));
    assert_eq!(incoming.handle.unwrap().id, "https://hooks.slack.com/commands/1");
}

#[test]
fn what_a_request_has_of_another_type_than_it_should_does_not_silence_it() {
    for (authorizations, text) in [
        (json!({}), "locks --env staging"),
        (json!("x"), "locks --env staging"),
        (json!([5, { "user_id": 5 }, { "user_id": "UBOT" }]), "locks --env staging"),
    ] {
        let mut event: Value = serde_json::from_str(&mention(json!({ "bot_id": "" }))).unwrap();
        event["authorizations"] = authorizations.clone();
        assert_eq!(line(&delivered(parser().event(&event.to_string()))), text, "{authorizations}");
    }
    let half = mention(json!({ "text": "<@UBOT> locks X" })).replace('X', r"\ud83d");
    assert_eq!(line(&delivered(parser().event(&half))), "locks \u{fffd}");
    let marked = format!("\u{feff}{}", mention(json!({})));
    assert_eq!(line(&delivered(parser().event(&marked))), "locks --env staging");
}

#[test]
fn whoever_clicks_is_never_left_without_an_answer() {
    let button = |click: Value| match delivered(parser().interaction(&form(&click))).event {
        ChatEventKind::Button { token, message } => (token, message),
        other => panic!("no click: {other:?}"),
    };
    let expected = |token: &str, message: &str| (token.to_owned(), message.to_owned());
    for (pointer, value, token, message) in [
        ("/container", Value::Null, "tok", "100.5"),
        ("/message", Value::Null, "tok", "100.5"),
        ("/container/message_ts", Value::Null, "tok", "100.5"),
        ("/actions/0/value", Value::Null, "", "100.5"),
        ("/actions", json!([5, { "type": 5 }, click()["actions"][0]]), "tok", "100.5"),
    ] {
        let mut click = click();
        *click.pointer_mut(pointer).unwrap() = value;
        assert_eq!(button(click), expected(token, message), "{pointer}");
    }
    let mut click = click();
    click["container"] = json!({});
    click["message"] = json!({});
    assert_eq!(button(click), expected("tok", ""));
}

#[test]
fn another_workspace_is_foreign_at_every_door() {
    let elsewhere = SlackParser::new(&["T9".to_owned()]);
    assert!(matches!(elsewhere.command(SLASH), Ok(ParsedRequest::Foreign)));
    assert!(matches!(elsewhere.interaction(&form(&click())), Ok(ParsedRequest::Foreign)));
    assert!(matches!(elsewhere.event(&mention(json!({}))), Ok(ParsedRequest::Foreign)));
    assert!(matches!(SlackParser::new(&[]).command(SLASH), Ok(ParsedRequest::Foreign)));
}

#[test]
fn the_certificate_check_and_rubbish() {
    assert!(matches!(parser().command("ssl_check=1&token=x"), Ok(ParsedRequest::Ignore)));
    assert!(matches!(parser().command("text=locks"), Err(MalformedRequest { .. })));
    assert!(matches!(parser().interaction("payload=%7B"), Err(MalformedRequest { .. })));
    assert!(matches!(parser().interaction("load=1"), Err(MalformedRequest { .. })));
    assert!(matches!(parser().event("{\"type\":"), Ok(ParsedRequest::Unreadable(_))), "it would come again");
    let Err(malformed) = parser().command("text=locks") else { panic!("it was read") };
    assert!(malformed.to_string().ends_with("{text: string}"), "{malformed}");
}

#[test]
fn a_click_carries_its_token_and_message() {
    let incoming = delivered(parser().interaction(&form(&click())));
    assert_eq!(incoming.delivery, "slack:act:9.8.7");
    assert_eq!(incoming.event, ChatEventKind::Button { token: "tok".into(), message: "100.5".into() });
    assert_eq!((incoming.sender.account.as_str(), incoming.sender.workspace.as_str()), ("U2", "T1"));
    assert_eq!(incoming.conversation.thread, None);
    assert!(incoming.handle.is_some());
}

#[test]
fn a_click_in_a_thread_belongs_to_it_and_on_its_first_message_to_the_channel() {
    let mut inside = click();
    inside["container"]["thread_ts"] = json!("90.1");
    assert_eq!(
        delivered(parser().interaction_json(&inside.to_string())).conversation.thread.as_deref(),
        Some("90.1")
    );
    let mut told_by_message = click();
    told_by_message["message"]["thread_ts"] = json!("90.1");
    let incoming = delivered(parser().interaction_json(&told_by_message.to_string()));
    assert_eq!(incoming.conversation.thread.as_deref(), Some("90.1"));
    let mut first = click();
    first["message"]["thread_ts"] = json!("100.5");
    assert_eq!(delivered(parser().interaction_json(&first.to_string())).conversation.thread, None);
}

#[test]
fn a_click_of_an_org_wide_install_has_no_team() {
    let mut org = click();
    org["team"] = Value::Null;
    assert_eq!(delivered(parser().interaction_json(&org.to_string())).conversation.workspace, "T1");
    // The conversation isn't in the clicker's home workspace, which may be another one of the organisation.
    org["user"]["team_id"] = json!("T9");
    let incoming = delivered(parser().interaction_json(&org.to_string()));
    assert_eq!((incoming.sender.workspace.as_str(), incoming.conversation.workspace.as_str()), ("T9", "T1"));
}

#[test]
fn a_click_from_another_organisation_keeps_its_own_workspace() {
    let mut shared = click();
    shared["user"]["team_id"] = json!("T9");
    let incoming = delivered(parser().interaction_json(&shared.to_string()));
    assert_eq!((incoming.sender.workspace.as_str(), incoming.conversation.workspace.as_str()), ("T9", "T1"));
}

#[test]
fn what_is_not_our_button_is_ignored() {
    for kind in ["view_submission", "shortcut", "something_of_next_year"] {
        let payload = json!({ "type": kind, "team": null, "anything": [1] });
        assert!(
            matches!(parser().interaction_json(&payload.to_string()), Ok(ParsedRequest::Ignore)),
            "{kind}"
        );
    }
    let mut foreign_button = click();
    foreign_button["actions"][0]["action_id"] = json!("other");
    assert!(matches!(parser().interaction_json(&foreign_button.to_string()), Ok(ParsedRequest::Ignore)));
    let mut link = click();
    link["actions"] =
        json!([{ "type": "button", "action_id": "link:0", "action_ts": "1.1", "url": "https://a.example/" }]);
    assert!(matches!(parser().interaction_json(&link.to_string()), Ok(ParsedRequest::Ignore)));
    let mut select = click();
    select["actions"][0] = json!({ "type": "static_select", "action_id": "cs:0", "action_ts": "1.1" });
    assert!(matches!(parser().interaction_json(&select.to_string()), Ok(ParsedRequest::Ignore)));
    let mut home = click();
    home["container"] = json!({ "type": "view", "view_id": "V1" });
    assert!(matches!(parser().interaction_json(&home.to_string()), Ok(ParsedRequest::Ignore)));
}

#[test]
fn a_mention_is_a_command_in_a_thread() {
    let incoming = delivered(parser().event(&mention(json!({}))));
    assert_eq!(incoming.delivery, "slack:evt:Ev1");
    assert_eq!(line(&incoming), "locks --env staging");
    assert_eq!(incoming.conversation.thread.as_deref(), Some("100.1"), "a new thread below the mention");
    assert!(incoming.handle.is_none());
    let threaded = delivered(parser().event(&mention(json!({ "thread_ts": "90.1" }))));
    assert_eq!(threaded.conversation.thread.as_deref(), Some("90.1"));
}

#[test]
fn the_line_stands_behind_the_bots_own_mention() {
    let text = |text: &str| mention(json!({ "text": text }));
    let said = |said: &str| line(&delivered(parser().event(&text(said))));
    assert_eq!(said("hey <@UBO> and <@UBOT|countersign>  history --by <@U7|cy>"), "history --by U7");
    assert_eq!(said("<@UBOT>"), "");
    let outsider = delivered(parser().event(&mention(json!({ "user_team": "T9" }))));
    assert_eq!((outsider.sender.workspace.as_str(), outsider.conversation.workspace.as_str()), ("T9", "T1"));
}

#[test]
fn bots_edits_and_other_events_are_ignored_and_the_address_check_is_answered() {
    for event in [json!({ "bot_id": "B1" }), json!({ "user": null }), json!({ "edited": { "ts": "1.1" } })] {
        assert!(matches!(parser().event(&mention(event.clone())), Ok(ParsedRequest::Ignore)), "{event}");
    }
    assert!(matches!(parser().event(&mention(json!({ "type": "message" }))), Ok(ParsedRequest::Ignore)));
    assert!(matches!(parser().event("{\"type\":\"app_rate_limited\"}"), Ok(ParsedRequest::Ignore)));
    let challenge = json!({ "type": "url_verification", "token": "x", "challenge": "3eZb" }).to_string();
    assert!(matches!(parser().event(&challenge), Ok(ParsedRequest::Challenge(text)) if text == "3eZb"));
}

/// Where the sender and the conversation can be read, nothing else keeps a person from an answer.
#[test]
fn whatever_one_part_of_a_request_is_it_is_delivered_if_its_sender_and_conversation_are_intact() {
    let slash = json!({
        "token": "x", "team_id": "T1", "team_domain": "cb", "enterprise_id": "E1", "channel_id": "C1", "user_id": "U1",
        "user_name": "ana", "command": "/db", "text": "locks", "trigger_id": "1.2.3", "is_enterprise_install": "false",
        "response_url": "https://hooks.slack.com/commands/1",
    });
    for request in altered(&slash) {
        let parsed = parser().command_json(&request.payload.to_string());
        if ["/user_id", "/channel_id"].contains(&request.leaf.as_str()) {
            assert!(parsed.is_err(), "{}", request.payload);
            continue;
        }
        let incoming = delivered(parsed);
        assert_eq!((incoming.sender.account.as_str(), incoming.conversation.id.as_str()), ("U1", "C1"));
        assert_eq!(line(&incoming), if request.leaf == "/text" { "" } else { "locks" });
    }
    for request in altered(&click()) {
        let parsed = parser().interaction(&form(&request.payload));
        if ["/type", "/user/id"].contains(&request.leaf.as_str()) {
            assert!(parsed.is_err(), "{}", request.payload);
            continue;
        }
        let incoming = delivered(parsed);
        assert_eq!((incoming.sender.account.as_str(), incoming.conversation.id.as_str()), ("U2", "C1"));
        let ChatEventKind::Button { token, message } = incoming.event else { panic!("{:?}", incoming.event) };
        assert_eq!(message, "100.5", "{}", request.payload);
        assert_eq!(token, if request.leaf == "/actions/0/value" { "" } else { "tok" }, "{}", request.payload);
    }
    let event: Value = serde_json::from_str(&mention(json!({}))).unwrap();
    for request in altered(&event) {
        let parsed = parser().event(&request.payload.to_string());
        if ["/type", "/event/type", "/event/user", "/event/channel"].contains(&request.leaf.as_str()) {
            let is_acknowledged = matches!(parsed, Ok(ParsedRequest::Ignore | ParsedRequest::Unreadable(_)));
            assert!(is_acknowledged, "{}", request.payload);
            continue;
        }
        let incoming = delivered(parsed);
        assert_eq!((incoming.sender.account.as_str(), incoming.conversation.id.as_str()), ("U1", "C1"));
        let text = if request.leaf == "/event/text" { "" } else { "locks --env staging" };
        assert_eq!(line(&incoming), text, "{}", request.payload);
    }
}

#[test]
fn a_home_that_is_opened_or_clicked_on_belongs_to_the_direct_conversation() {
    let opened = |tab: Value| {
        let event = json!({ "type": "app_home_opened", "channel": "D1", "tab": tab, "text": null });
        parser().event(&mention(event))
    };
    for tab in [json!("home"), Value::Null] {
        let incoming = delivered(opened(tab));
        assert_eq!((incoming.sender.account.as_str(), incoming.conversation.id.as_str()), ("U1", "D1"));
        assert_eq!((incoming.event, incoming.delivery.as_str()), (ChatEventKind::Home, "slack:evt:Ev1"));
    }
    assert!(matches!(opened(json!("messages")), Ok(ParsedRequest::Ignore)));

    let mut on_home = click();
    let fields = on_home.as_object_mut().unwrap();
    for field in ["channel", "message", "response_url"] {
        fields.remove(field);
    }
    fields.insert("container".into(), json!({ "type": "view", "view_id": "V1" }));
    fields.insert("view".into(), json!({ "id": "V1", "type": "home" }));
    let incoming = delivered(parser().interaction(&form(&on_home)));
    assert_eq!(incoming.conversation.account().unwrap().account, "U2");
    assert_eq!(incoming.event, ChatEventKind::Button { token: "tok".into(), message: String::new() });
    on_home["view"]["type"] = json!("modal");
    assert!(matches!(parser().interaction(&form(&on_home)), Ok(ParsedRequest::Ignore)));
}

#[test]
fn a_click_whose_channel_is_unknown_is_answered_where_slack_says() {
    let mut lost = click();
    lost["channel"] = json!(7);
    lost["container"]["channel_id"] = json!([]);
    let incoming = delivered(parser().interaction(&form(&lost)));
    assert_eq!(incoming.conversation.id, "");
    assert_eq!(incoming.handle.unwrap().id, "https://hooks.slack.com/actions/1");
    lost["response_url"] = json!(7);
    assert!(matches!(parser().interaction(&form(&lost)), Ok(ParsedRequest::Ignore)));
}
