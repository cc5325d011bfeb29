//! Slack's limits and what a value could do to a message, checked without the renderer's own constants.

use countersign::chat::slack::render::SlackMessage;
use serde_json::{Value, json};

/// Every string that Slack shows of a message, in order.
fn shown(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == "text" => vec![text.as_str()],
                nested => shown(nested),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(shown).collect(),
        _ => Vec::new(),
    }
}

pub fn words(rendered: &SlackMessage) -> String {
    rendered.blocks.iter().flat_map(shown).collect::<Vec<_>>().join("|")
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Slack's limits, written down a second time (platform rules, section 2.3).
pub fn check(rendered: &SlackMessage) -> Result<(), String> {
    let blocks = &rendered.blocks;
    let ensure = |good: bool, what: &str| if good { Ok(()) } else { Err(what.to_owned()) };
    ensure((1..=50).contains(&blocks.len()), "blocks")?;
    ensure((1..=3000).contains(&units(&rendered.text)), "fallback")?;
    ensure(blocks.iter().flat_map(shown).map(units).sum::<usize>() <= 12_000, "message text")?;
    ensure(blocks.iter().filter(|b| b["type"] == "table").count() <= 1, "one table")?;
    let mut ids = Vec::new();
    for block in blocks {
        match block["type"].as_str().unwrap_or_default() {
            "section" => {
                let fields = block["fields"].as_array().ok_or("fields")?;
                ensure((1..=10).contains(&fields.len()), "field count")?;
                for field in fields {
                    ensure((1..=2000).contains(&units(field["text"].as_str().unwrap_or_default())), "field")?;
                }
            }
            "context" => {
                let elements = block["elements"].as_array().ok_or("elements")?;
                ensure((1..=10).contains(&elements.len()), "context elements")?;
                ensure(shown(block).iter().all(|t| (1..=3000).contains(&units(t))), "context text")?;
            }
            "rich_text" => {
                let parts = block["elements"].as_array().ok_or("elements")?;
                ensure(!parts.is_empty(), "rich text parts")?;
                for part in parts {
                    ensure(!part["elements"].as_array().ok_or("elements")?.is_empty(), "rich text elements")?;
                }
                ensure(shown(block).iter().all(|t| !t.is_empty()), "empty text")?;
            }
            "actions" => {
                let elements = block["elements"].as_array().ok_or("elements")?;
                ensure((1..=25).contains(&elements.len()), "actions")?;
                for button in elements {
                    let text =
                        |pointer: &str| button.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                    ensure((1..=75).contains(&units(text("/text/text"))), "button label")?;
                    let is_link =
                        text("/url").starts_with("https://") && text("/action_id").starts_with("link:");
                    ensure(is_link || (1..=2000).contains(&units(text("/value"))), "button value")?;
                    ensure((1..=255).contains(&units(text("/action_id"))), "action id")?;
                    ids.push(text("/action_id").to_owned());
                }
            }
            "table" => {
                let rows = block["rows"].as_array().ok_or("rows")?;
                let width = rows[0].as_array().ok_or("header")?.len();
                ensure((2..=100).contains(&rows.len()) && (1..=20).contains(&width), "table size")?;
                ensure(
                    rows.iter().all(|row| row.as_array().is_some_and(|r| r.len() == width)),
                    "table shape",
                )?;
                ensure(block["column_settings"].as_array().is_some_and(|s| s.len() <= 20), "settings")?;
                ensure(shown(block).iter().all(|cell| !cell.is_empty()), "empty cell")?;
                ensure(shown(block).iter().map(|cell| units(cell)).sum::<usize>() <= 10_000, "table text")?;
            }
            other => return Err(format!("a block that isn't ours: {other}")),
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    ensure(ids.len() == count, "unique action ids")
}

/// No value reached a place that parses mrkdwn, and nobody is pinged but where it is meant.
pub fn inert(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
            let text = fields.get("text").and_then(Value::as_str).unwrap_or_default();
            match kind {
                "plain_text" if fields["emoji"] != json!(false) => {
                    return Err("emoji in plain text".to_owned());
                }
                "mrkdwn" => {
                    let inner = text.strip_prefix(['*', '`']).and_then(|t| t.strip_suffix(['*', '`']));
                    let inner = inner.ok_or("bare mrkdwn")?;
                    let coded = text.starts_with('`');
                    let bad =
                        if coded { vec!['<', '>', '`', '\n'] } else { "<>&*_~`:@#!|\n".chars().collect() };
                    if inner.contains(bad.as_slice()) || fields["verbatim"] != json!(true) {
                        return Err(format!("live mrkdwn: {text}"));
                    }
                }
                "link" | "broadcast" | "usergroup" | "user" | "channel" | "emoji" => {
                    return Err(format!("a live element: {kind}"));
                }
                _ => {}
            }
            fields.values().try_for_each(inert)
        }
        Value::Array(values) => values.iter().try_for_each(inert),
        _ => Ok(()),
    }
}
