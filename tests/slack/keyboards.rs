//! Generated: every command line in every disguise of a keyboard, a client or a copy is read as the plain line.

use countersign::chat::slack::{ParsedRequest, SlackParser};
use countersign::command_line::{OptionKind, TypedLine, split};
use countersign::model::ChatEventKind;
use serde_json::{Value, json};

const LINES: [&str; 6] = [
    "health",
    "health --env staging",
    "sizes asset-service --env production --private",
    "kill 4711 --env staging --reason \"blocks the deploy\"",
    "long --over 5m --env production",
    "break-glass kill 4711 --env production --reason \"ana's call\" --dry-run",
];

fn kinds(_: &str, option: &str) -> Option<OptionKind> {
    (option == "over").then_some(OptionKind::Word)
}

fn read(line: &str) -> TypedLine {
    split(line, &kinds).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

/// The line with something done to every character outside of its quotes.
fn unquoted(line: &str, change: impl Fn(&str) -> String) -> String {
    let parts = line.split('"').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 0 { change(part) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("\"")
}

fn disguises(line: &str) -> Vec<String> {
    let mut all = vec![line.to_owned()];
    for invisible in [
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{1160}',
        '\u{180e}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2063}',
        '\u{2066}',
        '\u{2069}',
        '\u{2800}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{e0020}',
        '\u{e0101}',
    ] {
        all.push(format!("{invisible}{line}{invisible}"));
        all.push(unquoted(line, |part| part.replace(' ', &format!("{invisible} {invisible}"))));
        all.push(unquoted(line, |part| part.replace('a', &format!("a{invisible}"))));
    }
    for blank in ['\u{a0}', '\u{2002}', '\u{2009}', '\u{202f}', '\u{3000}', '\t', '\n'] {
        all.push(unquoted(line, |part| part.replace(' ', &blank.to_string())));
    }
    for hyphen in ['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}', '\u{fe63}', '\u{ff0d}'] {
        all.push(unquoted(line, |part| part.replace('-', &hyphen.to_string())));
    }
    for dash in ['\u{2013}', '\u{2014}', '\u{2015}', '-'] {
        all.push(unquoted(line, |part| part.replace("--", &dash.to_string())));
    }
    for (open, close) in [
        ("“", "”"),
        ("„", "“"),
        ("”", "”"),
        ("«", "»"),
        ("«\u{a0}", "\u{a0}»"),
        ("»", "«"),
        ("＂", "＂"),
        ("‘", "’"),
        ("‚", "‘"),
        ("'", "'"),
        ("‹", "›"),
        ("「", "」"),
        ("〝", "〞"),
    ] {
        let mut parts = line.split('"');
        let (before, inside, behind) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        all.extend(
            inside.map(|inside| format!("{before}{open}{inside}{close}{}", behind.unwrap_or_default())),
        );
    }
    for mark in ["`", "*", "```", "**", "_", "~", "*`"] {
        let closing: String = mark.chars().rev().collect();
        all.push(format!("{mark}{line}{closing}"));
    }
    all.push(unquoted(line, |part| part.split(' ').map(marked).collect::<Vec<_>>().join(" ")));
    let mut letters = line.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    all.push(first.into_iter().chain(letters).collect());
    all.push(line.replace("--env", "--Env").replace("--reason", "--REASON"));
    all
}

fn marked(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!("*{word}*") }
}

fn slack_line(request: ParsedRequest) -> String {
    match request {
        ParsedRequest::Deliver(event) => match event.event {
            ChatEventKind::Command(typed) => typed.words(),
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
    let parser = SlackParser::new(&["T1".to_owned()]);
    for line in LINES {
        let plain = read(line);
        for typed in disguises(line) {
            assert_eq!(read(&typed), plain, "{typed:?}");
            let fields = [("team_id", "T1"), ("channel_id", "C1"), ("user_id", "U1"), ("trigger_id", "1")];
            let text = escaped(&typed);
            let form =
                serde_urlencoded::to_string([&fields[..], &[("text", text.as_str())]].concat()).unwrap();
            assert_eq!(read(&slack_line(parser.command(&form).unwrap())), plain, "slash: {typed:?}");
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
                assert_eq!(
                    read(&slack_line(parser.event(&event.to_string()).unwrap())),
                    plain,
                    "{message}: {typed:?}"
                );
            }
        }
    }
}

/// The payload with one of its fields set to null, and with that field left out; every field at every depth.
fn without_each_field(payload: &Value) -> Vec<(String, Value, Value)> {
    fn pointers(value: &Value, path: &str, found: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (key, child) in children {
            let path = format!("{path}/{key}");
            pointers(child, &path, found);
            if value.is_object() {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    pointers(payload, "", &mut found);
    let variant = |path: &String| {
        let (mut null, mut absent) = (payload.clone(), payload.clone());
        *null.pointer_mut(path)? = Value::Null;
        let (parent, key) = path.rsplit_once('/')?;
        absent.pointer_mut(parent)?.as_object_mut()?.remove(key);
        Some((path.clone(), null, absent))
    };
    found.iter().filter_map(variant).collect()
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
