//! Forms as modals, judged by the types of Slack's client library, and what comes back from them.

use crate::payload_leaves::altered;
use countersign::chat::slack::form::view;
use countersign::chat::slack::{ParsedRequest, SlackParser};
use countersign::model::{ChatEventKind, EnvironmentTag, Field, FieldKind, Form, FormOption, Severity};
use serde_json::{Value, json};
use slack_morphism::prelude::{SlackBlockSuggestionResponse, SlackView};

fn field(name: &str, kind: FieldKind, value: Option<&str>) -> Field {
    let value = value.and_then(FormOption::text);
    Field { name: name.into(), label: name.into(), hint: "a hint".into(), kind, value, required: true }
}

fn form(fields: Vec<Field>) -> Form {
    Form {
        token: "0a".repeat(16),
        command: "a-command-with-a-name-of-forty-letters-in".into(),
        line: "kill 4711".into(),
        summary: "Ends a session".into(),
        environment: Some(EnvironmentTag { name: "production".into(), production: true }),
        fields,
        submit: "Request approval".into(),
        severity: Severity::Critical,
    }
}

#[test]
fn every_kind_of_field_is_one_of_slacks() {
    let options = |count: usize| {
        (0..count).filter_map(|number| FormOption::new(number.to_string(), &"ü".repeat(90))).collect()
    };
    let fields = vec![
        field("text", FieldKind::Text { multiline: false }, Some("<!channel> *x*")),
        field("lines", FieldKind::Text { multiline: true }, Some(&"x".repeat(4_000))),
        field("choice", FieldKind::Choice(options(100)), Some("7")),
        field("other", FieldKind::Choice(options(2)), Some("not offered")),
        field("search", FieldKind::Search, Some("4711")),
        field("toggle", FieldKind::Toggle, Some("true")),
    ];
    let shown = view(&form(fields));
    let read: SlackView = serde_json::from_value(shown.clone()).expect("a view of Slack's");
    let SlackView::Modal(modal) = &read else { panic!("{read:?}") };
    assert_eq!(modal.blocks.len(), 9);
    assert_eq!(shown["title"]["text"].as_str().map(|title| title.chars().count()), Some(24));
    let elements = || shown["blocks"].as_array().unwrap().iter().map(|block| &block["element"]);
    assert!(elements().any(|element| element["initial_option"]["value"] == "7"));
    assert!(elements().all(|element| element["initial_option"]["value"] != "not offered"));
    assert!(
        elements().any(|element| element["initial_value"].as_str().is_some_and(|text| text.len() == 3_000))
    );
    assert_eq!(shown["private_metadata"], "0a".repeat(16), "a form carries its token and nothing else");
    let choices = json!({ "options": [{ "text": { "type": "plain_text", "text": "a" }, "value": "a" }] });
    serde_json::from_value::<SlackBlockSuggestionResponse>(choices).expect("choices of Slack's");
}

fn submission() -> Value {
    json!({
        "type": "view_submission", "trigger_id": "9.8.7", "team": { "id": "T1" }, "enterprise": null,
        "user": { "id": "U2", "username": "ben", "name": "ben", "team_id": "T1" }, "response_urls": [],
        "view": {
            "id": "V1", "type": "modal", "callback_id": "cs:form", "private_metadata": "tok",
            "state": { "values": {
                "pid": { "cs:pid": { "type": "external_select", "selected_option": { "value": "4711" } } },
                "reason": { "cs:reason": { "type": "plain_text_input", "value": "it blocks" } },
                "failed": { "cs:failed": { "type": "checkboxes", "selected_options": [{ "value": "true" }] } },
                "empty": { "cs:empty": { "type": "plain_text_input", "value": null } },
            } },
        },
    })
}

#[test]
fn a_submission_carries_its_token_and_the_values_of_its_fields() {
    let parser = SlackParser::new(&["T1".to_owned()]);
    let parsed = parser.interaction_json(&submission().to_string());
    let Ok(ParsedRequest::Form(incoming)) = parsed else { panic!("{parsed:?}") };
    assert_eq!((incoming.sender.account.as_str(), incoming.delivery.as_str()), ("U2", "slack:form:9.8.7"));
    let ChatEventKind::FormSubmission(input) = &incoming.event else { panic!("{incoming:?}") };
    assert_eq!(input.token, "tok");
    let values: Vec<(&str, &str)> =
        input.values.iter().map(|(field, value)| (field.as_str(), value.as_str())).collect();
    assert_eq!(values, [("empty", ""), ("failed", "true"), ("pid", "4711"), ("reason", "it blocks")]);
    let mut typing = submission();
    typing["type"] = json!("block_suggestion");
    typing["block_id"] = json!("pid");
    typing["value"] = json!("47");
    let Ok(ParsedRequest::Form(incoming)) = parser.interaction_json(&typing.to_string()) else { panic!() };
    let ChatEventKind::FormQuery { field, query, .. } = &incoming.event else { panic!("{incoming:?}") };
    assert_eq!((field.as_str(), query.as_str()), ("pid", "47"));
    let mut others = submission();
    others["view"]["callback_id"] = json!("another app's");
    assert!(matches!(parser.interaction_json(&others.to_string()), Ok(ParsedRequest::Ignore)));
    for payload in [submission(), typing] {
        for request in altered(&payload) {
            match parser.interaction_json(&request.payload.to_string()) {
                Ok(ParsedRequest::Form(incoming)) => {
                    let (ChatEventKind::FormSubmission(input) | ChatEventKind::FormQuery { input, .. }) =
                        &incoming.event
                    else {
                        panic!("{incoming:?}")
                    };
                    let is_lost = request.leaf == "/view/private_metadata";
                    assert_eq!(input.token, if is_lost { "" } else { "tok" }, "{}", request.payload);
                    assert_eq!(incoming.sender.account, "U2", "{}", request.payload);
                }
                Ok(ParsedRequest::Ignore) => {
                    assert!(["/view/callback_id", "/user/id"].contains(&request.leaf.as_str()));
                }
                Err(_) => {
                    assert!(["/type", "/user/id"].contains(&request.leaf.as_str()), "{}", request.payload)
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
