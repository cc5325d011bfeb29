//! Block Kit as Slack enforces it: every message is checked here before it is accepted. `block_kit.json` has each object's
//! fields and their limits, those of docs.slack.dev/reference/block-kit; the rules over several fields are below.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use super::api::ApiError;

/// Blocks in one message.
const BLOCKS: usize = 50;
/// Blocks in a modal.
const VIEW_BLOCKS: usize = 100;
/// Options of a select.
const OPTIONS: usize = 100;
/// Characters of all `markdown` blocks of one message together.
const MARKDOWN_CHARS: usize = 12_000;
/// Characters over all cells of a message, header included. Some libraries take twice that: the smaller counts.
const CELL_CHARS: usize = 10_000;
/// Characters of one message over all its blocks. Slack does not document it and refuses somewhere
/// above 13 000 with `msg_blocks_too_long`, counting something for every block as well.
const MESSAGE_CHARS: usize = 13_000;
/// Characters that a block itself counts towards [`MESSAGE_CHARS`].
const CHARS_OF_A_BLOCK: usize = 10;
/// Longest `block_id` and `action_id`.
const ID_CHARS: usize = 255;

// Without shapes every block would be refused.
static KIT: LazyLock<BlockKit> =
    LazyLock::new(|| serde_json::from_str(include_str!("block_kit.json")).unwrap_or_default());

/// The shapes of blocks by type, and those of the objects in them by type or, where they have none, by name.
#[derive(Default, Deserialize)]
struct BlockKit {
    blocks: BTreeMap<String, Shape>,
    objects: BTreeMap<String, Shape>,
}

/// The fields of one kind of object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[serde(default)]
    required: BTreeMap<String, Rule>,
    #[serde(default)]
    optional: BTreeMap<String, Rule>,
}

/// The values that a field takes. Lengths count characters; without a number there is no limit.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Any,
    Boolean,
    Number,
    /// Unique among the ids of its key in the message.
    Id,
    String(Option<usize>),
    Choice(Vec<String>),
    Integer(u64, u64),
    /// A `plain_text` object.
    Plain(usize),
    /// A `plain_text` or `mrkdwn` object.
    Text(usize),
    /// An `image`, or a text object.
    ImageOrText(usize),
    /// An object without a type, by the name of its shape.
    Object(String),
    /// The same, or null.
    Nullable(String),
    /// An object of one of the shapes, by its type.
    Typed(Vec<String>),
    /// At least one item, and at most so many.
    List(Option<usize>, Box<Rule>),
}

/// Checks the `blocks` of a message.
///
/// # Errors
/// The error that Slack answers with: `invalid_blocks_format`, `invalid_blocks`, `only_one_table_allowed`
/// or `msg_blocks_too_long`.
pub fn check(blocks: &Value) -> Result<(), ApiError> {
    let list = blocks.as_array().ok_or("invalid_blocks_format")?;
    let mut checker = Checker::default();
    if list.len() > BLOCKS {
        checker.errors.push(format!("no more than {BLOCKS} items allowed [json-pointer:/blocks]"));
    }
    for (index, value) in list.iter().enumerate() {
        let node = Node { at: format!("/blocks/{index}"), value };
        checker.object(&node, KIT.blocks.get(node.kind()));
    }
    if checker.markdown_chars > MARKDOWN_CHARS {
        checker.errors.push(format!("markdown text must be less than {} characters", MARKDOWN_CHARS + 1));
    }
    if !checker.errors.is_empty() {
        return Err(ApiError { messages: checker.errors, ..ApiError::from("invalid_blocks") });
    }
    if checker.tables > 1 {
        return Err("only_one_table_allowed".into());
    }
    if list.len() * CHARS_OF_A_BLOCK + list.iter().map(chars).sum::<usize>() > MESSAGE_CHARS {
        return Err("msg_blocks_too_long".into());
    }
    Ok(())
}

