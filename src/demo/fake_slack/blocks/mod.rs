//! Block Kit as Slack enforces it: every message is checked here before it is accepted.
//! Only checking lives here, no storing and no showing. Limits are those of docs.slack.dev/reference/block-kit.

mod elements;
mod tables;

use std::collections::HashSet;

use serde_json::Value;

/// Blocks in one message.
const BLOCKS: usize = 50;
/// Characters of all `markdown` blocks of one message together.
const MARKDOWN_CHARS: usize = 12_000;
/// Characters of one message over all its blocks. Slack does not document it and refuses somewhere
/// above 13 000 with `msg_blocks_too_long`, counting something for every block as well.
pub const MESSAGE_CHARS: usize = 13_000;
/// What a block itself counts towards [`MESSAGE_CHARS`].
const CHARS_OF_A_BLOCK: usize = 10;
/// Longest `block_id` and `action_id`.
const ID_CHARS: usize = 255;
/// Longest text object where nothing smaller is said.
const TEXT_CHARS: usize = 3_000;

/// Why a message is not accepted: Slack's error code, and one line for each fault found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub error: String,
    pub messages: Vec<String>,
}

impl Refusal {
    /// A refusal that needs no further explanation.
    pub fn new(error: &str) -> Refusal {
        Refusal { error: error.to_owned(), messages: Vec::new() }
    }
}

/// Checks the `blocks` of a message.
///
/// # Errors
/// The refusal that Slack answers with: `invalid_blocks_format`, `invalid_blocks`, `only_one_table_allowed`
/// or `msg_blocks_too_long`.
pub fn check(blocks: &Value) -> Result<(), Refusal> {
    let Some(list) = blocks.as_array() else { return Err(Refusal::new("invalid_blocks_format")) };
    let mut checker = Checker::default();
    if list.len() > BLOCKS {
        checker.errors.push(format!("no more than {BLOCKS} items allowed [json-pointer:/blocks]"));
    }
    for (index, value) in list.iter().enumerate() {
        checker.block(&Node { at: format!("/blocks/{index}"), value });
    }
    if checker.markdown_chars > MARKDOWN_CHARS {
        checker.errors.push(format!("markdown text must be less than {} characters", MARKDOWN_CHARS + 1));
    }
    if !checker.errors.is_empty() {
        return Err(Refusal { error: "invalid_blocks".into(), messages: checker.errors });
    }
    if checker.tables > 1 {
        return Err(Refusal::new("only_one_table_allowed"));
    }
    if list.len() * CHARS_OF_A_BLOCK + list.iter().map(chars).sum::<usize>() > MESSAGE_CHARS {
        return Err(Refusal::new("msg_blocks_too_long"));
    }
    Ok(())
}

/// Characters of every text in a block, at any depth.
fn chars(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(chars).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| match (key.as_str(), field) {
                ("text" | "url" | "alt_text" | "caption" | "fallback", Value::String(text)) => {
                    text.chars().count()
                }
                _ => chars(field),
            })
            .sum(),
        _ => 0,
    }
}

/// A value together with the JSON pointer that Slack names it by.
struct Node<'a> {
    at: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    fn get(&self, key: &str) -> Option<Node<'a>> {
        self.value.get(key).map(|value| Node { at: format!("{}/{key}", self.at), value })
    }

    fn kind(&self) -> &'a str {
        self.value.get("type").and_then(Value::as_str).unwrap_or("")
    }

    fn items(&self) -> Vec<Node<'a>> {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items
            .iter()
            .enumerate()
            .map(|(index, value)| Node { at: format!("{}/{index}", self.at), value })
            .collect()
    }
}

#[derive(Default)]
struct Checker {
    errors: Vec<String>,
    block_ids: HashSet<String>,
    action_ids: HashSet<String>,
    markdown_chars: usize,
    tables: usize,
    table_chars: usize,
}

impl Checker {
    fn fault(&mut self, node: &Node<'_>, what: &str) {
        self.errors.push(format!("{what} [json-pointer:{}]", node.at));
    }

    /// The object has all required keys and no unknown ones; `type` and `block_id` need not be listed.
    fn keys(&mut self, node: &Node<'_>, required: &[&str], optional: &[&str]) {
        let Some(fields) = node.value.as_object() else { return self.fault(node, "must be an object") };
        for key in required.iter().filter(|key| !fields.contains_key(**key)) {
            self.fault(node, &format!("missing required field: {key}"));
        }
        for key in fields.keys().map(String::as_str) {
            if key != "type" && !required.contains(&key) && !optional.contains(&key) {
                self.fault(node, &format!("invalid additional property: {key}"));
            }
        }
    }

    /// A string of 1 to `max` characters, if the key is present.
    fn string(&mut self, node: &Node<'_>, key: &str, max: usize) {
        let Some(child) = node.get(key) else { return };
        match child.value.as_str().map(|text| text.chars().count()) {
            None => self.fault(&child, "must be a string"),
            Some(0) => self.fault(&child, "must be more than 0 characters"),
            Some(length) if length > max => {
                self.fault(&child, &format!("must be less than {} characters", max + 1));
            }
            Some(_) => {}
        }
    }

    fn boolean(&mut self, node: &Node<'_>, key: &str) {
        if let Some(child) = node.get(key).filter(|child| !child.value.is_boolean()) {
            self.fault(&child, "must be a boolean");
        }
    }

