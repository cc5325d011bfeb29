//! Block Kit's limits, shapes and totals, checked without a server.

use countersign::demo::fake_slack::{ApiError, check_blocks};
use serde_json::{Value, json};

fn error_of(blocks: Value) -> String {
    match check_blocks(&blocks) {
        Ok(()) => "ok".into(),
        Err(ApiError { error, messages, .. }) if messages.is_empty() => error,
        Err(ApiError { error, messages, .. }) => format!("{error}: {}", messages.join("; ")),
    }
}

/// `build(max)` is accepted, `build(max + 1)` is refused with something that says `why`.
fn edge(max: usize, why: &str, build: impl Fn(usize) -> Value) {
    assert_eq!(error_of(build(max)), "ok", "{why}: {max} must be accepted");
    let refused = error_of(build(max + 1));
    assert!(refused.contains(why), "{max} + 1 must be refused with {why:?}, got {refused:?}");
}

pub fn plain(text: &str) -> Value {
    json!({"type": "plain_text", "text": text})
}

pub fn long(length: usize) -> String {
    // Not ASCII: Slack counts characters, not bytes.
    "é".repeat(length)
}

pub fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

pub fn button(extra: Value) -> Value {
    let mut button = json!({"type": "button", "text": plain("Approve"), "action_id": "approve"});
    for (key, value) in extra.as_object().expect("an object") {
        button[key] = value.clone();
    }
    json!([{"type": "actions", "elements": [button]}])
}

fn table(rows: usize, columns: usize, cell: &str) -> Value {
    let row = vec![json!({"type": "raw_text", "text": cell}); columns];
    json!({"type": "table", "rows": vec![row; rows]})
}

#[test]
fn texts_have_their_limits() {
    edge(3000, "less than 3001", |n| json!([section(&long(n))]));
    edge(150, "less than 151", |n| json!([{"type": "header", "text": plain(&long(n))}]));
    edge(2000, "less than 2001", |n| json!([{"type": "section", "fields": [plain(&long(n))]}]));
    edge(75, "less than 76", |n| button(json!({"text": plain(&long(n))})));
    edge(2000, "less than 2001", |n| button(json!({"value": long(n)})));
    edge(255, "less than 256", |n| button(json!({"action_id": long(n)})));
    edge(255, "less than 256", |n| json!([{"type": "divider", "block_id": long(n)}]));
    let confirm = |title: usize, text: usize, yes: usize, no: usize| {
        button(json!({"confirm": {
            "title": plain(&long(title)), "text": plain(&long(text)),
            "confirm": plain(&long(yes)), "deny": plain(&long(no)),
        }}))
    };
    edge(100, "confirm/title", |n| confirm(n, 1, 1, 1));
    edge(300, "confirm/text", |n| confirm(1, n, 1, 1));
    edge(30, "confirm/confirm", |n| confirm(1, 1, n, 1));
    edge(30, "confirm/deny", |n| confirm(1, 1, 1, n));
}

#[test]
fn lists_have_their_limits() {
    edge(50, "no more than 50", |n| json!(vec![json!({"type": "divider"}); n]));
    edge(10, "no more than 10", |n| json!([{"type": "section", "fields": vec![plain("x"); n]}]));
    edge(10, "no more than 10", |n| json!([{"type": "context", "elements": vec![plain("x"); n]}]));
    edge(
        25,
        "no more than 25",
        |n| json!([{"type": "actions", "elements": vec![json!({"type": "button", "text": plain("x")}); n]}]),
    );
    edge(12_000, "less than 12001", |n| json!([{"type": "markdown", "text": long(n)}]));
    edge(
        6_000,
        "less than 12001",
        |n| json!([{"type": "markdown", "text": long(n)}, {"type": "markdown", "text": long(6_000)}]),
    );
}

#[test]
fn tables_have_their_limits() {
    edge(100, "no more than 100", |n| json!([table(n, 1, "x")]));
    edge(20, "no more than 20", |n| json!([table(1, n, "x")]));
    edge(10_000, "less than 10001", |n| json!([table(1, 1, &long(n))]));
    edge(500, "less than 10001", |n| json!([table(1, 20, &long(n))]));
    edge(1, "only_one_table_allowed", |n| json!(vec![table(1, 1, "x"); n]));
    let data = |n: usize| {
        let mut block = table(n, 1, "x");
        block["type"] = json!("data_table");
        block["caption"] = json!("Sessions");
        json!([block])
    };
    edge(101, "no more than 101", data);
    let cell = json!({"type": "raw_text", "text": "x"});
    let uneven = error_of(json!([{"type": "table", "rows": [[cell, cell], [cell]]}]));
    assert!(uneven.contains("same number of cells"), "{uneven}");
    assert!(error_of(json!([table(1, 1, "")])).contains("more than 0 characters"));
    assert!(error_of(json!([{"type": "table", "rows": []}])).contains("no less than 1"));
    let number = json!([{"type": "table", "rows": [[{"type": "raw_number", "value": 3, "text": "3"}]]}]);
    assert_eq!(error_of(number), "ok");
    let strange = json!([{"type": "table", "rows": [[{"type": "mrkdwn", "text": "x"}]]}]);
    assert!(error_of(strange).contains("unsupported type: mrkdwn"));
}

#[test]
fn a_message_has_a_limit_over_all_its_blocks() {
    // Four sections of 3 000 characters, and one that fills up to the limit: every block counts for ten more.
    let filled = |last: usize| {
        let mut blocks = vec![section(&long(3_000)); 4];
        blocks.push(section(&long(last)));
        json!(blocks)
    };
    edge(13_000 - 12_000 - 50, "msg_blocks_too_long", filled);
}

#[test]
fn shapes_are_checked() {
    let cases = [
        (json!("nonsense"), "invalid_blocks_format"),
        (json!([{"type": "sectoin"}]), "unsupported type: sectoin"),
        (json!([{"type": "divider", "colour": "red"}]), "invalid additional property: colour"),
        (json!([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]), "unsupported type: mrkdwn"),
        (json!([{"type": "header"}]), "missing required field: text"),
        (json!([{"type": "section"}]), "missing required field: text or fields"),
        (json!([section("")]), "must be more than 0 characters"),
        (json!([{"type": "context", "elements": []}]), "no less than 1 items"),
        (button(json!({"style": "warning"})), "must be one of primary, danger"),
        (button(json!({"confirm": {"title": plain("x")}})), "missing required field: text"),
        (button(json!({"text": {"type": "mrkdwn", "text": "x"}})), "unsupported type: mrkdwn"),
        (
            json!([{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}]),
            "`block_id` a already exists",
        ),
        (
            json!([{"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": [
                {"type": "user", "user_id": "U1"}]}]}]),
            "unsupported type: user",
        ),
        (
            json!([{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [
                {"type": "text", "text": ""}]}]}]),
            "must be more than 0 characters",
        ),
    ];
    for (blocks, why) in cases {
        let refused = error_of(blocks.clone());
        assert!(refused.contains(why), "{blocks} must be refused with {why:?}, got {refused:?}");
    }
    let twice = json!([button(json!({}))[0], button(json!({}))[0]]);
    assert!(error_of(twice).contains("`action_id` approve already exists"));
    let pointer = error_of(json!([{"type": "divider"}, section("")]));
    assert!(pointer.contains("[json-pointer:/blocks/1/text/text]"), "{pointer}");
}