/// Checks the `blocks` of a modal, which takes no tables.
///
/// # Errors
/// `invalid_arguments`, with each fault.
pub(super) fn check_view(blocks: &Value) -> Result<(), ApiError> {
    let list = blocks.as_array().ok_or("invalid_arguments")?;
    let mut checker = Checker::default();
    if !(1..=VIEW_BLOCKS).contains(&list.len()) {
        checker.errors.push(format!("1 to {VIEW_BLOCKS} items allowed [json-pointer:/view/blocks]"));
    }
    for (index, value) in list.iter().enumerate() {
        let node = Node { at: format!("/view/blocks/{index}"), value };
        checker.object(&node, KIT.blocks.get(node.kind()).filter(|_| !node.kind().contains("table")));
    }
    checker.refusal()
}

/// Checks the `options` of an answer to a `block_suggestion`.
pub(super) fn check_options(options: &Value) -> Result<(), ApiError> {
    let list = options.as_array().ok_or("invalid_arguments")?;
    let mut checker = Checker::default();
    if list.len() > OPTIONS {
        checker.errors.push(format!("no more than {OPTIONS} items allowed [json-pointer:/options]"));
    }
    for (index, value) in list.iter().enumerate() {
        checker.object(&Node { at: format!("/options/{index}"), value }, KIT.objects.get("option"));
    }
    checker.refusal()
}

/// Characters of every text in a value, at any depth.
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
        self.value["type"].as_str().unwrap_or("")
    }

    fn items(&self) -> impl Iterator<Item = Node<'a>> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(index, value)| Node { at: format!("{}/{index}", self.at), value })
    }
}

#[derive(Default)]
struct Checker {
    errors: Vec<String>,
    /// Pairs of key and id.
    ids: HashSet<(&'static str, String)>,
    markdown_chars: usize,
    tables: usize,
    table_chars: usize,
}

impl Checker {
    fn refusal(self) -> Result<(), ApiError> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(ApiError { messages: self.errors, ..ApiError::from("invalid_arguments") })
    }

    fn fault(&mut self, node: &Node<'_>, fault: &str) {
        self.errors.push(format!("{fault} [json-pointer:{}]", node.at));
    }

    fn typed(&mut self, node: &Node<'_>, types: &[impl AsRef<str>]) {
        let kind = types.iter().map(AsRef::as_ref).find(|kind| *kind == node.kind());
        // Rich text is a block, and allowed in cells, too.
        self.object(node, kind.and_then(|kind| KIT.objects.get(kind).or_else(|| KIT.blocks.get(kind))));
    }

    /// The object has all required fields and no unknown ones, and each keeps its rule.
    fn object(&mut self, node: &Node<'_>, shape: Option<&Shape>) {
        let Some(Shape { required, optional }) = shape else {
            return self.fault(node, &format!("unsupported type: {}", node.kind()));
        };
        let Some(fields) = node.value.as_object() else { return self.fault(node, "must be an object") };
        for key in required.keys().filter(|key| !fields.contains_key(*key)) {
            self.fault(node, &format!("missing required field: {key}"));
        }
        for (key, value) in fields {
            match required.get(key).or_else(|| optional.get(key)) {
                Some(rule) => self.value(&Node { at: format!("{}/{key}", node.at), value }, rule),
                None if key == "type" => {}
                None => self.fault(node, &format!("invalid additional property: {key}")),
            }
        }
        for key in ["block_id", "action_id"] {
            if let Some(id) = node.value[key].as_str()
                && !self.ids.insert((key, id.to_owned()))
            {
                self.fault(node, &format!("`{key}` {id} already exists"));
            }
        }
        self.several_fields(node);
    }

