//! A message as a user sees it, and the text and buttons on it.

use super::state::{ActivityRef, TeamsMessage};
use serde_json::Value;

/// A button on a card.
#[derive(Debug, Clone, PartialEq)]
pub struct CardButton {
    pub title: String,
    /// The action of the card.
    pub action: Value,
}

impl TeamsMessage {
    /// The message's place.
    pub fn at(&self) -> ActivityRef {
        ActivityRef { conversation: self.conversation.clone(), id: self.id.clone() }
    }

    /// The message as one user sees it: with the card that only this user sees, if there is one.
    pub(super) fn viewed_by(&self, name: &str) -> TeamsMessage {
        let mut viewed = self.clone();
        if let Some(view) = self.views.get(name) {
            viewed.cards = vec![view.clone()];
        }
        viewed
    }

    /// The text that a person reads: one line for each line shown, cells of tables joined by ` | `, buttons in square brackets.
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

    /// All buttons, in their order on the cards.
    pub fn buttons(&self) -> Vec<CardButton> {
        self.cards
            .iter()
            .flat_map(|card| [buttons_of(&card["body"]), buttons_of(&card["actions"])].concat())
            .collect()
    }

    /// The first button with that title.
    pub fn button(&self, title: &str) -> Option<CardButton> {
        self.buttons().into_iter().find(|button| button.title == title)
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn buttons_of(value: &Value) -> Vec<CardButton> {
    match value {
        Value::Array(items) => items.iter().flat_map(buttons_of).collect(),
        Value::Object(fields) => {
            let kind = value["type"].as_str().unwrap_or_default();
            if ["Action.Execute", "Action.Submit"].contains(&kind) {
                let title = value["title"].as_str().unwrap_or_default().to_owned();
                return vec![CardButton { title, action: value.clone() }];
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

/// The text of Markdown, without the marks for bold text and escapes, and with entities resolved.
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
