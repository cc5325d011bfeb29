//! Generated: every command line in every disguise of a keyboard, a client or a copy is read as the plain line.

use crate::sample_lines::{LINES, LineReader, disguises, without_each_field};
use countersign::chat::slack::{ParsedRequest, SlackParser};
use countersign::model::{ChatEventKind, TypedText};
use serde_json::{Value, json};

fn text_of(request: ParsedRequest) -> TypedText {
    match request {
        ParsedRequest::Deliver(event) => match event.event {
            ChatEventKind::Command(typed) => typed,
            other => panic!("no line: {other:?}"),
        },
        other => panic!("not delivered: {other:?}"),
    }
}

fn escaped(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn every_disguise_of_a_line_is_the_line() {
    let (parser, reader) = (SlackParser::new(&["T1".to_owned()]), LineReader::new());
    for line in LINES {
        let plain = reader.read(&line.into());
        for typed in disguises(line) {
            assert_eq!(reader.read(&typed.as_str().into()), plain, "{typed:?}");
            let fields = [("team_id", "T1"), ("channel_id", "C1"), ("user_id", "U1"), ("trigger_id", "1")];
            let text = escaped(&typed);
            let form =
                serde_urlencoded::to_string([&fields[..], &[("text", text.as_str())]].concat()).unwrap();
            assert_eq!(reader.read(&text_of(parser.command(&form).unwrap())), plain, "slash: {typed:?}");
            for message in [
                "<@UBOT> X",
                "<@UBOT>: X",
                "hey <@UBOT>, X",
                "<@UBOT> <@UBOT> X",
                "X <@UBOT>",
                "&gt; old\n<@UBOT> X",
            ] {
                // A line that begins with a mark of a quotation's is none of these.
                let event = json!({
                    "type": "event_callback", "team_id": "T1", "event_id": "Ev1", "authorizations": [{ "user_id": "UBOT" }],
                    "event": { "type": "app_mention", "user": "U1", "ts": "1.1", "channel": "C1", "text": message.replace('X', &text) },
                });
                let text = text_of(parser.event(&event.to_string()).unwrap());
                assert_eq!(reader.read(&text), plain, "{message}: {typed:?}");
            }
        }
    }
}

/// What becomes of a request, without the times and the ids that are made for it.
fn outcome(parsed: Result<ParsedRequest, impl std::fmt::Display>) -> String {
    match parsed {
        Ok(ParsedRequest::Deliver(event)) => {
            format!(
                "{:?} {:?} {:?} {:?}",
                event.sender,
                event.conversation,
                event.event,
                event.handle.map(|handle| handle.id)
            )
        }
        Ok(ParsedRequest::Unreadable(_)) | Err(_) => "unreadable".to_owned(),
        Ok(other) => format!("{other:?}"),
    }
}

#[test]
fn a_null_is_an_absent_field_in_every_payload() {
    let parser = SlackParser::new(&["T1".to_owned()]);
    let command = json!({
        "team_id": "T1", "enterprise_id": "E1", "channel_id": "C1", "user_id": "U1", "user_name": "ana", "text": "health",
        "response_url": "https://hooks.slack.com/commands/1", "trigger_id": "1.2.3",
    });
    let click = json!({
        "type": "block_actions", "trigger_id": "9.8.7", "team": { "id": "T1", "domain": "cb" }, "enterprise": { "id": "E1" },
        "user": { "id": "U2", "username": "ben", "name": "ben", "team_id": "T1" }, "channel": { "id": "C1", "name": "db" },
        "container": { "type": "message", "message_ts": "100.5", "channel_id": "C1", "thread_ts": "90.1" },
        "message": { "ts": "100.5", "thread_ts": "90.1" }, "response_url": "https://hooks.slack.com/actions/1",
        "actions": [{ "type": "button", "action_id": "cs:0", "value": "tok", "action_ts": "101.1" }],
    });
    let mention = json!({
        "type": "event_callback", "team_id": "T1", "enterprise_id": "E1", "context_team_id": "T1", "event_id": "Ev1",
        "event": {
            "type": "app_mention", "user": "U1", "text": "<@UBOT> health", "ts": "100.1", "thread_ts": "90.1",
            "channel": "C1", "team": "T1", "user_team": "T1",
        },
        "authorizations": [{ "user_id": "UBOT", "team_id": "T1", "is_bot": true }],
    });
    type Read<'a> = &'a dyn Fn(&Value) -> String;
    let read: [(&Value, Read<'_>); 3] = [
        (&command, &|payload| outcome(parser.command_json(&payload.to_string()))),
        (&click, &|payload| outcome(parser.interaction_json(&payload.to_string()))),
        (&mention, &|payload| outcome(parser.event(&payload.to_string()))),
    ];
    for (payload, read) in read {
        for (path, null, absent) in without_each_field(payload) {
            assert_eq!(read(&null), read(&absent), "{path}");
        }
    }
    // An installation for a whole organisation names no team, and what an approver clicked still counts.
    let mut org = click.clone();
    org["team"] = Value::Null;
    org["user"]["team_id"] = json!("T0HOME");
    assert!(outcome(parser.interaction_json(&org.to_string())).contains("Button"));
}
