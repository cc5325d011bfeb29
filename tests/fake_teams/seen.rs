//! A message as a person sees it: the words and the buttons.

use super::people::{At, Message};
use serde_json::Value;

/// A button on a card.
#[derive(Debug, Clone, PartialEq)]
pub struct Button {
    pub title: String,
    /// As it stands in the card.
    pub action: Value,
}

impl Message {
    pub fn at(&self) -> At {
        At { conversation: self.conversation.clone(), id: self.id.clone() }
    }

    /// With the person's own view in place of the card.
    pub(super) fn as_seen_by(&self, name: &str) -> Message {
        let mut seen = self.clone();
        if let Some(view) = self.views.get(name) {
            seen.cards = vec![view.clone()];
        }
        seen
    }

    /// The text that a person reads: a line for each line shown, cells of tables joined by ` | `, buttons in square brackets.
    pub fn plain(&self) -> String {
        let mut lines = Vec::new();
        if !self.text.is_empty() {
            lines.push(shown(&self.text));
        }
        for card in &self.cards {
            walk(&card["body"], &mut lines);
            let titles = buttons_of(&card["actions"]).into_iter().map(|button| format!("[{}]", button.title));
            lines.extend(titles);
        }
        lines.join("\n")
    }

    /// All buttons, in the order in which they stand.
    pub fn buttons(&self) -> Vec<Button> {
        self.cards
            .iter()
            .flat_map(|card| [buttons_of(&card["body"]), buttons_of(&card["actions"])].concat())
            .collect()
    }

    /// The first button with that title.
    pub fn button(&self, title: &str) -> Option<Button> {
        self.buttons().into_iter().find(|button| button.title == title)
    }

    /// What a button's data says under that key: the token.
    pub fn token(&self, title: &str) -> String {
        let button = self.button(title).unwrap_or_else(|| panic!("no button {title} on:\n{}", self.plain()));
        let data = &button.action["data"];
        data["cs"].as_str().or(data["view"].as_str()).expect("a token").to_owned()
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn buttons_of(value: &Value) -> Vec<Button> {
    match value {
        Value::Array(items) => items.iter().flat_map(buttons_of).collect(),
        Value::Object(fields) => {
            let kind = value["type"].as_str().unwrap_or_default();
            if ["Action.Execute", "Action.Submit"].contains(&kind) {
                let title = value["title"].as_str().unwrap_or_default().to_owned();
                return vec![Button { title, action: value.clone() }];
            }
            fields.values().flat_map(buttons_of).collect()
        }
        _ => Vec::new(),
    }
}

fn walk(elements: &Value, lines: &mut Vec<String>) {
    for element in items(elements).filter(|element| element["isVisible"] != false) {
        match element["type"].as_str().unwrap_or_default() {
            "TextBlock" => lines.push(shown(text_of(element, "text"))),
            "RichTextBlock" => lines.push(inlines(element)),
            "FactSet" => {
                let fact = |fact: &Value| {
                    format!("{} {}", shown(text_of(fact, "title")), shown(text_of(fact, "value")))
                };
                lines.extend(items(&element["facts"]).map(fact));
            }
            "Table" => lines.extend(items(&element["rows"]).map(|row| beside(&row["cells"]))),
            "ColumnSet" => lines.push(beside(&element["columns"])),
            kind if kind.starts_with("Input.") => {
                lines.push(format!("{}: {}", text_of(element, "label"), text_of(element, "value")));
            }
            "ActionSet" => {
                let titles = buttons_of(&element["actions"]);
                lines.extend(titles.into_iter().map(|button| format!("[{}]", button.title)));
            }
            _ => walk(&element["items"], lines),
        }
    }
}

fn beside(parts: &Value) -> String {
    let part = |part: &Value| {
        let mut lines = Vec::new();
        walk(&part["items"], &mut lines);
        lines.join(" ")
    };
    items(parts).map(part).collect::<Vec<_>>().join(" | ")
}

fn inlines(element: &Value) -> String {
    items(&element["inlines"]).map(|run| run.as_str().unwrap_or_else(|| text_of(run, "text"))).collect()
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The words of Markdown: a backslash lets the next sign stand for itself, two stars are bold, entities are signs.
fn shown(text: &str) -> String {
    let mut out = String::new();
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        match (sign, signs.peek()) {
            ('\\', Some(next)) if next.is_ascii_punctuation() => out.extend(signs.next()),
            ('*', Some('*')) => drop(signs.next()),
            _ => out.push(sign),
        }
    }
    let out = out.replace("<at>", "@").replace("</at>", "");
    out.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", " ").replace("&amp;", "&")
}