    fn choice(&mut self, node: &Node<'_>, key: &str, allowed: &[&str]) {
        if let Some(child) = node.get(key)
            && !child.value.as_str().is_some_and(|value| allowed.contains(&value))
        {
            self.fault(&child, &format!("must be one of {}", allowed.join(", ")));
        }
    }

    fn integer(&mut self, node: &Node<'_>, key: &str, range: std::ops::RangeInclusive<u64>) {
        if let Some(child) = node.get(key)
            && !child.value.as_u64().is_some_and(|value| range.contains(&value))
        {
            self.fault(&child, &format!("must be from {} to {}", range.start(), range.end()));
        }
    }

    /// A list of 1 to `max` items under the key; empty when it is missing or no list.
    fn list<'a>(&mut self, node: &Node<'a>, key: &str, max: usize) -> Vec<Node<'a>> {
        let Some(child) = node.get(key) else { return Vec::new() };
        match child.value.as_array().map(Vec::len) {
            None => self.fault(&child, "must be an array"),
            Some(0) => self.fault(&child, "no less than 1 items allowed"),
            Some(length) if length > max => self.fault(&child, &format!("no more than {max} items allowed")),
            Some(_) => {}
        }
        child.items()
    }

    /// A text object; `mrkdwn` is refused where Slack takes plain text only.
    fn text_object(&mut self, node: &Node<'_>, allowed: &[&str], max: usize) {
        if !allowed.contains(&node.kind()) {
            return self.fault(node, &format!("unsupported type: {}", node.kind()));
        }
        let extra = if node.kind() == "mrkdwn" { "verbatim" } else { "emoji" };
        self.keys(node, &["text"], &[extra]);
        self.string(node, "text", max);
        self.boolean(node, extra);
    }

    fn plain(&mut self, node: &Node<'_>, key: &str, max: usize) {
        if let Some(child) = node.get(key) {
            self.text_object(&child, &["plain_text"], max);
        }
    }

    fn any_text(&mut self, node: &Node<'_>, key: &str, max: usize) {
        if let Some(child) = node.get(key) {
            self.text_object(&child, &["plain_text", "mrkdwn"], max);
        }
    }

    fn unique(&mut self, node: &Node<'_>, key: &str) {
        self.string(node, key, ID_CHARS);
        let Some(id) = node.get(key).and_then(|child| child.value.as_str()) else { return };
        let seen = if key == "block_id" { &mut self.block_ids } else { &mut self.action_ids };
        if !seen.insert(id.to_owned()) {
            self.fault(node, &format!("`{key}` {id} already exists"));
        }
    }

    fn block(&mut self, node: &Node<'_>) {
        self.unique(node, "block_id");
        match node.kind() {
            "section" => self.section(node),
            "header" => {
                self.keys(node, &["text"], &["block_id", "level"]);
                self.plain(node, "text", 150);
                self.integer(node, "level", 1..=4);
            }
            "divider" => self.keys(node, &[], &["block_id"]),
            "image" => self.image(node, &["block_id", "title"]),
            "context" => {
                self.keys(node, &["elements"], &["block_id"]);
                for element in self.list(node, "elements", 10) {
                    match element.kind() {
                        "image" => self.image(&element, &[]),
                        _ => self.text_object(&element, &["plain_text", "mrkdwn"], TEXT_CHARS),
                    }
                }
            }
            "actions" => {
                self.keys(node, &["elements"], &["block_id"]);
                for element in self.list(node, "elements", 25) {
                    self.element(&element, &["button", "static_select", "overflow"]);
                }
            }
            "markdown" => {
                self.keys(node, &["text"], &["block_id"]);
                self.string(node, "text", MARKDOWN_CHARS);
                self.markdown_chars += node.value["text"].as_str().map_or(0, |text| text.chars().count());
            }
            "rich_text" => self.rich_text(node),
            "table" => self.table(node),
            "data_table" => self.data_table(node),
            other => self.fault(node, &format!("unsupported type: {other}")),
        }
    }

    fn section(&mut self, node: &Node<'_>) {
        self.keys(node, &[], &["block_id", "text", "fields", "accessory", "expand"]);
        if node.get("text").is_none() && node.get("fields").is_none() {
            self.fault(node, "missing required field: text or fields");
        }
        self.any_text(node, "text", 3_000);
        self.boolean(node, "expand");
        for field in self.list(node, "fields", 10) {
            self.text_object(&field, &["plain_text", "mrkdwn"], 2_000);
        }
        if let Some(accessory) = node.get("accessory") {
            match accessory.kind() {
                "image" => self.image(&accessory, &[]),
                _ => self.element(&accessory, &["button", "static_select", "overflow"]),
            }
        }
    }

    fn image(&mut self, node: &Node<'_>, more: &[&str]) {
        let optional = [&["image_url", "slack_file"], more].concat();
        self.keys(node, &["alt_text"], &optional);
        if node.get("image_url").is_some() == node.get("slack_file").is_some() {
            self.fault(node, "exactly one of image_url and slack_file is required");
        }
        self.string(node, "alt_text", 2_000);
        self.string(node, "image_url", 3_000);
        self.plain(node, "title", 2_000);
    }
}
