//! The reference as the tables of docs/configuration.md, and as a JSON schema.

use super::{ConfigSection, DefaultValue, KeyType, SECTIONS};
use crate::clock::format_duration;
use serde_json::{Map, Value, json};

impl KeyType {
    /// Words for a reader of the documentation.
    fn describe(self) -> String {
        match self {
            KeyType::Text => "text".to_owned(),
            KeyType::Path => "path".to_owned(),
            KeyType::Boolean => "true or false".to_owned(),
            KeyType::Duration(longest) => format!("duration, at most {}", format_duration(longest)),
            KeyType::Pause(longest) => format!("duration, 0s to {}", format_duration(longest)),
            KeyType::Count(most) => format!("number, 1 to {most}"),
            KeyType::Choice(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            KeyType::Texts => "array of texts".to_owned(),
            KeyType::Secret => "secret".to_owned(),
            KeyType::Secrets => "array of secrets".to_owned(),
            KeyType::TextMap => "table of texts".to_owned(),
            KeyType::Variables => "table of texts or secrets".to_owned(),
            KeyType::Thresholds => "table of limits".to_owned(),
        }
    }

    fn schema(self) -> Value {
        let secret = || {
            json!({ "type": "object", "additionalProperties": false, "minProperties": 1, "properties": {
                "env": { "type": "string" }, "file": { "type": "string" }, "optional": { "type": "boolean" } } })
        };
        match self {
            KeyType::Text | KeyType::Path | KeyType::Duration(_) | KeyType::Pause(_) => {
                json!({ "type": "string" })
            }
            KeyType::Boolean => json!({ "type": "boolean" }),
            KeyType::Count(most) => json!({ "type": "integer", "minimum": 1, "maximum": most }),
            KeyType::Choice(words) => json!({ "type": "string", "enum": words }),
            KeyType::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            KeyType::Secret => secret(),
            KeyType::Secrets => json!({ "type": "array", "minItems": 1, "items": secret() }),
            KeyType::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            KeyType::Variables => {
                json!({ "type": "object", "additionalProperties": { "type": ["string", "object"] } })
            }
            KeyType::Thresholds => json!({ "type": "object", "additionalProperties": { "type": "object" } }),
        }
    }
}

impl DefaultValue {
    fn describe(self) -> String {
        match self {
            DefaultValue::None => String::new(),
            DefaultValue::Text(text) => format!("`{text}`"),
            DefaultValue::Time(time) => format!("`{}`", format_duration(time)),
            DefaultValue::Number(number) => format!("`{number}`"),
        }
    }
}

impl ConfigSection {
    /// "[[environments.servers]]".
    pub fn header(&self) -> String {
        if self.is_array { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }
}

/// The tables of docs/configuration.md.
pub fn markdown() -> String {
    let mut page = String::new();
    for section in SECTIONS {
        let title = if section.path.is_empty() {
            "The top of the file".to_owned()
        } else {
            format!("`{}`", section.header())
        };
        let required = if section.is_required { "" } else { " Optional." };
        page += &format!(
            "## {title}\n\n{}{required}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
            section.meaning
        );
        for key in section.keys {
            let default = if key.is_required { "required".to_owned() } else { key.default.describe() };
            page += &format!("| `{}` | {} | {default} | {} |\n", key.name, key.kind.describe(), key.meaning);
        }
        page.push('\n');
    }
    page
}

/// The JSON schema, for editors that check TOML.
pub fn schema() -> Value {
    let mut root = object("");
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Countersign's configuration");
    root
}

/// The schema of a section's table, with the sections below it.
fn object(path: &str) -> Value {
    let section = SECTIONS.iter().find(|section| section.path == path);
    let keys = section.map_or(&[][..], |section| section.keys);
    let mut properties = Map::new();
    let mut required: Vec<String> = Vec::new();
    for key in keys {
        let mut schema = key.kind.schema();
        schema["description"] = json!(key.meaning);
        properties.insert(key.name.to_owned(), schema);
        required.extend(key.is_required.then(|| key.name.to_owned()));
    }
    for name in names_below(path) {
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let section = SECTIONS.iter().find(|section| section.path == below);
        let is_required = SECTIONS.iter().any(|section| {
            section.is_required
                && (section.path == below
                    || section.path.starts_with(&format!("{below}."))
                        && section.path.starts_with("environments.logins"))
        });
        let schema = object(&below);
        let is_array = section.is_some_and(|section| section.is_array);
        properties.insert(
            name.to_owned(),
            if is_array { json!({ "type": "array", "items": schema }) } else { schema },
        );
        required.extend(is_required.then(|| name.to_owned()));
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required });
    if let Some(section) = section {
        schema["description"] = json!(section.meaning);
    }
    schema
}

/// The names of the tables directly below a section, each once.
fn names_below(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for section in SECTIONS.iter().filter(|section| !section.path.is_empty()) {
        let rest = if path.is_empty() {
            Some(section.path)
        } else {
            section.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split('.').next());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}
