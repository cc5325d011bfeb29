//! Generated: every command line in every disguise of a keyboard, a client or a copy is read as the plain line, and a null is read as an
//! absent field.

use crate::sample_lines::{LINES, LineReader, disguises, without_each_field};
use countersign::chat::teams::verify::VerifiedToken;
use countersign::chat::teams::{ParsedActivity, TeamsParser};
use countersign::config::TeamsSettings;
use countersign::model::{ChatEventKind, TypedText};
use serde_json::{Value, json};
use std::sync::Arc;

pub const APP: &str = "11111111-1111-1111-1111-111111111111";
pub const TENANT: &str = "22222222-2222-2222-2222-222222222222";
const SERVICE: &str = "https://smba.trafficmanager.net/emea/";

pub struct Door {
    pub parser: TeamsParser,
    pub token: VerifiedToken,
}

impl Door {
    pub fn new() -> Door {
        let parser = TeamsParser::new(&TeamsSettings {
            app_id: APP.to_owned(),
            tenants: vec![TENANT.to_owned()],
            client_secret: None,
            service_url: SERVICE.to_owned(),
            service_hosts: Vec::new(),
            login_url: "https://login.microsoftonline.com".to_owned(),
            openid_url: "https://login.botframework.com/".to_owned(),
            issuer: "https://api.botframework.com".to_owned(),
            scope: "https://api.botframework.com/.default".to_owned(),
            groups: Default::default(),
            terminal_channel: None,
        });
        let token =
            VerifiedToken { service_url: SERVICE.to_owned(), endorsed: Arc::new(["msteams".to_owned()]) };
        Door { parser, token }
    }

    /// What becomes of an activity, without the times.
    fn outcome(&self, activity: &Value) -> String {
        match self.parser.parse_activity(activity.to_string().as_bytes(), &self.token) {
            Ok(ParsedActivity::Deliver(event)) => {
                let handle = event.handle.as_ref().map(|handle| (&handle.id, handle.replaces_card));
                format!("{:?} {:?} {:?} {handle:?}", event.sender, event.conversation, event.event)
            }
            Ok(other) => format!("{other:?}"),
            Err(_) => "refused".to_owned(),
        }
    }

    fn text(&self, activity: &Value) -> TypedText {
        match self.parser.parse_activity(activity.to_string().as_bytes(), &self.token) {
            Ok(ParsedActivity::Deliver(event)) => match event.event {
                ChatEventKind::Command(typed) => typed,
                other => panic!("no line: {other:?}"),
            },
            other => panic!("not delivered: {other:?}: {activity}"),
        }
    }
}

pub fn activity(more: Value) -> Value {
    let mut activity = json!({
        "type": "message", "id": "1700000000001", "serviceUrl": SERVICE, "channelId": "msteams",
        "from": { "id": "29:ana", "name": "ana", "aadObjectId": "aaaaaaaa-0000-4000-8000-000000000001", "role": "user" },
        "recipient": { "id": format!("28:{APP}"), "name": "Countersign" },
        "conversation": { "id": "19:incident@thread.tacv2;messageid=1", "conversationType": "channel", "tenantId": TENANT },
        "channelData": { "tenant": { "id": TENANT } },
    });
    activity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    activity
}

pub fn mention(name: &str, text: &Value) -> Value {
    json!({ "type": "mention", "mentioned": { "id": format!("28:{APP}"), "name": name }, "text": text })
}

