//! A message as a person in the workspace sees it, and the text and buttons on it.

use serde::Serialize;
use serde_json::Value;

/// The place of a message: a channel and Slack's time stamp, which is its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct MessageRef {
    pub channel: String,
    pub ts: String,
}

/// A message in the workspace, as it is at the moment of asking.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Message {
    pub channel: String,
    /// Seconds since 1970 (UTC) with six decimals, as Slack writes it; unique.
    pub ts: String,
    /// The time stamp of the message that began the thread.
    pub thread_ts: Option<String>,
    /// The user id of who wrote it.
    pub author: String,
    /// The text of notifications; shown in the conversation only where there are no blocks.
    pub text: String,
    /// Ids that the sender left out are filled in, as Slack does.
    pub blocks: Vec<Value>,
    /// The only person who sees it.
    pub ephemeral_to: Option<String>,
    /// Number of changes.
    pub edited: usize,
    pub files: Vec<SharedFile>,
}

/// A file shared in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedFile {
    pub id: String,
    pub name: String,
    pub title: String,
    /// Bytes.
    pub size: usize,
}

/// A button on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ButtonView {
    pub label: String,
    pub action_id: String,
    pub block_id: String,
    pub value: Option<String>,
    pub style: Option<String>,
}

impl Message {
    pub(super) fn new(channel: &str, author: &str, text: String) -> Message {
        Message { channel: channel.to_owned(), author: author.to_owned(), text, ..Message::default() }
    }

    pub(super) fn replace(&mut self, content: (String, Vec<Value>)) {
        (self.text, self.blocks) = content;
        self.edited += 1;
    }

    /// The message's place.
    pub fn at(&self) -> MessageRef {
        MessageRef { channel: self.channel.clone(), ts: self.ts.clone() }
    }

    /// The text a person reads: one line for each line shown, cells of tables joined by ` | `, buttons in
    /// square brackets. Marks such as `*bold*` stay; entities are resolved.
    pub fn plain(&self) -> String {
        let mut lines = Vec::new();
        if self.blocks.is_empty() {
            lines.push(resolve(&self.text));
        }
        self.blocks.iter().for_each(|block| block_lines(block, &mut lines));
        lines.extend(self.files.iter().map(|file| format!("[file {}, {} bytes]", file.name, file.size)));
        lines.join("\n")
    }

    /// All buttons, in the order in which they stand.
    pub fn buttons(&self) -> Vec<ButtonView> {
        let mut buttons = Vec::new();
        for block in &self.blocks {
            collect_buttons(block, text_of(block, "block_id"), &mut buttons);
        }
        buttons
    }

    /// The button with this label or action id.
    pub fn button(&self, name: &str) -> Option<ButtonView> {
        self.buttons().into_iter().find(|button| button.label == name || button.action_id == name)
    }
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn resolve(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn text_object(value: &Value) -> String {
    match value["type"].as_str() {
        Some("mrkdwn") => resolve(text_of(value, "text")),
        Some("image") => format!("[image {}]", text_of(value, "alt_text")),
        _ => text_of(value, "text").to_owned(),
    }
}

/// The items of an array as text, joined.
fn joined(value: &Value, text: impl Fn(&Value) -> String, separator: &str) -> String {
    items(value).map(text).collect::<Vec<_>>().join(separator)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn block_lines(block: &Value, lines: &mut Vec<String>) {
    match text_of(block, "type") {
        "header" => lines.push(text_object(&block["text"])),
        "section" => {
            lines.extend(block.get("text").map(text_object));
            lines.extend(items(&block["fields"]).map(text_object));
            lines.extend(block.get("accessory").map(element));
        }
        "context" => lines.push(joined(&block["elements"], text_object, "  ")),
        "actions" => lines.push(joined(&block["elements"], element, " ")),
        "markdown" => lines.push(text_of(block, "text").to_owned()),
        "image" => lines.push(text_object(block)),
        "rich_text" => lines.push(rich(block)),
        "table" | "data_table" => {
            lines.extend(items(&block["rows"]).map(|row| joined(row, cell, " | ")));
        }
        _ => {}
    }
}

fn element(value: &Value) -> String {
    match value["type"].as_str() {
        Some("button") => format!("[{}]", text_of(&value["text"], "text")),
        Some("image") => text_object(value),
        _ => joined(&value["options"], |option| format!("[{}]", text_of(&option["text"], "text")), " "),
    }
}

fn cell(value: &Value) -> String {
    match text_of(value, "type") {
        "rich_text" => rich(value),
        "action_cell" => element(&value["element"]),
        "raw_number" if value.get("text").is_none() => value["value"].to_string(),
        _ => text_of(value, "text").to_owned(),
    }
}

fn rich(value: &Value) -> String {
    let part = |part: &Value| match text_of(part, "type") {
        "rich_text_list" => joined(&part["elements"], |item| format!("• {}", inline(item)), "\n"),
        _ => inline(part),
    };
    joined(&value["elements"], part, "\n").trim_end().to_owned()
}

fn inline(part: &Value) -> String {
    items(&part["elements"])
        .map(|element| match text_of(element, "type") {
            "link" if element.get("text").is_none() => text_of(element, "url").to_owned(),
            "user" => format!("<@{}>", text_of(element, "user_id")),
            "usergroup" => format!("<!subteam^{}>", text_of(element, "usergroup_id")),
            "channel" => format!("<#{}>", text_of(element, "channel_id")),
            "emoji" => format!(":{}:", text_of(element, "name")),
            "broadcast" => format!("<!{}>", text_of(element, "range")),
            "date" => text_of(element, "fallback").to_owned(),
            _ => text_of(element, "text").to_owned(),
        })
        .collect()
}

fn collect_buttons(value: &Value, block_id: &str, buttons: &mut Vec<ButtonView>) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| collect_buttons(item, block_id, buttons)),
        Value::Object(_) if text_of(value, "type") == "button" => buttons.push(ButtonView {
            label: text_of(&value["text"], "text").to_owned(),
            action_id: text_of(value, "action_id").to_owned(),
            block_id: block_id.to_owned(),
            value: value["value"].as_str().map(str::to_owned),
            style: value["style"].as_str().map(str::to_owned),
        }),
        Value::Object(fields) => fields.values().for_each(|field| collect_buttons(field, block_id, buttons)),
        _ => {}
    }
}