    fn value(&mut self, node: &Node<'_>, rule: &Rule) {
        match rule {
            Rule::Any => {}
            Rule::Boolean if node.value.is_boolean() => {}
            Rule::Boolean => self.fault(node, "must be a boolean"),
            Rule::Number if node.value.is_number() => {}
            Rule::Number => self.fault(node, "must be a number"),
            Rule::Id => self.string(node, ID_CHARS),
            Rule::String(max) => self.string(node, max.unwrap_or(usize::MAX)),
            Rule::Choice(allowed) => {
                if !node.value.as_str().is_some_and(|value| allowed.iter().any(|one| one == value)) {
                    self.fault(node, &format!("must be one of {}", allowed.join(", ")));
                }
            }
            Rule::Integer(min, max) => {
                if !node.value.as_u64().is_some_and(|value| (*min..=*max).contains(&value)) {
                    self.fault(node, &format!("must be from {min} to {max}"));
                }
            }
            Rule::Plain(max) => self.text(node, &["plain_text"], *max),
            Rule::ImageOrText(_) if node.kind() == "image" => self.typed(node, &["image"]),
            Rule::Text(max) | Rule::ImageOrText(max) => self.text(node, &["plain_text", "mrkdwn"], *max),
            Rule::Nullable(_) if node.value.is_null() => {}
            Rule::Object(name) | Rule::Nullable(name) => self.object(node, KIT.objects.get(name)),
            Rule::Typed(names) => self.typed(node, names),
            Rule::List(max, rule) => {
                match (node.value.as_array().map(Vec::len), max) {
                    (None, _) => self.fault(node, "must be an array"),
                    (Some(0), _) => self.fault(node, "no less than 1 items allowed"),
                    (Some(length), Some(max)) if length > *max => {
                        self.fault(node, &format!("no more than {max} items allowed"));
                    }
                    _ => {}
                }
                for item in node.items() {
                    self.value(&item, rule);
                }
            }
        }
    }

    fn string(&mut self, node: &Node<'_>, max: usize) {
        match node.value.as_str().map(|text| text.chars().count()) {
            None => self.fault(node, "must be a string"),
            Some(0) => self.fault(node, "must be more than 0 characters"),
            Some(length) if length > max => {
                self.fault(node, &format!("must be less than {} characters", max + 1));
            }
            Some(_) => {}
        }
    }

    fn text(&mut self, node: &Node<'_>, names: &[&str], max: usize) {
        self.typed(node, names);
        if let Some(text) = node.get("text") {
            self.string(&text, max);
        }
    }

    fn several_fields(&mut self, node: &Node<'_>) {
        let has = |key: &str| node.value.get(key).is_some();
        match node.kind() {
            "section" if !has("text") && !has("fields") => {
                self.fault(node, "missing required field: text or fields");
            }
            "image" if has("image_url") == has("slack_file") => {
                self.fault(node, "exactly one of image_url and slack_file is required");
            }
            "static_select" | "external_select" => {
                let initial = node.get("initial_option");
                let options = node.value["options"].as_array();
                if let Some((initial, options)) = initial.zip(options)
                    && !options.contains(initial.value)
                {
                    self.fault(&initial, "is none of the options");
                }
            }
            "markdown" => self.markdown_chars += chars(node.value),
            "table" | "data_table" => self.table(node),
            _ => {}
        }
    }

    fn table(&mut self, node: &Node<'_>) {
        self.tables += 1;
        let Some(rows) = node.get("rows") else { return };
        let width = rows.value[0].as_array().map_or(0, Vec::len);
        for row in rows.items() {
            if row.value.as_array().is_some_and(|cells| !cells.is_empty() && cells.len() != width) {
                self.fault(&row, "rows must have the same number of cells");
            }
        }
        let header = rows.items().next();
        if node.kind() == "data_table"
            && let Some(cell) = header.and_then(|row| row.items().find(|cell| cell.kind() == "rich_text"))
        {
            self.fault(&cell, "the header row takes no rich_text");
        }
        self.table_chars += chars(rows.value);
        if self.table_chars > CELL_CHARS {
            self.fault(node, &format!("cell text must be less than {} characters in total", CELL_CHARS + 1));
        }
    }
}