fn escaped(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The message in the ways of Teams' clients: places of the mention, split mentions, entities without a text, HTML, quoted replies.
fn messages(line: &str) -> Vec<Value> {
    let text = escaped(line);
    let whole = "<at>Countersign</at>";
    let entity = || vec![mention("Countersign", &json!(whole))];
    let mut all: Vec<Value> = [
        format!("{whole} {text}"),
        format!("{whole}: {text}"),
        format!("hey {whole}, {text}"),
        format!("{whole} {whole} {text}"),
        format!("{text} {whole}"),
        format!("<at id=\"0\">Countersign</at>&nbsp;{text}"),
        format!("<div>{whole} {text}</div>"),
        format!("<p>{whole}</p><p>{text}</p>"),
        format!("<div>{whole}<br/>{text}</div>\r\n"),
        format!("<b>{whole}</b> <span style=\"font-size:10pt\">{text}</span>"),
        format!("<quoted messageId=\"1700000000000\"/> {whole} {text}"),
        format!("<blockquote><p>old words</p></blockquote>{whole} {text}"),
    ]
    .into_iter()
    .map(|text| activity(json!({ "text": text, "entities": entity() })))
    .collect();
    let split = format!("<at>Counter</at>&nbsp;<at>Sign</at>&nbsp;{text}");
    let halves = ["Counter", "Sign"].map(|half| mention(half, &json!(format!("<at>{half}</at>"))));
    all.push(activity(json!({ "text": split, "entities": halves })));
    let named = format!("<at>Ops &amp; DB</at> {text}");
    for entity in [mention("Ops & DB", &Value::Null), mention("Ops & DB", &json!("<at>Ops &amp; DB</at>"))] {
        all.push(activity(json!({ "text": named, "entities": [entity] })));
    }
    let bare = mention("Countersign", &json!("Countersign"));
    all.push(activity(json!({ "text": format!("@Countersign {text}"), "entities": [bare] })));
    // A quoted reply, which only the HTML tells from what was typed.
    let html = format!(
        "<blockquote itemscope=\"\" itemtype=\"http://schema.skype.com/Reply\" itemid=\"1\"><strong>Ana</strong><p>blocked</p>\
         </blockquote><p><span itemtype=\"http://schema.skype.com/Mention\" itemid=\"0\">Countersign</span> {text}</p>"
    );
    let flat = format!("Ana blocked {whole} {text}");
    let attachments = json!([{ "contentType": "text/html", "content": html }]);
    all.push(activity(json!({ "text": flat, "entities": entity(), "attachments": attachments })));
    // Alone with the bot, and as a slash command.
    let personal = json!({ "id": "a:1ana", "conversationType": "personal", "tenantId": TENANT });
    all.push(activity(json!({ "text": text, "conversation": personal })));
    let recipient = json!({ "id": format!("28:{APP}"), "name": "Countersign", "isTargeted": true });
    all.push(activity(json!({ "text": text, "recipient": recipient })));
    all
}

#[test]
fn every_disguise_of_a_line_is_the_line() {
    let (door, reader) = (Door::new(), LineReader::new());
    for line in LINES {
        let plain = reader.read(&line.into());
        for typed in disguises(line) {
            for message in messages(&typed) {
                assert_eq!(reader.read(&door.text(&message)), plain, "{typed:?}: {message}");
            }
        }
    }
}

#[test]
fn a_null_is_an_absent_field_in_every_activity() {
    let door = Door::new();
    let whole = "<at>Countersign</at>";
    let html = json!([{ "contentType": "text/html", "content": format!("<div>{whole} health</div>") }]);
    let bot = json!({ "id": format!("28:{APP}"), "name": "Countersign", "isTargeted": false });
    let message = json!({
        "text": format!("{whole} health"), "textFormat": "plain", "entities": [mention("Countersign", &json!(whole))],
        "attachments": html, "recipient": bot, "replyToId": "1699999999999", "locale": "en-GB",
    });
    let submit = json!({ "value": { "cs": "tok" }, "replyToId": "100", "text": "x", "entities": [] });
    let invoke = |trigger: &str, data: Value| {
        let action = json!({ "type": "Action.Execute", "verb": "cs", "title": "Approve", "data": data });
        let value = json!({ "action": action, "trigger": trigger });
        json!({ "type": "invoke", "name": "adaptiveCard/action", "value": value, "replyToId": "100" })
    };
    let targeted =
        json!({ "text": "health", "recipient": { "id": format!("28:{APP}"), "isTargeted": true } });
    for more in [
        message,
        submit,
        targeted,
        invoke("manual", json!({ "cs": "tok" })),
        invoke("automatic", json!({ "view": "tok" })),
        json!({ "type": "conversationUpdate", "membersAdded": [{ "id": "29:ben" }] }),
    ] {
        let whole = activity(more);
        assert_ne!(door.outcome(&whole), "refused", "{whole}");
        for (path, null, absent) in without_each_field(&whole) {
            assert_eq!(door.outcome(&null), door.outcome(&absent), "{path}: {whole}");
        }
    }
    // What a client of .NET writes for everything that it doesn't set.
    let personal =
        json!({ "id": "a:1ana", "conversationType": "personal", "tenantId": TENANT, "name": null });
    let nulls = json!({
        "text": "health", "conversation": personal, "entities": null, "attachments": null, "value": null, "name": null,
        "replyToId": null, "recipient": null, "textFormat": null,
    });
    assert!(door.outcome(&activity(nulls)).contains("Command"), "it is answered");
}
