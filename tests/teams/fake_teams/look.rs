//! Which activities and cards are shown.

use super::*;
use crate::wire::token_of;

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut card = card();
    change(&mut card);
    with_card(card)
}

fn body(element: Value) -> Value {
    changed(|card| card["body"] = json!([element]))
}

fn execute() -> Value {
    json!({ "type": "Action.Execute", "title": "Go", "verb": "cs", "data": { "cs": "0" } })
}

async fn refused(teams: &Teams, activity: Value) -> Option<String> {
    let (status, answer) = call(teams, ("POST", &activities(CHAT)), activity).await;
    let why = teams.take_refusals();
    assert_eq!(status == 201, why.is_empty(), "{answer}");
    why.into_iter().next()
}

#[tokio::test]
async fn what_teams_would_not_show_is_refused() {
    let teams = quick().await;
    let long = "x".repeat(100 * 1024);
    let seven: Vec<Value> = (0..7).map(|_| execute()).collect();
    for (activity, words) in [
        (json!({ "type": "message" }), "empty"),
        (json!({ "type": "event", "text": "x" }), "type"),
        (json!({ "type": "message", "text": "x", "textFormat": "html" }), "textFormat"),
        (json!({ "type": "message", "text": long }), "too large"),
        (json!({ "type": "message", "attachments": [{ "contentType": "text/html" }] }), "attachment"),
        (changed(|card| card["type"] = json!("Card")), "not AdaptiveCard"),
        (changed(|card| card["version"] = json!("1.6")), "version"),
        (changed(|card| card["version"] = Value::Null), "version"),
        (changed(|card| card["body"] = json!([])), "no body"),
        (body(json!({ "type": "Marquee" })), "no element Marquee"),
        (body(json!({ "text": "x" })), "has no type"),
        (body(json!({ "type": "TextBlock", "text": "" })), "without text"),
        (body(json!({ "type": "RichTextBlock", "inlines": [] })), "without inlines"),
        (body(json!({ "type": "FactSet", "facts": [{ "title": "a", "value": "" }] })), "a fact"),
        (body(json!({ "type": "Table", "columns": [{}], "rows": [{ "cells": [] }] })), "cells"),
        (body(json!({ "type": "ActionSet", "actions": seven.clone() })), "beside each other"),
        (changed(|card| card["actions"] = json!(seven)), "beside each other"),
        (
            changed(|card| {
                let twice = json!({ "type": "TextBlock", "text": "x", "id": "a" });
                card["body"] = json!([twice, twice]);
            }),
            "stands twice",
        ),
        (
            changed(|card| card["actions"] = json!([{ "type": "Action.Execute", "title": "Go" }])),
            "without verb",
        ),
        (changed(|card| card["actions"] = json!([{ "type": "Action.Submit", "data": {} }])), "without title"),
        (
            changed(|card| {
                card["actions"] = json!([execute()]);
                card["actions"][0]["data"] = json!("0");
            }),
            "no object",
        ),
        (changed(|card| card["refresh"] = json!({ "action": { "type": "Action.Execute" } })), "a verb"),
        (
            changed(|card| card["refresh"] = json!({ "action": execute(), "userIds": vec!["29:ana"; 61] })),
            "60 at most",
        ),
        (
            changed(|card| card["refresh"] = json!({ "action": execute(), "userIds": ["29:eve"] })),
            "no member's id",
        ),
        (
            changed(|card| {
                let nobody = json!({ "type": "mention", "text": "<at>Ana</at>",
                                     "mentioned": { "id": "29:ana", "name": "Ana" } });
                card["msteams"] = json!({ "entities": [nobody] });
            }),
            "a mention",
        ),
    ] {
        let shown = activity.to_string().chars().take(200).collect::<String>();
        let why = refused(&teams, activity).await.unwrap_or_else(|| panic!("not refused: {shown}"));
        assert!(why.contains(words), "{why} is not about {words}: {shown}");
    }
}

#[tokio::test]
async fn what_teams_shows_is_taken_and_read() {
    let teams = quick().await;
    teams.add_conversation(ConversationKind::GroupChat, CHAT, &["ana", "ben", "eve"]);
    let mut button = execute();
    button["fallback"] = json!({ "type": "Action.Submit", "title": "Go", "data": { "cs": "0" } });
    let text = |words: &str| json!({ "type": "TextBlock", "text": words });
    let cell = |words: &str| json!({ "type": "TableCell", "items": [text(words)] });
    let whole = json!({
        "type": "AdaptiveCard", "version": "1.5", "msteams": { "width": "Full", "entities": [
            { "type": "mention", "text": "<at>Ana</at>", "mentioned": { "id": "29:ana", "name": "Ana" } }] },
        "refresh": { "action": execute(), "userIds": ["29:ana", "29:ben"] },
        "body": [
            text("**bold** a\\_b &lt;c&gt; <at>Ana</at>"),
            { "type": "RichTextBlock", "inlines": ["one ", { "type": "TextRun", "text": "two" }] },
            { "type": "FactSet", "facts": [{ "title": "pid", "value": "42" }] },
            { "type": "Table", "columns": [{ "width": 1 }, { "width": 1 }],
              "rows": [{ "type": "TableRow", "cells": [cell("a"), cell("b")] }] },
            { "type": "ColumnSet", "columns": [{ "type": "Column", "items": [text("left")] },
                                               { "type": "Column", "items": [text("right")] }] },
            { "type": "Container", "items": [{ "type": "TextBlock", "text": "hidden", "isVisible": false }] },
            { "type": "ActionSet", "actions": [button] },
        ],
        "actions": [{ "type": "Action.Submit", "title": "Last", "data": { "view": "1" } }],
    });
    let view =
        json!({ "statusCode": 200, "type": "application/vnd.microsoft.card.adaptive", "value": card() });
    bot(&teams, view).await;
    assert_eq!(refused(&teams, with_card(whole)).await, None);
    let seen = teams.visible_messages("eve", CHAT).pop().unwrap();
    let lines = "bold a_b <c> @Ana\none two\npid 42\na | b\nleft | right\n[Go]\n[Last]";
    assert_eq!(seen.plain(), lines);
    assert_eq!((token_of(&seen, "Go").as_str(), token_of(&seen, "Last").as_str()), ("0", "1"));
    assert_eq!(seen.buttons().len(), 2);
    let mentioned = json!({ "type": "message", "text": "<at>Ana</at> hello", "entities": [
        { "type": "mention", "text": "<at>Ana</at>", "mentioned": { "id": "29:ana", "name": "Ana" } }] });
    assert_eq!(refused(&teams, mentioned).await, None);
    teams
        .wait_for("own view", |teams| {
            (teams.visible_message("ben", &seen.at())?.plain() == "hello").then_some(())
        })
        .await
        .unwrap();
}
